"""What a batch would ask of its models, before anything is spent: calls, tokens and dollars, for each experiment and phase.

Calls are upper bounds, from the graph, the examples and the steps: one a node for each example answered; one a node with
inputs for each example that is backpropagated (one an edge without the neighbourhood); one or, with a critique, two a trained
node for each step. Not counted are second tries after a reply that could not be read. Fewer are asked when a run has nothing
wrong any more, and where runs ask the same, which then comes from the cache.

Tokens and dollars are given twice, as "expected" and as "at most"; `ASSUMED` says on what grounds.
"""

import inspect
import math
from collections.abc import Iterable
from statistics import mean

from ..descend import descend
from ..language import Case, Language
from ..llm.chat import LLM
from ..llm.prices import price
from ..prompts import fence
from ..variants import variant_settings
from .jobs import Job

BYTES = 4  # of English text to a token, expected. At most 1: a byte-level tokeniser makes no token of less than a byte
FORWARD, GRADIENT, INSTRUCTION, CRITIQUE = (
    200,
    60,
    100,
    150,
)  # tokens expected of a reply, a gradient, a new instruction, a critique
THINKING = 500  # tokens more that a reasoning model is expected to spend on a reply; its limit contains them
FRAMING = (
    11,
    64,
)  # tokens a call that the chat format adds: 4 a message and 3 (OpenAI); at most, what open models' templates add
LONGER = 16  # bytes by which a reply may lengthen its own fence (when it holds code) or the list it stands in
ASSUMED = f"""expected: a token is {BYTES} bytes of text; a reply has {FORWARD} tokens, a gradient {GRADIENT}, an instruction {INSTRUCTION};
  {THINKING} more where a model reasons. These are guesses: the usage of a short run tells better.
at most: a token is a byte of known text; a reply is as long as its limit allows, and no longer to another model.
Neither counts second tries."""
SIZES = ("input_expected", "input_most", "output_expected", "output_most")


def plan(jobs: Iterable[Job]):
    """What the experiments among the jobs would ask, as a DataFrame: one row for each experiment, phase and model.

    Columns: experiment, phase ("training", "backward", "update", "test before", "test after"), model, calls; tokens of input and
    output, and dollars, each `_expected` and `_most`: infinite where the model has no token limit, NaN where its price is unknown.
    Errors: those of the tasks, as the notebooks would meet them.
    """
    import pandas

    keys = ["experiment", "phase", "model"]
    rows = [
        {"experiment": job.experiment, **row}
        for job in jobs
        if job.experiment
        for row in _rows(job)
    ]
    table = (
        pandas.DataFrame(rows, columns=[*keys, "calls", *SIZES])
        .groupby(keys, sort=False, as_index=False)
        .sum()
    )
    for kind in ("expected", "most"):
        asked = table[["model", "calls", f"input_{kind}", f"output_{kind}"]]
        table[f"dollars_{kind}"] = [_dollars(*row) for row in asked.itertuples(index=False)]
    return table


def total(table) -> str:
    """The plan in one line."""
    expected, most = (
        _money(table[f"dollars_{kind}"].sum(skipna=False)) for kind in ("expected", "most")
    )
    return f"at most {table['calls'].sum():,} calls; dollars: {expected} expected, {most} at most"


def as_text(table) -> str:
    """The plan for a terminal: a block for each model, with its total, and the assumptions."""
    import pandas

    shown = {name: _count for name in ("calls", *SIZES)} | {
        name: _money for name in ("dollars_expected", "dollars_most")
    }
    blocks = []
    for model, rows in table.groupby("model", sort=False):
        rows = pandas.concat(
            [
                rows,
                pandas.DataFrame(
                    [{"experiment": "total", "phase": "", **rows[list(shown)].sum(skipna=False)}]
                ),
            ]
        )
        blocks.append(
            f"{model}\n"
            + rows[["experiment", "phase", *shown]].to_string(
                index=False, formatters=shown, na_rep="unknown"
            )
        )
    return "\n\n".join([*blocks, total(table), ASSUMED])


