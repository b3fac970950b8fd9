"""Null control: how much changes where nothing was changed.

A served model does not repeat itself, not even at temperature 0, so two evaluations of one graph
differ. A difference between two methods says little unless it is larger than that.
"""

from dataclasses import dataclass, replace

from .errors import ParameterError, check
from .evaluate import check_models, scored
from .gate import Comparison, Gate, compare, gate_function
from .language import Language
from .run import Run, Scores
from .task import Task
from .usage import Usage

DRAW = 2**20  # added to the draw of a run: beyond that of any seed


@dataclass(frozen=True)
class Control:
    """The start graph of a run, evaluated once more.

    Attributes
    ----------
    test : Scores
        On the test questions.
    update : Scores
        On the questions that the gate sees: an update that changed nothing.
    seen : Comparison
        What the gate saw of that update.
    accepted : bool
        Whether the gate accepts it, which would be luck.
    usage : Usage
        The calls that the control made.
    """

    test: Scores
    update: Scores
    seen: Comparison
    accepted: bool
    usage: Usage


async def control(
    run: Run, task: Task, lang: Language, gate: bool | str | Gate | None = None
) -> Control:
    """Evaluate the start graph of a run a second time.

    Every request has a draw of its own, at temperature 0 too, so none is answered by a recording of
    the run. A simulated model repeats itself, so its control shows no difference.

    Parameters
    ----------
    run : Run
    task : Task
        That of the run.
    lang : Language
        That of the run.
    gate : optional
        As in `descend`; needed if the run's gate was a function. By default the run's own; for a
        method of another library, the paper's.

    Raises
    ------
    ParameterError
        If the run is of another task.
    CacheMiss, ModelError, BudgetExceeded
        From the models.
    """
    check(Run, "a Run", run=run)
    check_models(task, lang)
    chosen: bool | str | Gate = run.settings.get("gate", True) if gate is None else gate
    accepts = gate_function(chosen, run.settings.get("level", 0.2))
    graph, judged = run.steps[0].candidate, run.steps[0].judged
    assert judged  # an accepted graph has scores
    ids = [row.id for row in judged.rows]
    by_id = {example.id: example for example in task.train}
    if run.task != task.name or graph != task.graph or not by_id.keys() >= set(ids):
        raise ParameterError(f"the run belongs to another task, not {task.name!r}")
    lang = replace(lang, draw=run.settings["seed"] + DRAW, draws="seed", usage=Usage())
    questions = [by_id[id] for id in ids]
    update = await scored(graph, questions, task, lang, "null control, training")
    test = await scored(graph, task.test, task, lang, "null control, test")
    seen = compare(judged, update)
    return Control(test, update, seen, bool(accepts(judged, update)), lang.usage)
