"""The clerk: a rule-based model that does arithmetic with the numbers in its prompt.

As a node it works out formulas. As a coach it says which of a node's inputs should have been
different, as far as the prompt shows; as an updater it corrects numbers. The worked
example of notebook 01 and `semback.studies.credit` use it: its replies show what can be concluded
from a prompt.
"""

import ast
import math
import operator
import re
from typing import Any, NamedTuple

from ..errors import ParameterError
from ..llm import LLM
from ..llm.simulated import Prompt, block, dice, scripted

NAME = "simulated-clerk"
STAY = "It should stay as it is."
DIFFERENT = "It should have been different; how, depends on what is not in sight."
# "should have been 12", "should have been updated, to **12**", but not "… shelf 3" or "… by 4"
_CORRECTION = re.compile(r"\bshould\b[^.\n]*?(?<!\w)(?<!shelf )(?<!by )(-?\d+)(?!\w|[.,]\d)")
_NUMBER = r"(?<![\w.])\d+(?![\w.]*\w)"  # on its own, not as in "shelf_3"
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def clerk(error: float = 0.0, prompts: list | None = None, **settings) -> LLM:
    """A rule-based model that does arithmetic; all it knows is the text of its prompt.

    As a node it works out a formula ("Work out: a + b"), repeats the paragraphs that the question
    names ("Repeat …"), looks a number up ("Look up: a"), or gives the number in its instruction.

    As a coach it judges every input of a formula:

    - An input that a list in the prompt contains ("price: 12") should have the value in the list.
    - Any other input should have the value with which the formula gives the right result, given the
      values that the other inputs should have, where a list has them, or else the values that they
      have. So it should stay if the other inputs explain the whole error.
    - If the prompt does not show all the other inputs, it should have changed by (right result -
      result) / slope, provided that the slope of the formula is the same whatever the others are,
      as in a sum. Otherwise the clerk can only say that it should have been different.

    As an updater it writes the number that the gradient names into the instruction. To a formula it
    adds what is missing, unless nothing is missing with the right inputs.

    Parameters
    ----------
    error : float
        Share of its judgements, from 0 to 1, that are reversed: an input that should change should
        stay, and the other way round.
    prompts : list, optional
        The messages of every request are appended to it.
    **settings
        The other parameters of `LLM`.

    Raises
    ------
    ParameterError
        For an error outside 0 to 1.
    """
    if not isinstance(error, int | float) or not 0 <= error <= 1:
        raise ParameterError(f"error is a share from 0 to 1, not {error}")

    def reply(messages: list[dict]) -> str:
        if prompts is not None:
            prompts.append(messages)
        prompt = Prompt.of(messages)
        if "<instruction>" in prompt.wording:
            return block("instruction", _update(prompt.data))
        if not prompt.targets:
            return _value(prompt)
        evidence = _evidence(prompt.data)
        return "\n".join(
            block("gradient", _gradient(to, evidence, dice(NAME, to, prompt.data) < error), to)
            for to in prompt.targets
        )

    return scripted(NAME, reply, **settings)


def corrections(gradient: str) -> list[int]:
    """The whole numbers that, according to a gradient, a value should have been."""
    return [int(number) for number in _CORRECTION.findall(gradient)]


class Evidence(NamedTuple):
    """What a prompt shows of one example at one node.

    Attributes
    ----------
    texts : dict
        {label: text} of the fenced blocks: question, "from …" for each input, output, gradient.
    shown : dict
        {input: its value}, of those whose values are numbers.
    listed : dict
        {name: number} of the lists in the question or in an input: lines like "price: 12".
    target : int, optional
        The number that the output should have been, if the gradient names one.
    """

    texts: dict[str, str]
    shown: dict[str, int]
    listed: dict[str, int]
    target: int | None


