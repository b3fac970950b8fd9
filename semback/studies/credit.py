"""Credit assignment, measured: how often backpropagation finds a planted fault, and it alone.

In a warehouse the boxes on shelves are counted and halls add up the counts. One count, a number in
one node's instruction, is wrong. A stock list has the right number for each shelf; it is the value
of one more input of every adding node. If a call judges all inputs of a node together, it can check
each against the list; if it judges one input alone, it cannot. (At depth 1 its prompts are
identical whichever input is faulty, so no model can do better than chance.) As a control, the list
can stand in the question, which every prompt shows; then both methods have what they need.

Any model can be the coach; without one it is the clerk, a rule-based model. With the clerk the
study shows what each form of backpropagation loses because of what its prompts do not contain, and
what becomes of a coach's errors on their way through the graph. It does not show how well real
models add, compare and follow instructions: for that, pass a real coach.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import product
from statistics import mean
from typing import NamedTuple

import pandas

from ..errors import ParameterError, check, known
from ..graph import Graph, Node
from ..language import ChatModel, Language
from ..propagate import Trace, backward, together
from ..run import wilson
from ..task import Example, expected_answer
from ..usage import SIMULATED
from .clerk import clerk, corrections

METHODS = {  # {name: (whether a node's inputs are judged together, where the stock list stands)}
    "all inputs together": (True, "input"),
    "each input alone (TextGrad form)": (False, "input"),
    "each input alone, the list in the question": (False, "question"),
}
SIZES = ((1, 3), (2, 3), (3, 3), (4, 3), (6, 3), (1, 1), (1, 2), (1, 4), (1, 8))  # depth, width
FORM = "Only a number."
QUESTION = """How many boxes are in the warehouse? Every shelf is counted by one step, and every \
hall adds up what was counted in it. The stock list is right; a count may be wrong.
Every step replies with a number alone. How a number should have been different is said in one \
of these two ways:
It should have been N.
It should stay as it is."""


class Planted(NamedTuple):
    """A graph with one fault.

    Attributes
    ----------
    example : Example
        Its question and the right answer.
    faulty : str
        The node whose instruction has a wrong number.
    right : dict
        {node: the number that its value should be}, without the stock list.
    trace : Trace
        What `forward` computes on the graph with a model that does not err.
    """

    example: Example
    faulty: str
    right: dict[str, int]
    trace: Trace


def plant(
    depth: int, width: int, number: int = 0, listed: str = "input", faulty: int | None = None
) -> Planted:
    """A graph of levels, in each of which one node leads on to the next; the fault is in the last.

    Parameters
    ----------
    depth : int
        Edges from the faulty node to the answer, from 1.
    width : int
        Inputs of each adding node, from 1, without the stock list.
    number : int
        Seed of counts, names and places.
    listed : {"input", "question"}
        Where the stock list stands.
    faulty : int, optional
        Which shelf of the last level is faulty, from 0; by default `number` decides. The counts do
        not depend on it.

    Raises
    ------
    ParameterError
        For an argument outside these ranges.
    """
    check(int, "a whole number", depth=depth, width=width, number=number)
    known("listed", listed, ("input", "question"))
    if depth < 1 or width < 1:
        raise ParameterError(f"plant takes a depth and a width from 1, not {depth} and {width}")
    chance = random.Random(f"{depth} {width} {number}")
    labels = chance.sample(range(1, depth * width + 1), depth * (width - 1) + 1)
    sizes = [width - 1] * (depth - 1) + [width]  # in the last level no hall is among the inputs
    levels = [[f"shelf_{labels.pop()}" for _ in range(size)] for size in sizes]
    counts = {shelf: chance.randint(10, 99) for level in levels for shelf in level}
    missing, place = chance.randint(1, 9), chance.randrange(width)
    wrong = levels[-1][place if faulty is None else faulty]
    right = counts | {wrong: counts[wrong] + missing}
    stock_list = "\n".join(["stock list", *(f"{shelf}: {right[shelf]}" for shelf in sorted(right))])

    given = ("stock_list",) if listed == "input" else ()
    question = QUESTION if given else f"{QUESTION}\n\n{stock_list}"
    nodes = [Node(name, f"Repeat this.\n\n{stock_list}", trainable=False) for name in given]
    for shelf, count in counts.items():
        nodes.append(Node(shelf, f"There are {count} boxes on {shelf}. Say how many.", form=FORM))
    values, inner = dict(counts), []
    for level in reversed(range(depth)):
        hall = f"hall_{level}" if level else "answer"
        inputs = chance.sample([*levels[level], *inner], width)
        nodes.append(Node(hall, f"Work out: {' + '.join(inputs)}", (*given, *inputs), form=FORM))
        right[hall] = sum(right[name] for name in inputs)
        values[hall] = sum(values[name] for name in inputs)
        inner = [hall]

    graph = Graph(tuple(nodes), "answer")
    texts = {name: str(value) for name, value in values.items()} | dict.fromkeys(given, stock_list)
    example = Example(f"credit/{depth}-{width}-{number}", question, str(right["answer"]))
    return Planted(example, wrong, right, Trace(graph, question, texts))


async def credit(
    coach: ChatModel | None = None,
    sizes: Iterable[Sequence[int]] = SIZES,
    faults: int = 30,
    error: float = 0.1,
    methods: Sequence[str] = tuple(METHODS),
) -> pandas.DataFrame:
    """Plant faults, backpropagate the right answer, and see which nodes should change.

    Parameters
    ----------
    coach : ChatModel, optional
        The model to measure; by default the clerk. It gets backward calls only: the forward pass is
        planted.
    sizes : iterable of (depth, width)
    faults : int
        Graphs of each size.
    error : float
        The clerk's share of reversed judgements.
    methods : sequence of str
        Of `METHODS`.

    Returns
    -------
    DataFrame
        One row for each size and method, with

        found : float
            Share of faults whose node gets the right number.
        blamed : float
            Share of innocent nodes (trainable, with the right value) that get another number.
        only : float
            Share of faults whose node gets the right number while no innocent node is blamed.
        unclear : int
            Nodes, of all faults together, without a gradient, or with one that neither names a
            number nor says that the value should stay.
        calls : float
            Calls of the coach per fault.
        found_low, found_high, … : float
            95 % Wilson intervals over faults. For `blamed` too: the nodes of one graph are not
            independent, so they count as one, and the sum of their shares is rounded.

    Raises
    ------
    ParameterError
        For no faults, or sizes or methods that do not exist.
    """
    check(int, "a whole number", faults=faults)
    if faults < 1:
        raise ParameterError(f"faults is {faults}; it takes a whole number from 1")
    for method in methods:
        known("methods", method, list(METHODS))
    model, rows = coach or clerk(error), []
    for (depth, width), method in product(sizes, methods):
        neighbourhood, listed = METHODS[method]
        lang = Language(model, model, neighbourhood=neighbourhood)
        outcomes = await together(
            _outcome(plant(depth, width, number, listed), lang) for number in range(faults)
        )
        row = {"depth": depth, "width": width, "method": method, "faults": faults}
        for measure in ("found", "blamed", "only"):
            interval = _interval([outcome[measure] for outcome in outcomes])
            row[measure], row[f"{measure}_low"], row[f"{measure}_high"] = interval
        row["unclear"] = sum(outcome["unclear"] for outcome in outcomes)
        row["calls"] = sum(count.calls for count in lang.usage.counts.values()) / faults
        row |= {"coach": model.model, "simulated": model.model.startswith(SIMULATED)}
        rows.append(row | {"interval": "Wilson over faults"})
    return pandas.DataFrame(rows)


async def _outcome(planted: Planted, lang: Language) -> dict:
    """What one fault adds to each measure of `credit`."""
    gradients = await backward(planted.trace, expected_answer(planted.example), lang)
    others, unclear = {}, 0  # {node: the other numbers that its gradient names}
    for name in planted.right:
        gradient, value = gradients.get(name, ""), planted.trace.values[name]
        numbers = corrections(gradient)
        others[name] = [number for number in numbers if str(number) != value]
        unclear += not numbers and "stay as it is" not in gradient
    found = planted.right[planted.faulty] in others[planted.faulty]
    innocent = [name for name in others if planted.trace.values[name] == str(planted.right[name])]
    share = mean(bool(others[name]) for name in innocent) if innocent else None
    return {"found": found, "blamed": share, "only": found and not share, "unclear": unclear}


def _interval(shares: list) -> tuple:
    """(mean, low, high): 95 % Wilson interval over faults; None where no node is innocent."""
    if None in shares:  # either all graphs of one size have innocent nodes, or none has
        return None, None, None
    return mean(shares), *wilson(round(sum(shares)), len(shares))
