"""Evaluate a graph: answer examples with it, read the answers, and score them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .errors import UNWORKABLE, DataError, ModelError, ParameterError, SembackError, check
from .graph import Graph
from .language import Language
from .progress import progress
from .propagate import Trace, forward, together
from .run import Score, Scores
from .task import Example, Task, distinct
from .usage import Usage


async def evaluate(
    graph: Graph,
    examples: Example | Iterable[Example],
    task: Task,
    lang: Language,
) -> Scores:
    """Answer examples with a graph and score the answers.

    If no answer can be read, the model is asked once more, and then it counts as wrong. An error of
    the model or of the code is raised: it is never turned into a score.

    Parameters
    ----------
    graph : Graph
        The system to score, usually `task.graph` or `run.graph`.
    examples : Example or iterable of Example
        Usually `task.train` or `task.test`.
    task : Task
        How answers are read and scored.
    lang : Language
        The models; one Language serves for many evaluations.

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        For no examples, or two with the same id.
    ParameterError
        For an argument of the wrong type.
    CacheMiss, ModelError, BudgetExceeded
        From the models.
    """
    check(Graph, "a Graph", graph=graph)
    check((Example, Iterable), "Examples, as in task.test", examples=examples)
    check_models(task, lang)
    several = [examples] if isinstance(examples, Example) else examples
    several = distinct(several, f"evaluating {task.name!r}")
    if not several:
        raise DataError(f"there are no examples to evaluate {task.name!r} on")
    lang = replace(lang, usage=Usage())
    return await scored(graph, several, task, lang, "evaluating")


async def scored(
    graph: Graph,
    examples: Sequence[Example],
    task: Task,
    lang: Language,
    title: str,
    refused: list[ModelError] | None = None,
) -> Scores:
    """`evaluate` without its checks; calls are counted in `lang.usage`.

    If `refused` is a list, examples whose prompts the model refuses are left out; their errors are
    added to it, and recorded.
    """
    rows: dict[str, Score] = {}
    traces: dict[str, Trace] = {}
    waiting = iter(examples)

    async def work() -> None:
        for example in waiting:
            try:
                trace, score = await _answer(graph, example, task, lang)
            except ModelError as error:
                if refused is None or error.status not in UNWORKABLE:
                    raise
                refused.append(error)
                if error.record:
                    error.record()
                continue
            rows[example.id] = score
            traces[example.id] = trace
            step(score.correct)

    # As many at a time as the model takes requests: each example has at least one in flight.
    with progress(title, len(examples), lang.usage) as step:
        await together(work() for _ in range(min(lang.model.in_flight, len(examples))))
    answered = (rows[example.id] for example in examples if example.id in rows)
    return Scores(tuple(answered), lang.usage, traces, {each.id: each for each in examples})


async def _answer(
    graph: Graph, example: Example, task: Task, lang: Language
) -> tuple[Trace, Score]:
    trace = await forward(graph, example, lang)
    try:
        answer = None if trace.answer is None else task.read(trace.answer)
        if answer is None and trace.answer is not None:
            trace = await lang.answer_again(trace, "no answer could be read in it", task.read)
            answer = None if trace.answer is None else task.read(trace.answer)
        if not isinstance(answer, str | None):
            raise ParameterError(
                f"the read function of {task.name!r} returned {answer!r}; "
                "it must return text or None"
            )
        score = False if answer is None else task.grade(answer, example)
    except Exception as error:
        if not isinstance(error, SembackError):  # such as one in a function of the Task
            error.add_note(f"It was raised for the example {example.id!r}.")
        raise
    return trace, Score(example.id, trace.answer, answer, score)


def check_models(task: Task, lang: Language) -> None:
    """ParameterError unless these are a Task and a Language."""
    check(Task, "a Task", task=task)
    check(Language, "a Language, as in Language(model, coach)", lang=lang)
