"""A clerk: a simulated model that reckons, and knows nothing but the text of the prompt that it is given.

As a node it works out formulas; as a coach it says which of a step's inputs should have been different, as far as what is in sight
allows to tell; as an updater it mends numbers. Worked examples and `credit` use it: what it says follows from what it was shown.
"""

import ast
import operator
import re
from fractions import Fraction
from functools import lru_cache

from ..errors import ParameterError
from ..llm.chat import LLM
from ..llm.simulated import dice, prompt_parts, scripted
from ..usage import SIMULATED

STAY, DIFFERENT = (
    "It should stay as it is.",
    "It should have been different; how, depends on what is not in sight.",
)
_NUMBER = r"(?<![\w.])\d+(?![\w.]*\w)"  # on its own, not as in "shelf_3"
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def clerk(
    error: float = 0.0, name: str = f"{SIMULATED}-clerk", asked: list | None = None, **settings
) -> LLM:
    """A simulated model that reckons. It knows nothing but the text of the prompt that it is given.

    Answering, it works out a formula ("Work out: a + b"), says the number that its instruction holds, repeats the paragraphs that
    the question names, or looks a number up. As a coach it names every input that nothing in sight clears:

    - An input whose name is in a list in sight ("price: 12") should have been what stands there.
    - Any other should have been what makes the step's formula give the right result, with the other inputs as they should be,
      or else as they are. So it is cleared where the others explain the whole error.
    - If too little is in sight for that, it should have changed by (right result - result) / slope, where the slope of the formula
      is the same whatever the rest may be, as in a sum. Where it is not, the clerk can only say "different".

    As an updater it puts the number that the gradient names into the instruction. To a formula it adds what is missing, unless nothing
    is, once the inputs are as they should be.

    Parameters
    ----------
    error: the share of its judgements, from 0 to 1, that it says the wrong way round: who should change should stay, and the reverse.
    name, settings: as of `simulated`.
    asked: a list to which the messages of every prompt are appended.
    """
    if not isinstance(error, int | float) or not 0 <= error <= 1:
        raise ParameterError(f"error is a share from 0 to 1, not {error}")

    async def says(messages, attempt):
        if asked is not None:
            asked.append(messages)
        system, fences, wanted = prompt_parts(messages)
        if targets := re.findall(r'^<gradient to="(.*)">$', wanted, re.MULTILINE):
            said = {to: _judge(to, fences, dice(name, to, fences) < error) for to in targets}
            return "\n".join(
                f'<gradient to="{to}">\n{text}\n</gradient>' for to, text in said.items()
            )
        return (
            f"<instruction>\n{_update(fences)}\n</instruction>"
            if "<instruction>" in wanted
            else _answer(system, fences)
        )

    return scripted(name, says, **settings)


def numbers_told(text: str) -> list[int]:
    """The numbers that a gradient says a value should have been."""
    return [
        int(number) for number in re.findall(r"should have been\W{1,4}?(-?\d+)(?![\d.,]*\d)", text)
    ]  # "12", ": 12", "**12**."


def _answer(system: str, fences) -> str:
    seen = _inputs(fences)
    if system.startswith("Repeat"):
        question = dict(fences)["question"]
        return "\n\n".join(
            part for part in system.split("\n\n")[1:] if part.split("\n")[0] in question
        )
    if formula := _formula(system):
        known = {name: int(text) for name, text in seen.items() if _is_number(text)}
        return (
            str(_work_out(formula, known))
            if _names(formula) <= set(known)
            else "I was not given all the numbers."
        )
    if wanted := re.search(r"Look up: (\w+)", system):
        return str(_listed(fences).get(wanted[1], "It is not on the list."))
    return next(iter(re.findall(_NUMBER, system)), "I do not know.")