def _rows(job: Job) -> list[dict]:
    """What one run asks in each phase. A size is an array of two numbers of tokens: expected, at most."""
    from numpy import array, maximum, zeros

    settings, task = job.settings, job.task()
    for_language, for_descend = variant_settings(settings["variant"], task.graph)
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(descend).parameters.items()
    }
    steps, errors = (settings.get(name, defaults[name]) for name in ("steps", "errors"))
    errors, nodes = min(errors, len(task.train)), task.graph.nodes
    trained = for_descend.get("trainable") or [node.name for node in nodes if node.trainable]
    model, coach = (
        LLM(settings[role], params=settings.get(f"{role}_params")) for role in ("model", "coach")
    )
    lang = Language(model, coach, **for_language)

    def limit(llm):
        return llm.params.get("max_completion_tokens") or llm.params.get("max_tokens") or math.inf

    def known(texts):  # one of these texts
        lengths = [len(text.encode()) for text in texts]
        return array([mean(lengths) / BYTES, max(lengths)])

    def said(llm, expected):  # a reply, when it stands in a later prompt
        return array([min(expected, limit(llm)), limit(llm) + LONGER])

    def words(
        template, node, **data
    ):  # a prompt with no data but the instruction: at first, and what an update may add to it
        prompt = array(FRAMING) + known(
            ["".join(m["content"] for m in lang.messages(template, node=node, **data))]
        )
        start = known([node.instruction])
        return prompt, maximum(
            start, said(coach, INSTRUCTION)
        ) - start if node.name in trained else zeros(2)

    def case(node, inputs):  # what one example adds to the prompts of backward and update
        feedback = known(map(task.feedback, task.train))
        told = (
            feedback
            if node.name == task.graph.answer
            else said(coach, GRADIENT) * len(task.graph.successors(node.name))
        )
        seen = known(fence(each.question, "") for each in task.train) + said(model, FORWARD) * (
            len(inputs) + 1
        )
        return seen + told if lang.gradient else seen

    def row(phase, llm, calls, prompts, expected):
        expected += THINKING * ("max_completion_tokens" in llm.params)
        sizes = (
            (*prompts, min(expected, limit(llm)) * calls, limit(llm) * calls)
            if calls
            else (0.0,) * 4
        )
        return {"phase": phase, "model": llm.model, "calls": calls, **dict(zip(SIZES, sizes))}

    def evaluations(
        phase, examples, old, new
    ):  # so many with the start graph, so many with a new one
        prompts, questions = (
            zeros(2),
            sum(len(fence(each.question, "").encode()) for each in examples),
        )
        for node in nodes:
            start, more = words("forward", node, question="", inputs=dict.fromkeys(node.inputs, ""))
            fixed = start + said(model, FORWARD) * len(node.inputs) if node.inputs else start
            prompts += fixed * len(examples) * (old + new) + array(
                [questions / BYTES, questions]
            ) * (old + new)
            prompts += more * len(examples) * new if new else 0
        return row(phase, model, len(nodes) * len(examples) * (old + new), prompts, FORWARD)

    judged = [
        (node, group)
        for node in nodes
        if node.inputs and lang.gradient
        for group in ([node.inputs] if lang.neighbourhood else [(name,) for name in node.inputs])
    ]
    backward, update, repeats = zeros(2), zeros(2), 1 + lang.critique
    for node, group in judged:
        prompt = words(
            "backward", node, question="", inputs=dict.fromkeys(group, ""), output="", gradient=""
        )
        backward += (sum(prompt) + case(node, group)) * steps * errors
    for node in map(task.graph.__getitem__, trained):
        empty = Case("", dict.fromkeys(node.inputs, ""), "", "" if lang.gradient else None)
        prompt = words(
            "update",
            node,
            cases=[empty] * errors,
            critique="" if lang.critique else None,
            short=lang.short,
        )
        more = said(coach, CRITIQUE) if lang.critique else 0
        update += (sum(prompt) + case(node, node.inputs) * errors + more) * steps * repeats
    return [
        evaluations("training", task.train, 1, steps),
        row(
            "backward",
            coach,
            len(judged) * steps * errors,
            backward,
            GRADIENT * max((len(group) for _, group in judged), default=0),
        ),
        row("update", coach, len(trained) * steps * repeats, update, INSTRUCTION),
        evaluations("test before", task.test, 1, 0),
        evaluations("test after", task.test, 0, 1),
    ]


def _dollars(model: str, calls: int, prompt_tokens: float, completion_tokens: float) -> float:
    """The price of so many calls: infinite where there is no limit, NaN where it is unknown."""
    unlimited = math.isinf(prompt_tokens + completion_tokens)
    dollars = price(
        model, *((1000, 1000) if unlimited else (prompt_tokens, completion_tokens)), calls
    )
    if dollars is None:
        return math.nan
    return math.inf if unlimited and dollars else dollars


def _count(number: float) -> str:
    return "no limit" if math.isinf(number) else f"{math.ceil(number):,}"


def _money(dollars: float) -> str:
    return (
        "unknown"
        if math.isnan(dollars)
        else "no limit"
        if math.isinf(dollars)
        else f"{dollars:,.2f}"
    )
