"""What is recorded already, for many questions at once.

A reply that is recorded needs no waiting for, so nothing is gained by going through the graph with one question after the other. Here
it is gone through once with many of them: all prompts of a node are made, then looked up, then read. A processor is quickest at what
it has just done, so this takes less than half as long.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from ..graph import Graph
from ..language import Language
from ..propagate import Trace
from ..tasks import Example
from .chat import LLM

FIRST = 4  # questions that are looked up to see whether they are recorded: what was never asked costs next to nothing here
AT_ONCE = 64  # questions from then on: many enough for one look-up to be quick, and few enough for nobody to wait for them


def recalled(
    graph: Graph, examples: Iterable[Example], lang: Language
) -> Iterator[tuple[Example, Trace | None]]:
    """Every example in turn, with the Trace that `propagate.forward` would make of it where that takes no call, else with None.

    A trace is counted in `lang.usage`. Where less than half of those at once are recorded no others are looked up.
    """
    waiting = iter(examples)
    at_once = FIRST if _as_usual(lang) else 0
    while batch := list(islice(waiting, at_once or 1)):
        traces = _traces(graph, batch, lang) if at_once else [None]
        at_once = AT_ONCE if 2 * sum(map(bool, traces)) >= len(batch) else 0
        yield from zip(batch, traces)


def _as_usual(lang: Language) -> bool:
    """Whether nobody put another way of answering in the place of ours."""
    ours = (lang, Language.forward), (lang.model, LLM.chat)
    return all(
        getattr(getattr(whose, method.__name__, None), "__func__", None) is method
        for whose, method in ours
    )


def _traces(graph: Graph, batch: list[Example], lang: Language) -> list[Trace | None]:
    """What is recorded of each, or None; node by node, each with all that is known for it."""
    known = {
        place: {} for place in range(len(batch))
    }  # {node: (reply, value)}, of those of which everything was recorded so far
    for name in graph.order:
        node = graph[name]
        asked = [
            (batch[place].question, {source: said[source][1] for source in node.inputs})
            for place, said in known.items()
        ]
        for place, said in zip(list(known), lang.recorded(node, asked)):
            if said:
                known[place][name] = said
            else:
                del known[place]
    for said in known.values():
        for reply, _ in said.values():
            lang.usage.add("forward", lang.model.model, reply)
    values = {
        place: {name: value for name, (_, value) in said.items()} for place, said in known.items()
    }
    return [
        Trace(graph, example.question, values[place]) if place in values else None
        for place, example in enumerate(batch)
    ]
