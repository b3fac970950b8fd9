"""What a batch would request from its models, before anything is spent: calls, tokens, dollars.

Calls are upper bounds, from the graph, the examples and the steps. Forward: one for each node and
example. Backward: one for each node with inputs and example (for each edge without the
neighbourhood). Update: one for each trained node and step, two with a critique. A run makes fewer
calls when it has no wrong answers left, and where runs make the same request, the cache answers.

Tokens are counted in the prompts themselves, with filler in place of what models will reply: once
as long as is expected, once as long as it can be at most. `ASSUMPTIONS` says how long that is.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from ..descend import descend
from ..graph import Node
from ..language import Case, Language
from ..llm import LLM
from ..llm.prices import price
from ..prompts import fence
from ..tasks import Example, Task
from ..variants import variant_settings
from .jobs import Job

if TYPE_CHECKING:
    from pandas import DataFrame

BYTES = 4  # of English text in an expected token; byte-level tokenisers have at least 1 in each
FRAMING = 11, 64  # tokens the chat format adds: OpenAI's 4 a message and 3; open models at most
REPLY, GRADIENT, INSTRUCTION, CRITIQUE = 200, 60, 100, 150  # expected tokens
THINKING = 500  # expected tokens that a reasoning model adds to a reply; its limit includes them
LONGER = 16  # bytes by which a reply may lengthen the fence around it, or the list that it is in
ASSUMPTIONS = f"""\
Expected: a token is {BYTES} bytes; a reply has {REPLY} tokens, a gradient {GRADIENT}, \
an instruction {INSTRUCTION};
  {THINKING} more from a reasoning model. These are guesses: the usage of a short run tells more.
