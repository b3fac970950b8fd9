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
from typing import TYPE_CHECKING, Any

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
FRAMING, MOST_FRAMING = 11, 64  # tokens of the chat format: OpenAI's 4 a message and 3; others
REPLY, GRADIENT, INSTRUCTION, CRITIQUE = 200, 60, 100, 150  # expected tokens
THINKING = 500  # expected tokens that a reasoning model adds to a reply; its limit includes them
LONGER = 16  # bytes by which a reply may lengthen the fence around it, or the list that it is in
ASSUMPTIONS = f"""\
Expected (guesses; the usage of a short run tells more): a token is {BYTES} bytes; a reply has
{REPLY} tokens, a gradient {GRADIENT}, an instruction {INSTRUCTION}; with reasoning {THINKING} more.
At most: a token is a byte of text; replies are as long as their token limit allows.
Retries after unreadable replies are not counted."""


@dataclass(frozen=True)
class _Run:
    """A run to be estimated; most: whether replies are as long as they can be."""

    most: bool
    task: Task
    model: LLM
    coach: LLM
    language: Language
    trained: Sequence[str]
    steps: int
    errors: int


# Phase, model, number of calls, their prompt, expected tokens of a reply.
Call = tuple[str, LLM, int, str, int]


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

    jobs, tables = [job for job in jobs if job.experiment], []
    keys = ["experiment", "phase", "model"]
    for most in (False, True):
        rows = [(job.experiment, *row) for job in jobs for row in _rows(_run(job, most))]
        frame = pandas.DataFrame(rows, columns=[*keys, "calls", "input", "output"])
        table: Any = frame.groupby(keys, sort=False, as_index=False).sum()
        usage = table[["model", "calls", "input", "output"]].itertuples(index=False)
        table["dollars"] = [_dollars(*row) for row in usage]
        tables.append(table)
    return tables[0].merge(tables[1], on=[*keys, "calls"], suffixes=("_expected", "_most"))


def total(table: Any) -> str:
    """A plan, or a part of it, in one line."""
    expected, most = (table[f"dollars_{kind}"].sum(skipna=False) for kind in ("expected", "most"))
    return f"{table['calls'].sum():,} calls, {_money(most)} (expected: {_money(expected)})"


def as_text(table: "DataFrame") -> str:
    """A plan for a terminal: a block with its total for each model, and the assumptions."""
    shown = {name: _money if "dollars" in name else _count for name in table.columns[3:]}
    blocks = []
    for model, rows in table.groupby("model", sort=False):
        lines = rows.drop(columns="model").to_string(
            index=False, formatters=shown, na_rep="unknown"
        )
        blocks.append(f"{model}\n{lines}\nat most {total(rows)}")
    bound = f"Upper bound if nothing is recorded: {total(table)}"
    return "\n\n".join([*blocks, bound, ASSUMPTIONS])


def _run(job: Job, most: bool) -> _Run:
    task, model, coach = job.task(), job.model("model"), job.model("coach")
    for_language, for_descend = variant_settings(job.settings["variant"], task.graph)
    language = Language(model, coach, **for_language)
    trainable = [node.name for node in task.graph.nodes if node.trainable]
    trained = for_descend.get("trainable", trainable)
    defaults = inspect.signature(descend).parameters
    steps, errors = (job.settings.get(key, defaults[key].default) for key in ("steps", "errors"))
    errors = min(errors, len(task.train))
    return _Run(most, task, model, coach, language, trained, steps, errors)


def _rows(run: _Run) -> Iterator[tuple[str, str, int, float, float]]:
    """(phase, model, calls, tokens of input, tokens of output) of calls that are alike."""
    unlimited = math.inf in (_limit(run.model), _limit(run.coach))
    for phase, llm, calls, prompt, reply in (*_forward(run), *_backward(run), *_update(run)):
        size, limit = len(prompt.encode()), _limit(llm)
        if run.most:
            tokens = math.inf if unlimited else size + MOST_FRAMING
        else:
            tokens = size / BYTES + FRAMING
            thinking = THINKING if "max_completion_tokens" in llm.params else 0
            limit = min(reply + thinking, limit)
        if calls:
            yield phase, llm.model, calls, calls * tokens, calls * limit


