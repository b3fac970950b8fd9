"""Credit assignment, measured: graphs with one planted fault, and how often backpropagation names it, and nobody else.

In a warehouse shelves are counted and halls add up what was counted in them; one count, a number in one node's instruction, is wrong.
A stock list says what is on each shelf. It is the value of one more input of every adding node; so who judges all inputs of a node
together can check each against it, and who judges one alone cannot. (At depth 1 its prompts are the same to the letter whichever of
the inputs is at fault: no model, however good, can do better than chance there.) As a control the list can stand in the question,
which every prompt shows; then both methods have what they need. Any model can be the coach; without one it is a `clerk`.

What it shows of a clerk: what each form of backpropagation loses because of what its prompts do not say, and what becomes of a
coach's errors on the way. What it does not show: how well real models add, compare and obey. For that, give it a real coach.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean

from ..errors import ParameterError, check
from ..graph import Graph, Node
from ..language import Language
from ..llm.chat import LLM
from ..propagate import Gradients, Trace, backward, together
from ..report.statistics import wilson
from ..tasks import Example, expected_answer
from ..usage import SIMULATED
from .clerk import clerk, numbers_told

METHODS = {  # name: whether a node judges its inputs together, where the stock list stands
    "all inputs together": (True, "input"),
    "each input alone (TextGrad form)": (False, "input"),
    "each input alone, the list in the question": (False, "question"),
}
SIZES = ((1, 3), (2, 3), (3, 3), (4, 3), (6, 3), (1, 1), (1, 2), (1, 4), (1, 8))  # depth, width
QUESTION = """How many boxes are in the warehouse? Every shelf is counted by one step, and every hall adds up what was counted in it. \
The stock list is right; a count may be wrong.
Every step replies with a number alone. How a number should have been different is said in one of these two ways:
It should have been N.
It should stay as it is."""


@dataclass(frozen=True)
class Planted:
    """A graph with one fault. example: its question and right answer. faulty: the node whose instruction holds a wrong number.
    right: {node: the number that its value should be}, without the stock list. trace: what `forward` with a clerk computes."""

    graph: Graph
    example: Example
    faulty: str
    right: dict[str, int]
    trace: Trace


def plant(
    depth: int, width: int, number: int = 0, listed: str = "input", faulty: int | None = None
) -> Planted:
    """A graph of `depth` levels of `width` inputs each, one of which leads on to the next level; the fault is on the last.

    Parameters
    ----------
    depth: the number of edges from the faulty node to the answer, from 1.
    width: the number of inputs of each adding node, from 1, not counting the stock list.
    number: another number is another graph of this size: other counts, names and places.
    listed: where the stock list stands, "input" or "question".
    faulty: which shelf of the last level is at fault, from 0; without it, chosen by `number`. The counts do not depend on it.
    """
    check(int, "a whole number", depth=depth, width=width, number=number)
    if (
        depth < 1
        or width < 1
        or listed not in ("input", "question")
        or faulty not in (None, *range(width))
    ):
        raise ParameterError(
            'plant takes a depth and a width from 1, listed="input" or "question", and a faulty shelf below the '
            f"width; not {depth}, {width}, {listed!r} and {faulty}"
        )
    chance = random.Random(f"{depth} {width} {number}")
    labels = chance.sample(range(1, depth * width + 1), depth * (width - 1) + 1)
    levels = [
        [f"shelf_{labels.pop()}" for _ in range(width - (level < depth))]
        for level in range(1, depth + 1)
    ]
    counts = {shelf: chance.randint(10, 99) for level in levels for shelf in level}
    missing, place = chance.randint(1, 9), chance.randrange(width)
    wrong = levels[-1][place if faulty is None else faulty]
    right = counts | {wrong: counts[wrong] + missing}
    lines = "\n".join(["stock list", *(f"{shelf}: {right[shelf]}" for shelf in sorted(right))])
    nodes = (
        [Node("stock_list", f"Repeat this.\n\n{lines}", trainable=False)]
        if listed == "input"
        else []
    )
    given = tuple(node.name for node in nodes)
    nodes += [
        Node(shelf, f"There are {count} boxes on {shelf}. Say how many.", form="Only a number.")
        for shelf, count in counts.items()
    ]
    halls = ["answer", *(f"hall_{level}" for level in range(1, depth))]
    for level in reversed(range(depth)):
        inner = halls[level + 1 : level + 2]
        inputs = chance.sample([*levels[level], *inner], width)
        nodes.append(
            Node(
                halls[level],
                f"Work out: {' + '.join(inputs)}",
                (*given, *inputs),
                form="Only a number.",
            )
        )
        right[halls[level]] = sum(right[name] for name in inputs)
    question = QUESTION if listed == "input" else f"{QUESTION}\n\n{lines}"
    example = Example(f"credit/{depth}-{width}-{number}", question, str(right["answer"]))
    said = {
        name: str(n - missing * (name in (wrong, *halls))) for name, n in right.items()
    } | dict.fromkeys(given, lines)
    graph = Graph(tuple(nodes), "answer")
    return Planted(graph, example, wrong, right, Trace(graph, question, said))


async def credit(
    coach: LLM | None = None,
    sizes: Iterable[tuple[int, int]] = SIZES,
    faults: int = 30,
    error: float = 0.1,
    methods: Iterable[str] = METHODS,
):
    """Plant faults, backpropagate the right answer, and see who was told what.

    Parameters
    ----------
    coach: the model to measure; without it a clerk. It is asked to go backward only: the forward pass is planted.
    sizes: pairs of depth and width.
    faults: graphs of each size.
    error: of the clerk; see there.
    methods: of `METHODS`.

    Returns a DataFrame, one row for each size and method. found: the share of faults whose node was told the right number. blamed:
    the share of innocent nodes (trained, and with the right value) that were told another number. only: the share of faults
    where the faulty node was told the right number and no innocent node another one. unclear: how many nodes, of all faults together,
    have a gradient that says neither another number nor that they should stay, or have none. calls: of the coach, for each fault.
    found_low and so on are 95 % Wilson intervals over faults; for `blamed` too, since the nodes of one graph are not independent: all
    of them count as one, and the sum of their shares is rounded. found_expected and so on are what the theory says of a clerk
    (`expected`); None for another coach.

    Errors
    ------
    ParameterError: no fault, or sizes or methods that there are not. Those of the model, as everywhere.
    """
    import pandas

    check(int, "a whole number", faults=faults)
    check(Iterable, "several, as in [(1, 3)] and list(METHODS)", sizes=sizes, methods=methods)
    methods, sizes = list(methods), list(sizes)
    if not all(
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(type(n) is int and n > 0 for n in size)
        for size in sizes
    ):
        raise ParameterError(
            f"sizes are pairs of a depth and a width, whole numbers from 1; not {sizes}"
        )
    if faults < 1 or any(method not in list(METHODS) for method in methods):
        raise ParameterError(
            f"credit takes one fault or more, and methods out of {list(METHODS)}; not {faults} and {methods}"
        )
    scripted, coach, rows = coach is None, coach or clerk(error), []
    for depth, width in sizes:
        for method in methods:
            neighbourhood, listed = METHODS[method]
            lang = Language(coach, coach, neighbourhood=neighbourhood)
            told = await together(
                _told(plant(depth, width, number, listed), lang) for number in range(faults)
            )
            row = {"depth": depth, "width": width, "method": method, "faults": faults}
            theory = (
                expected(depth, width, error, neighbourhood or listed == "question")
                if scripted
                else {}
            )
            for measure in ("found", "blamed", "only"):
                shares = [each[measure] for each in told if each[measure] is not None]
                low_high = wilson(round(sum(shares)), len(shares)) if shares else (None, None)
                row |= {
                    measure: mean(shares) if shares else None,
                    **dict(zip((f"{measure}_low", f"{measure}_high"), low_high)),
                    f"{measure}_expected": theory.get(measure),
                }
            calls = sum(
                count.calls
                for (phase, _), count in lang.usage.counts.items()
                if phase == "backward"
            )
            rows.append(
                {
                    **row,
                    "unclear": sum(each["unclear"] for each in told),
                    "calls": calls / faults,
                    "coach": coach.model,
                    "simulated": coach.model.startswith(SIMULATED),
                    "interval": "Wilson over faults",
                }
            )
    return pandas.DataFrame(rows)


async def _told(planted: Planted, lang: Language) -> dict:
    """One fault's part in each measure of `credit`."""
    trace, right = planted.trace, planted.right
    gradients = await backward(trace, expected_answer(planted.example), lang)
    named = {name: _named(gradients, name) for name in right}
    innocent = [name for name in right if trace.values[name] == str(right[name])]
    blamed, found = (
        [name for name in innocent if named[name]],
        right[planted.faulty] in named[planted.faulty],
    )
    unclear = [
        name for name in right if not named[name] and "stay as it is" not in gradients.get(name, "")
    ]
    return {
        "found": found,
        "blamed": len(blamed) / len(innocent) if innocent else None,
        "only": found and not blamed,
        "unclear": len(unclear),
    }


def _named(gradients: Gradients, name: str) -> set[int]:
    """The numbers, other than its value, that a node was told it should have been."""
    return {
        number
        for number in numbers_told(gradients.get(name, ""))
        if str(number) != gradients.trace.values[name]
    }


def expected(depth: int, width: int, error: float, clear: bool) -> dict:
    """What `credit` measures of a clerk, in theory.

    A chain of `depth` judgements leads to the faulty node, each right with probability 1 - error, independently: found = (1 - error)^depth.
    The width - 1 innocent nodes of a level are judged if the chain held so far, and told to change with probability b.

    Parameters
    ----------
    clear: whether the prompts hold what clears the innocent: then b = error, else b = 1 - error.
    """
    right, b = 1 - error, error if clear else 1 - error
    blamed = b * mean(right**level for level in range(depth)) if width > 1 else None
    return {
        "found": right**depth,
        "blamed": blamed,
        "only": (right * (1 - b) ** (width - 1)) ** depth,
    }