At most: a token is a byte of text; replies are as long as their token limit allows.
Retries after unreadable replies are not counted."""


@dataclass(frozen=True)
class _Run:
    """A run to be estimated; most: whether replies are as long as they can be."""

    task: Task
    language: Language
    trained: Sequence[str]
    steps: int
    errors: int
    most: bool


class _Phase(NamedTuple):
    """What a run requests in one phase: calls, and tokens of all prompts and of all replies."""

    name: str
    model: str
    calls: int
    input: float
    output: float


def plan(jobs: Iterable[Job]) -> "DataFrame":
    """What the experiments among the jobs would request.

    Parameters
    ----------
    jobs : iterable of Job

    Returns
    -------
    DataFrame
        A row for each experiment, phase ("training", "backward", "update", "test before", "test
        after") and model. Columns: experiment, phase, model, calls; tokens of input and of output,
        and US dollars, each ``_expected`` and ``_most``. They are infinite where the model has no
        token limit; dollars are NaN where the price is unknown.

    Raises
    ------
    ParameterError, DataError
        Those of the tasks, as the notebooks would meet them.
    """
    import pandas

    rows = [row for job in jobs if job.experiment for row in _rows(job)]
    columns = ["experiment", "phase", "model", "calls"]
    columns += [f"{side}_{kind}" for side in ("input", "output") for kind in ("expected", "most")]
    frame = pandas.DataFrame(rows, columns=columns)
    table = frame.groupby(columns[:3], sort=False, as_index=False).sum()
    for kind in ("expected", "most"):
        usage = table[["model", "calls", f"input_{kind}", f"output_{kind}"]]
        table[f"dollars_{kind}"] = [_dollars(*row) for row in usage.itertuples(index=False)]
    return table


def total(table: "DataFrame") -> str:
    """A plan, or a part of it, in one line."""
    expected, most = (table[f"dollars_{kind}"].sum(skipna=False) for kind in ("expected", "most"))
    return f"{table['calls'].sum():,} calls, {_money(most)} (expected: {_money(expected)})"


def as_text(table: "DataFrame") -> str:
    """A plan for a terminal: a block with its total for each model, and the assumptions."""
    shown = {name: _money if "dollars" in name else _count for name in table.columns[3:]}
    blocks = []
    for model, rows in table.groupby("model", sort=False):
        lines = rows.drop(columns="model").to_string(index=False, formatters=shown)
        blocks.append(f"{model}\n{lines}\nat most {total(rows)}")
    return "\n\n".join(
        [*blocks, f"Upper bound if nothing is recorded: {total(table)}", ASSUMPTIONS]
    )


def _rows(job: Job) -> Iterator[tuple]:
    settings, task = job.settings, job.task()
    for_language, for_descend = variant_settings(settings["variant"], task.graph)
    defaults = inspect.signature(descend).parameters
    run = _Run(
        task,
        Language(job.model("model"), job.model("coach"), **for_language),
        for_descend.get("trainable", [node.name for node in task.graph.nodes if node.trainable]),
        settings.get("steps", defaults["steps"].default),
        min(settings.get("errors", defaults["errors"].default), len(task.train)),
        most=False,
    )
    for expected, most in zip(_phases(run), _phases(replace(run, most=True))):
        tokens = (expected.input, most.input, expected.output, most.output)
        yield job.experiment, expected.name, expected.model, expected.calls, *tokens


def _phases(run: _Run) -> list[_Phase]:
    train, test = run.task.train, run.task.test
    return [
        _forward(run, "training", train, first=1, later=run.steps),
        _backward(run),
        _update(run),
        _forward(run, "test before", test, first=1, later=0),
        _forward(run, "test after", test, first=0, later=1),
    ]


def _forward(run: _Run, name: str, examples: Sequence[Example], first: int, later: int) -> _Phase:
    """Answer the examples: so many times with the first graph, so many times with later ones."""
    question = _filler(mean(_sizes(example.question for example in examples)))
    prompts = []
    for node in run.task.graph.nodes:
        inputs = dict.fromkeys(node.inputs, _reply(run, run.language.model, REPLY))
        for times, version in ((first, node), (later, _updated(run, node))):
            text = _text(run, "forward", version, question=question, inputs=inputs)
            prompts.append((times * len(examples), text))
    return _phase(run, name, run.language.model, prompts, REPLY)


def _backward(run: _Run) -> _Phase:
    prompts, largest = [], 0
    for node in run.task.graph.nodes if run.language.gradient else ():
        together = [node.inputs] if node.inputs else []
        for inputs in together if run.language.neighbourhood else [(each,) for each in node.inputs]:
            case = _case(run, node, inputs)._asdict()
            case.pop("right")
            prompts.append(
                (run.steps * run.errors, _text(run, "backward", _updated(run, node), **case))
            )
            largest = max(largest, len(inputs))
    return _phase(run, "backward", run.language.coach, prompts, GRADIENT * largest)


def _update(run: _Run) -> _Phase:
    prompts, critique = [], None
    calls = run.steps
    if run.language.critique:
        critique, calls = _reply(run, run.language.coach, CRITIQUE), 2 * run.steps
    for name in run.trained:
        node = run.task.graph[name]
        cases = [_case(run, node, node.inputs)] * run.errors
        settings = {"critique": critique, "short": run.language.short}
        prompts.append((calls, _text(run, "update", _updated(run, node), cases=cases, **settings)))
    return _phase(run, "update", run.language.coach, prompts, INSTRUCTION)


def _phase(
    run: _Run, name: str, llm: LLM, prompts: Sequence[tuple[int, str]], reply: int
) -> _Phase:
    """A phase with these prompts, each so many times, and replies of so many expected tokens."""
    calls = sum(times for times, _ in prompts)
    bytes_per_token = 1 if run.most else BYTES
    tokens = FRAMING[run.most] * calls
    tokens += sum(times * len(text.encode()) / bytes_per_token for times, text in prompts)
    if calls and run.most and math.inf in (_limit(run.language.model), _limit(run.language.coach)):
        tokens = math.inf
    thinking = THINKING if "max_completion_tokens" in llm.params else 0
    length = _limit(llm) if run.most else min(reply + thinking, _limit(llm))
    return _Phase(name, llm.model, calls, tokens, length * calls if calls else 0)


def _case(run: _Run, node: Node, inputs: Sequence[str]) -> Case:
    """A training example as one node sees it."""
    task, size = run.task, max if run.most else mean
    output, gradient = _reply(run, run.language.model, REPLY), None
    if run.language.gradient and node.name == task.graph.answer:
        gradient = _filler(size(_sizes(map(task.feedback, task.train))))
    elif run.language.gradient:
        successors = len(task.graph.successors(node.name))
        gradient = _reply(run, run.language.coach, GRADIENT) * successors
    question = _filler(size(_sizes(example.question for example in task.train)))
    return Case(question, dict.fromkeys(inputs, output), output, gradient)


def _updated(run: _Run, node: Node) -> Node:
    """The node with the instruction that an update may give it, if that is longer."""
    later = _reply(run, run.language.coach, INSTRUCTION)
    if node.name not in run.trained or len(later) < len(node.instruction):
        return node
    return replace(node, instruction=later)


def _text(run: _Run, template: str, node: Node, **data: Any) -> str:
    messages = run.language.messages(template, node=node, **data)
    return "".join(message["content"] for message in messages)


def _reply(run: _Run, llm: LLM, expected: int) -> str:
    """Filler for a reply in a later prompt; without a limit, `_phase` knows how long it can be."""
    limit = _limit(llm)
    if not run.most:
        return _filler(min(expected, limit) * BYTES)
    return _filler(limit + LONGER if limit < math.inf else LONGER)


def _filler(size: float) -> str:
    return "x" * math.ceil(size)


def _sizes(texts: Iterable[str]) -> list[int]:
    return [len(fence(text, "").encode()) for text in texts]


def _limit(llm: LLM) -> float:
    return llm.params.get("max_completion_tokens") or llm.params.get("max_tokens") or math.inf


def _dollars(model: str, calls: int, input_tokens: float, output_tokens: float) -> float:
    unlimited = math.isinf(input_tokens + output_tokens)
    tokens = (1000, 1000) if unlimited else (round(input_tokens), round(output_tokens))
    dollars = price(model, *tokens, calls)
    if dollars is None:
        return math.nan
    return math.inf if unlimited and dollars else dollars


def _count(number: float) -> str:
    return "no limit" if math.isinf(number) else f"{math.ceil(number):,}"


def _money(dollars: float) -> str:
    if math.isnan(dollars):
        return "unknown dollars"
    return "no limit" if math.isinf(dollars) else f"${dollars:,.2f}"