def _evidence(data: list[tuple[str, str]]) -> Evidence:
    texts, shown, lists = dict(data), {}, []
    for label, text in data:
        if label.startswith("from ") and _is_number(text):
            shown[label.removeprefix("from ")] = int(text)
        elif label.startswith("from ") or label == "question":
            lists += re.findall(r"^(\w+): (-?\d+)$", text, re.MULTILINE)
    numbers = corrections(texts.get("gradient", ""))
    target = next((n for n in numbers if str(n) != texts.get("output")), None)
    return Evidence(texts, shown, {name: int(number) for name, number in lists}, target)


def _value(prompt: Prompt) -> str:
    """The value of a node, by the words of its instruction."""
    evidence, instruction = _evidence(prompt.data), prompt.system
    if instruction.startswith("Repeat"):
        paragraphs, question = instruction.split("\n\n")[1:], evidence.texts["question"]
        return "\n\n".join(text for text in paragraphs if text.split("\n")[0] in question)
    if formula := _formula(instruction):
        if _names(formula) <= set(evidence.shown):
            return str(_result(formula, evidence.shown))
        return "I was not given all the numbers."
    if name := re.search(r"Look up: (\w+)", instruction):
        return str(evidence.listed.get(name[1], "It is not on the list."))
    number = re.search(_NUMBER, instruction)
    return number[0] if number else "I do not know."


def _gradient(to: str, evidence: Evidence, mistaken: bool) -> str:
    """What the value of the input `to` should have been, or, if mistaken, the reverse."""
    texts, value, target = evidence.texts, evidence.shown.get(to), evidence.target
    formula, output = _formula(texts["instruction"]), texts.get("output", "")
    if to not in _names(formula) or value is None or not _is_number(output):
        return STAY
    if target is None and DIFFERENT not in texts["gradient"]:
        return STAY
    right = evidence.listed.get(to)
    if right is None and target is not None:
        right = _solved(formula, to, evidence, target)
    if mistaken:
        other = None if target is None else value + target - int(output)
        right = other if right == value else value
    if right == value:
        return STAY
    return DIFFERENT if right is None else f"It should have been {right}."


def _solved(formula: str, to: str, evidence: Evidence, target: int) -> int | None:
    """The whole number `to` with which the formula gives the target; None if there is none."""
    value, others = evidence.shown[to], evidence.shown | evidence.listed
    unknown = _names(formula) - set(others)
    # The complex-step derivative, exact since a formula is linear in each of its inputs. With a
    # slope that depends on what is unknown it is not a number.
    pushed = others | dict.fromkeys(unknown, math.nan) | {to: value + 1j}
    slope = complex(_result(formula, pushed)).imag
    if slope == 0 or math.isnan(slope):
        return None
    # Where something is unknown, the others stay as they are.
    result = int(evidence.texts["output"]) if unknown else _result(formula, others | {to: value})
    change, rest = divmod(target - result, int(slope))
    return None if rest else value + change


def _update(data: list[tuple[str, str]]) -> str:
    """The instruction, corrected by the first example whose gradient names a number.

    An example whose result is right with the right inputs needs no correction.
    """
    (_, instruction), *rest = data
    formula = _formula(instruction)
    starts = [place for place, (label, _) in enumerate(rest) if label == "question"]
    for start, end in zip(starts, [*starts[1:], None]):
        evidence = _evidence(rest[start:end])
        right = evidence.shown | evidence.listed
        if evidence.target is None:
            continue
        if not formula:
            return re.sub(_NUMBER, str(evidence.target), instruction)
        if _names(formula) <= set(right) and _result(formula, right) != evidence.target:
            missing = evidence.target - _result(formula, right)
            return f"{instruction} {'+' if missing > 0 else '-'} {abs(missing)}"
    return instruction


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+", text))


def _formula(instruction: str) -> str:
    """The formula in an instruction: names, whole numbers, +, - and *; "" if there is none."""
    return "".join(re.findall(r"^Work out: (.+)$", instruction, re.MULTILINE)[:1])


def _names(formula: str) -> set[str]:
    return set(re.findall(r"[^\W\d]\w*", formula))


def _result(formula: str, values: dict[str, Any]) -> Any:
    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp):
            return _OPERATIONS[type(node.op)](value(node.left), value(node.right))
        return values[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)

    return value(ast.parse(formula, mode="eval").body)
