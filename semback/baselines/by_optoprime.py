"""OptoPrime, the optimiser of Trace: one call a step suggests all instructions, without gradients.

As in its documentation ("Batch Optimization"), the answers to a step's examples are joined into one
output, and the task's feedback on each into one feedback. There is no gate: what it suggests is the
graph from then on. (Its example for BBH takes the best of several graphs on validation questions.)

Every node of the graph is a bundle of its own, which returns the value from answering the question;
the node's form is in the bundle's description. The library requests a JSON object, and repeats the
request without it if that is refused. All fields of `params` are sent, but not its max_tokens.

A reply without a usable suggestion is a failed step. A suggestion that contains "def" is taken for
Python, and dropped if it is not: a failure of that node. "TERMINATE" means no change.
"""

import re
from collections.abc import Mapping
from typing import Any

from opto import optimizers, trace  # pyright: ignore[reportMissingImports]
from opto.utils.llm import AbstractModel  # pyright: ignore[reportMissingImports]

from .peer import Answer, Work

DOCUMENTATION = "A language model's reply to the question; the instruction is its system prompt."


def optimise(work: Work) -> None:
    """Take OptoPrime's steps."""
    # Feedback reaches the nodes of one level in this order, which is also that of the prompt. By
    # default they are ordered by their address in memory.
    trace.Node._itemize = lambda self: (-self.level, self.name, self)
    nodes = {
        node.name: trace.node(node.instruction, f"{_word(node.name)}_instruction", node.trainable)
        for node in work.graph
    }
    trained = {name: nodes[name] for name in work.instructions}
    coach = AbstractModel(lambda: lambda max_tokens, **fields: work.complete("update", **fields))
    optimizer = optimizers.OptoPrime(list(trained.values()), llm=coach)

    def propose(chosen: list[Answer]) -> tuple[dict[str, str], dict[str, str]]:
        trace.GRAPH.clear()  # nodes are numbered anew
        outputs = concat(*(_output(work, nodes, answer) for answer in chosen))
        optimizer.zero_feedback()
        optimizer.backward(outputs, concat(*(answer.feedback for answer in chosen)).data)
        lost = _step(optimizer, trained)
        return {name: node.data for name, node in trained.items()}, lost

    def reset(instructions: dict[str, str]) -> None:
        optimizer.update({node: instructions[name] for name, node in trained.items()})

    work.improve(propose, reset, gate=lambda before, after: True)


def _word(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name, flags=re.ASCII)


@trace.bundle()
def concat(*items) -> Any:
    """Concatenate the items into a single string"""
    return "".join(f"ID [{place}]: {item}\n" for place, item in enumerate(items))


def _output(work: Work, nodes: Mapping[str, Any], answer: Answer) -> Any:
    """The answer to an example, with the graph that leads to it."""
    question, replies = trace.node(answer.example.question, "question"), {}
    for node in (work.graph[name] for name in work.graph.order):
        bundle = _bundle(f"{_word(node.name)}_reply", node.form, answer.values[node.name])
        replies[node.name] = bundle(nodes[node.name], question, *map(replies.get, node.inputs))
    return replies[work.graph.answer]


def _bundle(name: str, form: str, value: str) -> Any:
    def reply(instruction, question, *replies):
        return value

    reply.__qualname__ = name  # what the prompt calls it
    return trace.bundle(f"[{name}] {DOCUMENTATION} {form}".strip())(reply)


def _step(optimizer: Any, trained: Mapping[str, Any]) -> dict[str, str]:
    """`optimizer.step()`. Returns {name: problem} for the suggestions that the library drops."""
    optimizer.log.clear()
    update = optimizer.propose()
    optimizer.update(update)
    if not optimizer.log:  # the reply was TERMINATE
        return {}
    reply = optimizer.log[0]["response"]
    if not update:
        raise ValueError(f"no suggestion that could be used: {reply[:200]!r}")
    texts = optimizer.extract_llm_suggestion(reply)
    lost = [name for name, node in trained.items() if node.py_name in texts and node not in update]
    return dict.fromkeys(lost, "the library took the suggestion for Python and dropped it")
