"""Semantic gradient descent: evaluate, find out what went wrong, improve the instructions, keep what is better.

`evaluate` scores a graph on examples. `descend` is the loop; everything that happened in it is in the Run it returns.
There is no checkpoint: given task, settings and seed a run asks the same requests in every rerun, in whatever order
the answers come, so an interrupted run goes on from the response cache when it is started again.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace

from .errors import BudgetExceeded, DataError, ParameterError, SembackError, check
from .graph import Graph
from .language import Case, Language
from .llm.paid import settling
from .llm.recall import recalled
from .progress import Progress
from .prompts import digest
from .propagate import Gradients, Trace, backward, forward, together
from .run import Run, Score, Scores, Step
from .task import checked
from .tasks import Example, Task
from .usage import Usage


@settling()
async def evaluate(
    graph: Graph, examples: Iterable[Example], task: Task, lang: Language, traces: bool = False
) -> Scores:
    """Answer the examples with the graph and score the answers.

    Parameters
    ----------
    graph: the system to score, usually `task.graph` or `run.graph`.
    examples: usually `task.train` or `task.test`.
    task: says how answers are read and what is right.
    lang: the models; they may be the same for many evaluations.
    traces: whether to keep every example's Trace, in `Scores.traces`.

    An answer that cannot be read is asked for once more and then counts as wrong. An error of the model or of the code
    is raised: it is never turned into a score.

    Errors
    ------
    DataError: no examples. ParameterError: another thing than a Graph, Examples, a Task, a Language. Those of the models, as in `descend`.
    """
    check(Graph, "a Graph", graph=graph)
    check((Example, Iterable), "Examples, as in task.test", examples=examples)
    _check(task, lang)
    examples = [
        checked(example) for example in ([examples] if isinstance(examples, Example) else examples)
    ]
    if not examples:
        raise DataError(f"there are no examples to evaluate {task.name!r} on")
    if len({example.id for example in examples}) < len(examples):
        raise DataError(
            f"two examples to evaluate {task.name!r} on have the same id; ids tell examples apart"
        )
    lang = replace(lang, usage=Usage())
    return await _evaluate(graph, examples, task, lang, traces)


async def _evaluate(graph, examples, task, lang, traces=False, what="evaluating") -> Scores:
    rows: dict[str, Score] = {}
    kept: dict[str, Trace] = {}
    waiting, progress, turn = (
        recalled(graph, examples, lang),
        Progress(what, len(examples), lang.usage),
        asyncio.Lock(),
    )

    async def work():
        async with turn:  # one after the other, so that the first request is on its way before the last prompt is made
            await asyncio.sleep(0)
        for example, trace in waiting:
            trace = trace or await forward(graph, example, lang)
            await asyncio.sleep(
                0
            )  # what was recalled waited for nothing: others have their turn too
            with _saying_which(example):
                answer = None if trace.answer is None else task.read(trace.answer)
                if answer is None and trace.answer is not None:
                    trace = await lang.answer_again(
                        trace, "no answer could be read in it", task.read
                    )
                    answer = None if trace.answer is None else task.read(trace.answer)
                if not isinstance(answer, str | None):
                    raise ParameterError(
                        f"the read function of {task.name!r} gave {answer!r} for an answer; it gives text, or None"
                    )
                correct = answer is not None and bool(task.correct(answer, example))
            rows[example.id] = Score(example.id, trace.answer, answer, correct)
            if traces:
                kept[example.id] = trace
            progress.step(rows[example.id].correct)

    await together(
        work() for _ in range(min(lang.model.in_flight, len(examples)))
    )  # each has a request in flight at any time
    return Scores(tuple(rows[example.id] for example in examples), lang.usage, kept)


@settling()
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
    task: trained on `task.train`, from `task.graph`; its test examples are not looked at.
    lang: the models, and what is left out of the method.
    steps: the most updates to try. It stops before when no training example is answered wrongly any more.
    errors: examples a step, chosen by the seed; fewer where there are fewer.
    gate: whether a new graph must answer strictly more training examples rightly to be kept; without it every one is kept.
    trainable: names of the nodes to change; without it all that are trainable.
    draw_between: whether each node draws between its new and its old instruction, instead of taking the new one.
    among: what the examples are chosen among, "wrong" answers or "any".
    seed: of every choice, and the draw of every request (where the models sample).

    Errors
    ------
    ParameterError: a setting that cannot be; no coach. CacheMiss, ModelError, BudgetExceeded: from the models; the run ends there, and
    all that was answered is in the cache.
    """
    _check(task, lang)
    if lang.coach is None:
        raise ParameterError(
            "descend needs a coach, who writes gradients and instructions: Language(model, coach)"
        )
    given = {
        "steps": steps,
        "errors": errors,
        "seed": seed,
        "gate": gate,
        "draw_between": draw_between,
        "among": among,
    }
    whole = (
        all(type(number) is int for number in (steps, errors, seed))
        and steps >= 0
        and errors >= 1
        and seed >= 0
    )
    if (
        not whole
        or not isinstance(gate, bool)
        or not isinstance(draw_between, bool)
        or among not in ("wrong", "any")
    ):
        raise ParameterError(
            "descend takes whole numbers for steps and seed, from 0, and for errors, from 1; True or False for gate and "
            f'draw_between; among "wrong" or "any". It was given {given}'
        )
    names = _trainable(task.graph, trainable)
    settings = {
        "steps": steps,
        "errors": errors,
        "gate": gate,
        "trainable": trainable and list(trainable),
        "draw_between": draw_between,
        "among": among,
        "seed": seed,
        "neighbourhood": lang.neighbourhood,
        "gradient": lang.gradient,
        "feedback": lang.feedback,
        "critique": lang.critique,
        "short": lang.short,
        "prompts": digest(lang.prompts),
    }
    params = {"model": dict(lang.model.params), "coach": dict(lang.coach.params)}
    lang, chance = replace(lang, draw=seed, usage=Usage()), random.Random(seed)
    by_id = {example.id: example for example in task.train}
    history, stopped = [], "all steps done"
    with _saying_how_far(history, steps):
        graph, scores = (
            task.graph,
            await _evaluate(task.graph, task.train, task, lang, True, "step 0, the start graph"),
        )
        history.append(Step(graph, scores, accepted=True))
        for number in range(1, steps + 1):
            wrong = [row.id for row in scores.rows if not row.correct]
            if not wrong:
                stopped = "every training example is answered rightly"
                break
            pool = wrong if among == "wrong" else list(by_id)
            chosen = chance.sample(pool, min(errors, len(pool)))
            drew_old = {name for name in names if draw_between and chance.random() < 0.5}
            traces = {each: scores.traces[each] for each in chosen}
            gradients = {}
            if lang.gradient:
                told = await together(
                    backward(traces[each], task.feedback(by_id[each]), lang) for each in chosen
                )
                gradients = dict(zip(chosen, told))
            right = set(chosen).difference(wrong)
            candidate, kept = await _update(
                graph,
                [name for name in names if name not in drew_old],
                traces,
                gradients,
                right,
                lang,
            )
            what = f"step {number} of {steps}"
            new_scores = (
                None
                if candidate == graph
                else await _evaluate(candidate, task.train, task, lang, True, what)
            )
            accepted = new_scores is not None and (not gate or new_scores.correct > scores.correct)
            history.append(
                Step(
                    candidate,
                    new_scores,
                    accepted,
                    tuple(chosen),
                    gradients={each: dict(gradient) for each, gradient in gradients.items()},
                    messages={
                        each: [list(message) for message in gradient.messages]
                        for each, gradient in gradients.items()
                    },
                    kept=dict.fromkeys(sorted(drew_old), "drew the old one") | kept,
                )
            )
            if accepted:
                graph, scores = candidate, new_scores
    return Run(
        task.name,
        lang.model.model,
        lang.coach.model,
        settings,
        tuple(history),
        stopped,
        lang.usage,
        params,
    )


