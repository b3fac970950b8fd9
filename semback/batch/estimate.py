"""What a batch would request from its models, before anything is spent: calls, tokens, dollars.

Calls are an upper bound: nothing is recorded, and every step is taken. Tokens and dollars are what
these calls are expected to take. They are measured on one example of average length, answered
wrongly, with a model that replies with filler, and multiplied by how often a run needs them.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import mean
from typing import Any

import pandas

from ..descend import DEFAULTS, descend
from ..evaluate import evaluate
from ..language import Language
from ..llm import LLM, default_params
from ..llm.budget import CHARACTERS_PER_TOKEN, estimated_tokens, price
from ..llm.simulated import Prompt, block
from ..replies import Reply
from ..report.statistics import CHANGED, detectable
from ..task import whole_reply
from ..variants import METHODS, PEERS, variant_settings
from .jobs import Job

# Expected tokens; a reasoning model adds some to each reply, and the chat format to each message.
REPLY, GRADIENT, INSTRUCTION, THINKING, FRAMING = 200, 60, 100, 500, 4
ASSUMPTIONS = f"""\
Tokens are guesses: {REPLY} in a reply, {GRADIENT} in a gradient, {INSTRUCTION} in an
instruction, {THINKING} more with reasoning. Second tries are not counted.
A difference can be found if McNemar's test, two-sided at 5 %, finds it with
80 % power when {CHANGED:.0%} of the answers change (Connor, Biometrics 1987)."""
ERRORS = DEFAULTS["errors"]  # examples a step
KEYS = ["experiment", "phase", "model"]
COUNTS = ["calls", "input_tokens", "output_tokens"]


class Filler:
    """A `ChatModel` that replies with filler of the expected length."""

    samples = False

    def __init__(self, llm: LLM):
        self.model, self.params, self.in_flight = llm.model, llm.params, llm.in_flight
        thinks = default_params(llm.model).get("max_tokens") != 1024  # it has room to think
        self.thinking = THINKING if thinks else 0

    async def chat(self, messages: list[dict], draw: int = 0) -> Reply:
        prompt = Prompt.of(messages)
        if prompt.targets:
            text = "\n".join(block("gradient", _filler(GRADIENT), to) for to in prompt.targets)
        elif "<instruction>" in prompt.wording:
            text = block("instruction", _filler(INSTRUCTION))
        else:
            text = _filler(REPLY)
        reply = estimated_tokens(text) + self.thinking
        limit = self.params.get("max_completion_tokens") or self.params.get("max_tokens")
        sent = sum(estimated_tokens(message["content"]) + FRAMING for message in messages)
        usage = {"prompt_tokens": sent, "completion_tokens": min(reply, limit or reply)}
        return Reply(text, "stop", usage, self.model, recorded=False, key="00")


def plan(jobs: Iterable[Job]) -> pandas.DataFrame:
    """What the experiments among the jobs would request.

    Parameters
    ----------
    jobs : iterable of Job

    Returns
    -------
    DataFrame
        A row for each experiment, phase ("training", "backward", "update", "test before", "test
        after") and model, with the columns calls, input_tokens, output_tokens, and dollars: NaN
        if the price is unknown. What other libraries request in training is not known before they
        run and is left out; their names are in ``attrs["uncounted"]``.

    Raises
    ------
    ParameterError, DataError
        Those of the tasks, as the notebooks would raise them.
    """

    chosen = [job for job in jobs if job.experiment]

    async def rows() -> list[tuple]:
        return [row for job in chosen async for row in _rows(job)]

    with ThreadPoolExecutor(1) as thread:  # a notebook's thread already has an event loop
        found = thread.submit(asyncio.run, rows()).result()
    table: Any = pandas.DataFrame(found, columns=[*KEYS, *COUNTS])
    table = table.groupby(KEYS, sort=False, as_index=False).sum()
    usage = table[["model", "input_tokens", "output_tokens", "calls"]]
    dollars = [price(*row) for row in usage.itertuples(index=False)]
    table = table.assign(dollars=pandas.Series(dollars, dtype=float))
    table.attrs["uncounted"] = sorted({job.way for job in chosen if job.way in PEERS})
    return table


def total(table: Any) -> str:
    """The calls and dollars of a plan in one line."""
    dollars = table["dollars"].sum(skipna=False)
    cost = "price unknown" if math.isnan(dollars) else f"about ${dollars:,.2f}"
    text = f"Upper bound if nothing is recorded: {table['calls'].sum():,} calls, {cost}"
    peers = ", ".join(table.attrs["uncounted"])
    return f"{text}, and the training of {peers}" if peers else text


def as_text(table: pandas.DataFrame) -> str:
    """A plan for a terminal: a table for each model, the total, and the assumptions."""
    shown = {**dict.fromkeys(COUNTS, "{:,}".format), "dollars": "${:,.2f}".format}
    tables = []
    for model, rows in table.groupby("model", sort=False):
        rows = rows.drop(columns="model")
        tables.append(f"{model}\n{rows.to_string(index=False, formatters=shown, na_rep='unknown')}")
    return "\n\n".join([*tables, total(table), ASSUMPTIONS])


def differences(jobs: Iterable[Job]) -> str:
    """Which difference between two methods the planned test questions can find, one line for each
    benchmark.

    Seeds are independent only if each has its own test questions, or its own replies, so what they
    add is an upper bound.
    """
    sizes, lines = defaultdict(dict), []
    for job in jobs:
        if job.experiment:
            task = job.task()
            sizes[job.experiment][task.name, job.settings["seed"]] = len(task.test)
    for name, own in sizes.items():
        answers, seeds = sum(own.values()), len({seed for _, seed in own})
        questions = answers // seeds
        line = f"{name}: {questions:,} test questions can find {_points(questions)}"
        if seeds > 1:
            line += f"; {seeds} seeds, were they independent, {_points(answers)}"
        lines.append(line)
    return "\n".join(lines)


def _points(questions: int) -> str:
    found = detectable(questions)
    return "no difference" if math.isnan(found) else f"a difference of {100 * found:.1f} points"


async def _rows(job: Job) -> AsyncIterator[tuple]:
    """The rows of `plan` for one job, without dollars; several may have the same keys."""
    task, settings = job.task(), job.settings
    steps = 0 if job.way in METHODS else settings["steps"]
    for_language, for_descend = variant_settings(settings["variant"], task.graph)
    model, coach = job.models(task)
    lang = Language(Filler(model), Filler(coach), **for_language)
    length = mean(len(example.question) for example in task.train)
    average = min(task.train, key=lambda example: abs(len(example.question) - length))
    wrong = [replace(average, id=str(number)) for number in range(ERRORS)]
    one = replace(task, train=wrong, test=(), only=None, read=whole_reply, correct=lambda *_: False)
    run = await descend(one, lang, steps=1, errors=ERRORS, **for_descend)
    before = await evaluate(task.graph, average, one, lang)
    after = await evaluate(run.steps[1].candidate, average, one, lang)
    again = len(task.test) + (settings.get("validate") or len(task.train))  # the null control's
    parts = (
        ("training", "forward", before, len(task.train) if job.way not in PEERS else 0),
        ("training", "forward", after, len(task.train) * steps),
        ("backward", "backward", run, steps),
        ("update", "update", run, steps),
        ("test before", "forward", before, len(task.test)),
        ("test after", "forward", after, len(task.test)),
        ("control", "forward", before, again if settings.get("control") else 0),
    )
    for name, phase, measured, times in parts:
        for (its_phase, model), count in measured.usage.counts.items():
            if its_phase == phase and times:
                counts = (count.calls, count.prompt_tokens, count.completion_tokens)
                yield job.experiment, name, model, *(times * each for each in counts)


def _filler(tokens: int) -> str:
    return "x" * (tokens * CHARACTERS_PER_TOKEN)
