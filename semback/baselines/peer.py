"""The library side: `python -m semback.baselines.peer METHOD`, in its own environment.

`baselines.optimise` starts it and talks to it in lines of JSON, on standard input and output. An
adapter is a module of the method's name with a function `optimise(work)`.
"""

import importlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from types import MappingProxyType
from typing import IO, Any

from openai import OpenAI
from openai.types.chat import ChatCompletion

from ..graph import Graph
from ..task import Example


@dataclass(frozen=True)
class Answer:
    """How one training example went.

    Parameters
    ----------
    example : Example
    values : dict of str to str
        The value of every node, by name.
    score : float
        The answer's score, from 0 to 1.
    feedback : str
        What the answer should have been: `Task.feedback`.
    """

    example: Example
    values: dict[str, str]
    score: float
    feedback: str


@dataclass(frozen=True)
class Work:
    """What an adapter works with.

    Parameters
    ----------
    graph : Graph
        With the start instructions.
    train : tuple of Example
    steps, errors, seed : int
        As in `descend`: updates to try, examples per step, and the seed of all random choices.
    model : str
        The coach's name.
    params : dict
        Fields of the coach's requests, such as temperature.
    url : str
        Of the proxy; see `base_url`.
    pipe : (text file, text file)
        From and to the semback side.
    """

    graph: Graph
    train: tuple[Example, ...]
    steps: int
    errors: int
    seed: int
    model: str
    params: dict[str, Any]
    url: str
    pipe: tuple[IO[str], IO[str]]

    @property
    def instructions(self) -> dict[str, str]:
        """The start instructions of the trainable nodes, by name."""
        return {node.name: node.instruction for node in self.graph if node.trainable}

    def base_url(self, phase: str) -> str:
        """The coach's endpoint for a phase ("backward", "update"…), by which calls are counted."""
        return f"{self.url}/s/{phase}/v1"

    @cached_property
    def _client(self) -> OpenAI:
        return OpenAI(base_url=self.url, timeout=None)  # the proxy has a time limit

    def complete(self, phase: str, **fields: Any) -> ChatCompletion:
        """The coach's completion of messages and other fields; `params` override the latter."""
        client = self._client.with_options(base_url=self.base_url(phase))
        fields |= {"model": self.model, "extra_body": self.params}
        return client.chat.completions.create(**fields)

    def answer(
        self, instructions: Mapping[str, str], examples: Iterable[Example] = ()
    ) -> list[Answer]:
        """Answer training examples, by default all, with these instructions.

        Raises
        ------
        ValueError
            The graph cannot work with them, for example because one is empty.
        """
        ids = [example.id for example in examples] or None
        by_id = {example.id: example for example in self.train}
        return [
            Answer(by_id[each["id"]], each["values"], float(each["correct"]), each["feedback"])
            for each in self._ask("answer", dict(instructions), ids)
        ]

    def improve(
        self,
        propose: Callable[[list[Answer]], tuple[dict[str, str], dict[str, str]]],
        reset: Callable[[dict[str, str]], object],
        gate: Callable[[float, float], bool],
    ) -> None:
        """Take all steps: draw wrong answers, propose instructions, answer with them, and report.

        Parameters
        ----------
        propose : callable
            From the drawn answers to (new instructions, {node: problem} for those that the library
            lost). If it raises, the step has failed.
        reset : callable
            Gives the library the instructions to continue with.
        gate : callable
            (score before, score of the new instructions) -> whether to accept them.
        """
        now, random_ = self.instructions, random.Random(self.seed)
        answers = self.answer(now)
        for _ in range(self.steps):
            wrong = [answer for answer in answers if answer.score < 1]
            if not wrong:
                return
            chosen = random_.sample(wrong, min(self.errors, len(wrong)))
            try:
                new, lost = propose(chosen)
                tried = self.answer(new)
            except Exception as error:
                self.fail_step(error)
            else:
                accepted = gate(*(fsum(each.score for each in part) for part in (answers, tried)))
                self.end_step(new, accepted, chosen, lost)
                if accepted:
                    now, answers = new, tried
            reset(now)

    def end_step(
        self,
        instructions: Mapping[str, str],
        accepted: bool,
        examples: Sequence[Answer] = (),
        kept: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Report a step: what was tried, whether it was accepted, and the examples it came from.

        `kept` is {name: problem} of the nodes whose new instruction the library lost.
        """
        ids = [answer.example.id for answer in examples]
        self._ask("end_step", dict(instructions), accepted, ids, dict(kept))

    def fail_step(self, problem: object) -> None:
        """Report a step that failed, with the exception or another description."""
        self._ask("fail_step", _text(problem))

    def fail(self, problem: object) -> None:
        """Count a failure after which the library continues with the same step."""
        self._ask("fail", _text(problem))

    def _ask(self, *message: Any) -> Any:
        reader, writer = self.pipe
        writer.write(json.dumps(message) + "\n")
        writer.flush()
        reply = json.loads(reader.readline())
        if "problem" in reply:
            raise ValueError(reply["problem"])
        return reply["done"]


def _text(problem: object) -> str:
    name = f"{type(problem).__name__}: " if isinstance(problem, Exception) else ""
    return f"{name}{problem}"[:500]


def main(method: str) -> None:
    """Run the library of a method. What it prints goes to standard error."""
    pipe = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(pipe[0].readline())
    random.seed(job["seed"])  # libraries draw from it
    graph = Graph.from_dict(job.pop("graph"))
    train = tuple(Example(**each) for each in job.pop("train"))
    adapter = importlib.import_module(f"{__package__}.by_{method}")
    adapter.optimise(Work(graph, train, pipe=pipe, **job))


if __name__ == "__main__":
    main(sys.argv[1])