@contextmanager
def _saying_how_far(history: Sequence[Step], steps: int):
    """Add to BudgetExceeded how much of the descent was done."""
    try:
        yield
    except BudgetExceeded as error:
        done = (
            f"{len(history) - 1} of {steps} steps"
            if len(history) > 1
            else "It was too small for a single step"
        )
        raise BudgetExceeded(
            f"{error} {done} of this descent{' were done' * (len(history) > 1)}."
        ) from None


@contextmanager
def _saying_which(example: Example):
    """Add to an error that is none of ours, such as one in a function of the Task, which example it came from."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, SembackError):
            error.add_note(f"It came from the example {example.id!r}.")
        raise


async def _update(
    graph: Graph,
    names: Sequence[str],
    traces: dict[str, Trace],
    gradients: dict[str, Gradients],
    right: set[str],
    lang: Language,
) -> tuple[Graph, dict[str, str]]:
    """The graph with new instructions for the nodes named, and for each that kept its old one the reason."""
    kept, cases = {}, {}
    for name in names:
        told = [each for each in traces if not lang.gradient or name in gradients[each]]
        if told:
            cases[name] = [
                Case(
                    traces[each].question,
                    traces[each].inputs(name),
                    traces[each].values[name],
                    gradients[each][name] if lang.gradient else None,
                    each in right,
                )
                for each in told
            ]
        else:
            kept[name] = "no gradient reached it"
    new = dict(zip(cases, await together(lang.update(graph[name], cases[name]) for name in cases)))
    kept |= {name: "the new one could not be read" for name, text in new.items() if text is None}
    return graph.with_instructions(
        {name: text for name, text in new.items() if text is not None}
    ), kept


def _trainable(graph: Graph, trainable: Sequence[str] | None) -> list[str]:
    """The names of the nodes to train, in the graph's order."""
    if trainable is None:
        names = [node.name for node in graph.nodes if node.trainable]
    elif (
        not isinstance(trainable, Sequence)
        or isinstance(trainable, str)
        or any(name not in graph.order for name in trainable)
    ):
        raise ParameterError(
            f"trainable is {trainable!r}; it takes a list of names out of {', '.join(graph.order)}"
        )
    else:
        names = [name for name in graph.order if name in trainable]
    if not names:
        raise ParameterError(f"no node of the graph is trainable: trainable is {trainable!r}")
    return names


def _check(task, lang) -> None:
    check(Task, "a Task", task=task)
    check(Language, "a Language, as in Language(model, coach)", lang=lang)
