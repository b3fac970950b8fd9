"""Semantic gradient descent: evaluate, find what went wrong, improve instructions, keep the better.

`evaluate` scores a graph on examples. `descend` is the loop; all that happens in it is in the Run
that it returns. There is no checkpoint: given task, settings and seed a run sends the same requests
in every rerun, in whatever order the replies arrive, so an interrupted run continues from the
response cache when it is started again.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from .errors import BudgetExceeded, DataError, ParameterError, SembackError, check, known
from .graph import Graph
from .language import Case, Language
from .progress import Progress
from .prompts import digest
from .propagate import Gradients, Trace, backward, forward, together
from .run import Run, Score, Scores, Step
from .task import Example, Task, checked
from .usage import Usage


async def evaluate(
    graph: Graph,
    examples: Example | Iterable[Example],
    task: Task,
    lang: Language,
    traces: bool = False,
) -> Scores:
    """Answer examples with a graph and score the answers.

    An answer that cannot be read is asked for once more and then counts as wrong. An error of the
    model or of the code is raised: it is never turned into a score.

    Parameters
    ----------
    graph : Graph
        The system to score, usually `task.graph` or `run.graph`.
    examples : Example or iterable of Example
        Usually `task.train` or `task.test`.
    task : Task
        How answers are read and scored.
    lang : Language
        The models; they may be the same for many evaluations.
    traces : bool
        Whether to keep every example's Trace, in `Scores.traces`.

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        For no examples, or two with one id.
    ParameterError
        For an argument of another type.
    CacheMiss, ModelError, BudgetExceeded
        From the models.
    """
    check(Graph, "a Graph", graph=graph)
    check((Example, Iterable), "Examples, as in task.test", examples=examples)
    _check(task, lang)
    several = [examples] if isinstance(examples, Example) else examples
    several = [checked(example) for example in several]
    if not several:
        raise DataError(f"there are no examples to evaluate {task.name!r} on")
    if len({example.id for example in several}) < len(several):
        raise DataError(
            f"two examples to evaluate {task.name!r} on have the same id; ids tell examples apart"
        )
    lang = replace(lang, usage=Usage())
    return await _evaluate(graph, several, task, lang, "evaluating", traces)


async def _evaluate(
    graph: Graph,
    examples: Sequence[Example],
    task: Task,
    lang: Language,
    title: str,
    keep_traces: bool = True,
) -> Scores:
    rows: dict[str, Score] = {}
    traces: dict[str, Trace] = {}
    progress = Progress(title, len(examples), lang.usage)
    waiting = iter(examples)

    async def work() -> None:
        for example in waiting:
            trace, score = await _answer(graph, example, task, lang)
            rows[example.id] = score
            if keep_traces:
                traces[example.id] = trace
            progress.step(score.correct)

    # As many at one time as the model takes requests: each example has at least one in flight.
    await together(work() for _ in range(min(lang.model.in_flight, len(examples))))
    return Scores(tuple(rows[example.id] for example in examples), lang.usage, traces)


async def _answer(
    graph: Graph, example: Example, task: Task, lang: Language
) -> tuple[Trace, Score]:
    trace = await forward(graph, example, lang)
    with _naming(example):
        answer = None if trace.answer is None else task.read(trace.answer)
        if answer is None and trace.answer is not None:
            trace = await lang.answer_again(trace, "no answer could be read in it", task.read)
            answer = None if trace.answer is None else task.read(trace.answer)
        if not isinstance(answer, str | None):
            raise ParameterError(
                f"the read function of {task.name!r} gave {answer!r} for an answer; "
                "it gives text, or None"
            )
        correct = answer is not None and bool(task.correct(answer, example))
    return trace, Score(example.id, trace.answer, answer, correct)


async def descend(
    task: Task,
    lang: Language,
    steps: int = 4,
    errors: int = 2,
    gate: bool = True,
    trainable: Sequence[str] | None = None,
    draw_between: bool = False,
    among: str = "wrong",
    seed: int = 0,
) -> Run:
    """Improve the instructions of a task's graph.

    Parameters
    ----------
    task : Task
        Trained on `task.train`, from `task.graph`; its test examples are not used.
    lang : Language
        The models, and what is left out of the method.
    steps : int
        The most updates to try. It stops earlier when every training example is answered correctly.
    errors : int
        Examples a step, drawn by the seed; fewer where there are fewer.
    gate : bool
        Whether a new graph must answer strictly more training examples correctly to be accepted;
        without it every one is.
    trainable : sequence of str, optional
        Names of the nodes to change; without it all that are trainable.
    draw_between : bool
        Whether each node draws between its new and its old instruction, in place of taking the new.
    among : {"wrong", "any"}
        Which examples are drawn from: those that were answered wrongly, or all.
    seed : int
        Of every choice, and the draw of every request (where the models sample).

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        For a setting that cannot be, or no coach.
    CacheMiss, ModelError, BudgetExceeded
        From the models. The run ends there; its replies are in the cache, so the same call goes on.
    """
    _check(task, lang)
    model, coach = lang.model, lang.coach
    if coach is None:
        raise ParameterError("descend needs a coach, to write gradients: Language(model, coach)")
    settings: dict[str, Any] = dict(
        steps=steps,
        errors=errors,
        gate=gate,
        trainable=trainable,
        draw_between=draw_between,
        among=among,
        seed=seed,
    )
    _check_settings(settings)
    names = _trainable(task.graph, trainable)
    settings["trainable"] = None if trainable is None else list(trainable)
    for name in ("neighbourhood", "gradient", "feedback", "critique", "short"):
        settings[name] = getattr(lang, name)
    settings["prompts"] = digest(lang.prompts)
    params = {"model": dict(model.params), "coach": dict(coach.params)}
    lang = replace(lang, draw=seed, usage=Usage())
    random_ = random.Random(seed)
    history: list[Step] = []
    stopped = "all steps done"
    with _telling_progress(history, steps):
        scores = await _evaluate(task.graph, task.train, task, lang, "step 0, the start graph")
        history.append(Step(task.graph, scores, accepted=True))
        graph = task.graph
        for number in range(1, steps + 1):
            wrong = [row.id for row in scores.rows if not row.correct]
            if not wrong:
                stopped = "every training example is answered rightly"
                break
            pool = wrong if among == "wrong" else [example.id for example in task.train]
            chosen = random_.sample(pool, min(errors, len(pool)))
            keeping = {name for name in names if draw_between and random_.random() < 0.5}
            changing = [name for name in names if name not in keeping]
            step = await _propose(graph, scores, chosen, changing, task, lang)
            if step.candidate != graph:
                title = f"step {number} of {steps}"
                new = await _evaluate(step.candidate, task.train, task, lang, title)
                step = replace(step, scores=new, accepted=not gate or new.correct > scores.correct)
            kept = dict.fromkeys(sorted(keeping), "drew the old one") | step.kept
            history.append(replace(step, kept=kept))
            if step.accepted and step.scores:
                graph, scores = step.candidate, step.scores
    models = model.model, coach.model
    return Run(task.name, *models, settings, tuple(history), stopped, lang.usage, params)


async def _propose(
    graph: Graph, scores: Scores, chosen: list[str], names: list[str], task: Task, lang: Language
) -> Step:
    """A step that is not evaluated yet: a candidate from the gradients of the chosen examples."""
    traces = {id: scores.traces[id] for id in chosen}
    by_id = {example.id: example for example in task.train}
    gradients: dict[str, Gradients] = {}
    if lang.gradient:
        passes = [backward(traces[id], task.feedback(by_id[id]), lang) for id in chosen]
        gradients = dict(zip(chosen, await together(passes)))
    correct = {row.id for row in scores.rows if row.correct}
    cases: dict[str, list[Case]] = {}
    kept: dict[str, str] = {}
    for name in names:
        for id in chosen:
            gradient = gradients[id].get(name) if lang.gradient else None
            if gradient is not None or not lang.gradient:
                seen = traces[id].question, traces[id].inputs(name), traces[id].values[name]
                cases.setdefault(name, []).append(Case(*seen, gradient, id in correct))
        if name not in cases:
            kept[name] = "no gradient reached it"
    texts = await together(lang.update(graph[name], seen) for name, seen in cases.items())
    instructions = {name: text for name, text in zip(cases, texts) if text is not None}
    for name in sorted(cases.keys() - instructions.keys(), key=names.index):
        kept[name] = "the new one could not be read"
    return Step(
        graph.with_instructions(instructions),
        scores=None,
        accepted=False,
        examples=tuple(chosen),
        gradients={id: dict(each) for id, each in gradients.items()},
        messages={id: each.messages for id, each in gradients.items()},
        kept=kept,
    )


def _check(task: Task, lang: Language) -> None:
    check(Task, "a Task", task=task)
    check(Language, "a Language, as in Language(model, coach)", lang=lang)


def _check_settings(settings: dict[str, Any]) -> None:
    for name, least in (("steps", 0), ("errors", 1), ("seed", 0)):
        if type(value := settings[name]) is not int or value < least:
            raise ParameterError(f"{name} is {value!r}; it takes a whole number from {least}")
    for name in ("gate", "draw_between"):
        if not isinstance(value := settings[name], bool):
            raise ParameterError(f"{name} is {value!r}; it takes True or False")
    known("among", settings["among"], ("wrong", "any"))


def _trainable(graph: Graph, trainable: Sequence[str] | None) -> list[str]:
    """The names of the nodes to train, in the graph's order."""
    if trainable is None:
        names = [node.name for node in graph if node.trainable]
    elif not isinstance(trainable, list | tuple) or any(name not in graph for name in trainable):
        raise ParameterError(
            f"trainable is {trainable!r}; it takes a list of names out of {', '.join(graph.order)}"
        )
    else:
        names = [name for name in graph.order if name in trainable]
    if not names:
        raise ParameterError(f"no node of the graph is trainable: trainable is {trainable!r}")
    return names


@contextmanager
def _telling_progress(history: Sequence[Step], steps: int) -> Iterator[None]:
    """Add to BudgetExceeded how many steps were done."""
    try:
        yield
    except BudgetExceeded as error:
        done = len(history) - 1
        error.args = (f"{error} {max(done, 0)} of {steps} steps were done.",)
        raise


@contextmanager
def _naming(example: Example) -> Iterator[None]:
    """Add the example to an error that is none of ours, as one in a function of the Task is."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, SembackError):
            error.add_note(f"It came from the example {example.id!r}.")
        raise