def _judge(to: str, fences, mistaken: bool) -> str:
    """How the input `to` should have been, in the words of the gradient."""
    sight, seen, listed = dict(fences), _inputs(fences), _listed(fences)
    formula = _formula(sight["instruction"])
    if (
        not formula
        or to not in _names(formula)
        or not (_is_number(seen[to]) and _is_number(sight.get("output", "")))
    ):
        return STAY
    value, result, said = int(seen[to]), int(sight["output"]), sight["gradient"]
    told = next((number for number in numbers_told(said) if number != result), None)
    if told is None and DIFFERENT not in said:
        return STAY
    right = (
        listed[to]
        if to in listed
        else _solved(formula, to, value, result, told, _others(seen, listed, to))
    )
    conclusion = (
        DIFFERENT if right is None else STAY if right == value else f"It should have been {right}."
    )
    if not mistaken:
        return conclusion
    return (
        STAY
        if conclusion != STAY
        else DIFFERENT
        if told is None
        else f"It should have been {value + told - result}."
    )


def _solved(
    formula: str, to: str, value: int, result: int, told: int | None, others: dict[str, int]
) -> int | None:
    """The value of `to` with which the formula would have given what it was told; None where that is not known, or no whole number."""
    unknown = sorted(_names(formula) - {to, *others})
    if told is None:
        return None

    def slope(rest):
        return _work_out(formula, {**rest, to: value + 1}) - _work_out(formula, {**rest, to: value})

    if unknown:  # the others stay what they were, whatever that was: enough, if the slope is the same for any two guesses
        slopes = {
            slope(others | {name: 1 + guess * (place + 2) for place, name in enumerate(unknown)})
            for guess in (0, 1, 2)
        }
    else:
        slopes, result = {slope(others)}, _work_out(formula, {**others, to: value})
    if len(slopes) > 1 or 0 in slopes:
        return None
    right = value + Fraction(told - result, slopes.pop())
    return int(right) if right.denominator == 1 else None


def _update(fences) -> str:
    """The instruction, mended by the first case whose gradient names a number, unless right inputs alone would mend that case."""
    (_, instruction), *rest = fences
    formula, starts = (
        _formula(instruction),
        [place for place, (label, _) in enumerate(rest) if label == "question"],
    )
    for start, end in zip(starts, [*starts[1:], len(rest)]):
        case = rest[start:end]
        sight, known = dict(case), _others(_inputs(case), _listed(case))
        told = next(
            (
                number
                for number in numbers_told(sight["gradient"])
                if str(number) != sight["output"]
            ),
            None,
        )
        if (
            told is None
            or formula
            and (not _names(formula) <= set(known) or _work_out(formula, known) == told)
        ):
            continue
        if formula:
            more = told - _work_out(formula, known)
            return f"{instruction} {'+' if more > 0 else '-'} {abs(more)}"
        return re.sub(_NUMBER, str(told), instruction)
    return instruction


def _inputs(fences) -> dict[str, str]:
    return {
        label.removeprefix("from "): text for label, text in fences if label.startswith("from ")
    }


def _listed(fences) -> dict[str, int]:
    """What stands in the lists that are in sight, in the question or in an input: lines like "price: 12"."""
    texts = [text for label, text in fences if label == "question" or label.startswith("from ")]
    return {
        name: int(number)
        for text in texts
        for name, number in re.findall(r"^(\w+): (-?\d+)$", text, re.MULTILINE)
    }


def _others(seen: dict[str, str], listed: dict[str, int], to: str | None = None) -> dict[str, int]:
    """The values that the inputs, other than `to`, should have, where a list tells, or else have, where they are in sight."""
    known = {name: int(text) for name, text in seen.items() if _is_number(text)} | listed
    return {name: number for name, number in known.items() if name != to}


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+", text))


def _formula(instruction: str) -> str | None:
    found = re.search(r"^Work out: (.+)$", instruction, re.MULTILINE)
    return found and found[1]


def _names(formula: str) -> set[str]:
    return {node.id for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name)}


def _work_out(formula: str, values: dict[str, int]) -> int:
    def value(node):
        if isinstance(node, ast.BinOp):
            return _OPERATIONS[type(node.op)](value(node.left), value(node.right))
        return values[node.id] if isinstance(node, ast.Name) else node.value

    return value(_parsed(formula).body)


@lru_cache(512)
def _parsed(formula: str) -> ast.Expression:
    return ast.parse(formula, mode="eval")