def _forward(run: _Run) -> Iterator[Call]:
    evaluations = (  # phase, examples, how often with the first graph, how often with later ones
        ("training", run.task.train, 1, run.steps),
        ("test before", run.task.test, 1, 0),
        ("test after", run.task.test, 0, 1),
    )
    for phase, examples, first, later in evaluations:
        question = _filler(mean(_sizes(examples)))
        for node in run.task.graph.nodes:
            inputs = dict.fromkeys(node.inputs, _reply(run, run.model))
            for times, version in ((first, node), (later, _updated(run, node))):
                prompt = _prompt(run, "forward", version, question=question, inputs=inputs)
                yield phase, run.model, times * len(examples), prompt, REPLY


def _backward(run: _Run) -> Iterator[Call]:
    for node in run.task.graph.nodes if run.language.gradient else ():
        groups = [node.inputs] if run.language.neighbourhood else [(name,) for name in node.inputs]
        for inputs in filter(None, groups):
            case = _case(run, node, inputs)
            values = {"inputs": case.inputs, "output": case.output, "gradient": case.gradient}
            node = _updated(run, node)
            prompt = _prompt(run, "backward", node, question=case.question, **values)
            yield "backward", run.coach, run.steps * run.errors, prompt, GRADIENT * len(inputs)


def _update(run: _Run) -> Iterator[Call]:
    critique = _reply(run, run.coach, CRITIQUE) if run.language.critique else None
    calls = run.steps * (2 if run.language.critique else 1)
    for node in run.task.graph.nodes:
        if node.name in run.trained:
            cases = [_case(run, node, node.inputs)] * run.errors
            settings = {"cases": cases, "critique": critique, "short": run.language.short}
            prompt = _prompt(run, "update", _updated(run, node), **settings)
            yield "update", run.coach, calls, prompt, INSTRUCTION


def _case(run: _Run, node: Node, inputs: Sequence[str]) -> Case:
    """A training example as one node sees it."""
    task, one_of = run.task, max if run.most else mean
    question, output = _filler(one_of(_sizes(task.train))), _reply(run, run.model)
    gradient = None
    if run.language.gradient and node.name == task.graph.answer:
        gradient = _filler(one_of([len(task.feedback(each).encode()) for each in task.train]))
    elif run.language.gradient:
        gradient = _reply(run, run.coach, GRADIENT) * len(task.graph.successors(node.name))
    return Case(question, dict.fromkeys(inputs, output), output, gradient)


def _updated(run: _Run, node: Node) -> Node:
    """The node with the instruction that an update may give it, if that is longer."""
    later = _reply(run, run.coach, INSTRUCTION)
    if node.name not in run.trained or len(later) < len(node.instruction):
        return node
    return replace(node, instruction=later)


def _prompt(run: _Run, template: str, node: Node, **data: Any) -> str:
    messages = run.language.messages(template, node=node, **data)
    return "".join(message["content"] for message in messages)


def _reply(run: _Run, llm: LLM, expected: int = REPLY) -> str:
    """Filler for a reply in a later prompt. (`_rows` handles replies without a limit.)"""
    limit = _limit(llm)
    if run.most:
        return _filler(LONGER if math.isinf(limit) else limit + LONGER)
    return _filler(min(expected, limit) * BYTES)


def _filler(size: float) -> str:
    return "x" * math.ceil(size)


def _sizes(examples: Iterable[Example]) -> list[int]:
    return [len(fence(example.question, "").encode()) for example in examples]


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
        return "price unknown"
    return "no limit" if math.isinf(dollars) else f"${dollars:,.2f}"
