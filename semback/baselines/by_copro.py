"""COPRO (DSPy 3.4.1): the coach writes instructions for a node, sees their scores, writes more.

Its prompts show instructions and their scores; no question, no answer, no other node.

- Depth is the number of steps. COPRO returns its best program only at the end, so it is run to
  depth 1, 2, 3 …: each run repeats the one before it, from the coach's replies and the scores that
  were kept. A step is what COPRO returns, which never scores lower than the step before; it is
  accepted if the graph is a different one.
- Breadth is 2, the least that COPRO accepts: one new instruction for a node at first, and two at
  every further depth, where other methods write one. Even so it needs more answers than any other
  method: at each depth all earlier instructions of a node are scored again.
- The temperature is COPRO's default, 1.4 (1 for a coach whose requests have none: such models
  accept no other). The other fields of the coach's requests are as for all methods.
- The prefix of the output field, which COPRO also optimises, has no place in a graph and is left
  out of it; the coach still sees it, as in DSPy.
- If DSPy cannot parse a reply, it requests another one, as JSON; if that fails too, the run ends.
  Instructions that the graph cannot work with, including empty ones, count as failures and score 0,
  like programs that raise in DSPy (which would fill an empty one with a text of its own).
"""

import sys
from typing import Any

import dspy  # pyright: ignore[reportMissingImports] - it is in the environment of the libraries

from .peer import Work


class Coach(dspy.LM):
    """The coach: it first repeats the given replies, then appends new ones."""

    def __init__(self, work: Work, replies: list[Any]):
        # DSPy has one name for the limit, and renames it for models that want another.
        names = {"max_completion_tokens": "max_tokens"}
        params = {names.get(name, name): value for name, value in work.params.items()}
        params |= {"api_base": work.base_url("update"), "api_key": "unused"}
        params |= {"cache": False, "num_retries": 0, "timeout": 86_400}  # the proxy has its own
        super().__init__(f"openai/{work.model}", **params)
        self.replies, self.given = replies, 0

    def __call__(self, *args: Any, **fields: Any) -> Any:
        if self.given == len(self.replies):
            self.replies.append(super().__call__(*args, **fields))
        self.given += 1
        return self.replies[self.given - 1]


def optimise(work: Work) -> None:
    """Run COPRO to every depth up to the number of steps."""
    blanks = {name: _signature(work, name) for name in work.instructions}
    answered: dict[tuple[str, ...], dict[str, float]] = {}  # scores by id

    class Program(dspy.Module):
        """The graph, as far as COPRO sees it: a predictor for each trainable node."""

        def __init__(self):
            super().__init__()
            starts = zip(blanks.values(), work.instructions.values())
            self.nodes = [dspy.Predict(blank.with_instructions(text)) for blank, text in starts]

        @property
        def instructions(self) -> dict[str, str]:
            texts = {name: node.signature.instructions for name, node in zip(blanks, self.nodes)}
            filled = {name: blank.instructions for name, blank in blanks.items()}  # by DSPy
            return {name: "" if text == filled[name] else text for name, text in texts.items()}

        def forward(self, id: str) -> dspy.Prediction:
            texts = tuple(self.instructions.values())
            if texts not in answered:
                answered[texts] = dict.fromkeys((each.id for each in work.train), 0.0)
                try:
                    answers = work.answer(self.instructions)
                    answered[texts] = {each.example.id: each.score for each in answers}
                except ValueError as problem:
                    work.fail(problem)
            return dspy.Prediction(score=answered[texts][id])

    sys.setrecursionlimit(20_000)  # DSPy nests the fields of a signature once more at each change
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    train = [dspy.Example(id=each.id).with_inputs("id") for each in work.train]
    metric = lambda example, prediction, trace=None: prediction.score  # noqa: E731
    temperature = {} if "temperature" in work.params else {"init_temperature": 1.0}
    now, replies = work.instructions, list[Any]()
    for depth in range(1, work.steps + 1):
        try:  # max_errors: an error in this file is not a score of 0
            dspy.configure(lm=Coach(work, replies), max_errors=1)
            copro = dspy.COPRO(metric=metric, breadth=2, depth=depth, **temperature)
            best = copro.compile(Program(), trainset=train, eval_kwargs={"num_threads": 1})
        except Exception as problem:
            return work.fail_step(problem)
        work.end_step(best.instructions, accepted=best.instructions != now)
        now = best.instructions


def _signature(work: Work, name: str) -> type[dspy.Signature]:
    fields: dict[str, Any] = {"question": (str, dspy.InputField())}
    for number, each in enumerate(work.graph[name].inputs):  # names need not be identifiers
        fields[f"input_{number}"] = (str, dspy.InputField(desc=each))
    return dspy.Signature({**fields, "value": (str, dspy.OutputField(prefix=f"{name}:"))})
