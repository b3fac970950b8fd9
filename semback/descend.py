"""Semantic gradient descent: evaluate, find what went wrong, improve instructions, keep the better.

Everything that happens in the loop is in the Run that it returns. There is no checkpoint: given
task, settings and seed, a run sends the same requests every time, in whatever order the replies
arrive, so an interrupted run continues from the response cache when it is started again.
"""

import inspect
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .errors import BudgetExceeded, ModelError, ParameterError, PromptTooLong, known
from .evaluate import check_models, scored
from .gate import Gate, gate_function
from .graph import Graph
from .language import Case, Language
from .leaks import Leaks
from .progress import progress
from .prompts import digest
from .propagate import Gradients, backward, together
from .run import Run, Step
from .task import Example, Task
from .usage import Usage

USUAL = {"level": 0.2, "validate": 0, "leaks": "count", "draws": "sampling"}


async def descend(
    task: Task,
    lang: Language,
    steps: int = 4,
    errors: int = 2,
    gate: bool | str | Gate = "strict",
    trainable: Sequence[str] | None = None,
    draw_between: bool = False,
    among: str = "wrong",
    seed: int = 0,
    level: float = 0.2,
    validate: int = 0,
    leaks: str = "count",
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
        Examples per step, drawn by the seed; fewer if there are fewer.
    gate : {"strict", "off", "significant"} or callable
        What decides whether a new graph is accepted: "strict", the paper's, wants a higher score;
        "significant" an exact paired test with p ≤ `level`; "off" accepts every one. Or a function
        (old: Scores, new: Scores) -> bool. True is "strict", False is "off".
    trainable : sequence of str, optional
        Names of the nodes to change; by default all that are trainable.
    draw_between : bool
        Whether each node draws between its new and its old instruction, instead of taking the new.
    among : {"wrong", "any"}
        Which examples are drawn from: those that were answered wrongly, or all.
    seed : int
        Seed of every choice, and the draw of every request (where the models sample).
    level : float
        For the gate "significant": how often, at most, it accepts a useless update.
    validate : int
        How many of the training examples, the last ones, are kept for the gate alone. Gradients
        come from the others, so that no graph is judged by the questions it was made from.
    leaks : {"count", "reject"}
        "count": new instructions with words that do not belong there (see `leaks`) are counted.
        "reject": the coach is also asked once more, and the old one stays if that does not help.

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        For an impossible setting, or without a coach.
    CacheMiss, ModelError, BudgetExceeded
        From the models. The run ends there; its replies are in the cache, so the same call resumes
        it. A candidate that a model refuses to work with (HTTP 400, 413 or 422, for instance since
        an instruction is too long) is rejected, and the run goes on.
    """
    check_models(task, lang)
    if (coach := lang.coach) is None:
        raise ParameterError("descend needs a coach to write gradients: use Language(model, coach)")
    settings: dict[str, Any] = {"steps": steps, "errors": errors, "gate": gate}
    settings |= {"trainable": trainable, "draw_between": draw_between, "among": among, "seed": seed}
    newer = {"level": level, "validate": validate, "leaks": leaks, "draws": lang.draws}
    accepts = check_settings(settings | newer, len(task.train))
    names = _trainable(task.graph, trainable)
    settings = _as_recorded(settings, newer, lang)
    params = {"model": dict(lang.model.params), "coach": dict(coach.params)}
    lang = replace(lang, draw=seed, usage=Usage())
    random_ = random.Random(seed)
    rest = len(task.train) - validate
    train, validation = task.train[:rest], task.train[rest:]
    finder = Leaks(task, reject=leaks == "reject")
    history: list[Step] = []
    stopped = "all steps done"
    try:
        title = "step 0, the start graph"
        scores = await scored(task.graph, train, task, lang, title)
        current = Step(task.graph, scores, accepted=True)
        if validation:
            scores = await scored(task.graph, validation, task, lang, title)
            current = replace(current, validation=scores)
        history.append(replace(current, calls=lang.usage.calls))
        for number in range(1, steps + 1):
            assert current.scores  # an accepted graph has scores
            wrong = [row.id for row in current.scores.rows if row.correct < 1]
            if not wrong:
                stopped = "every training example is answered rightly"
                break
            pool = wrong if among == "wrong" else [example.id for example in train]
            chosen = random_.sample(pool, min(errors, len(pool)))
            keeping = {name for name in names if draw_between and random_.random() < 0.5}
            changing = [name for name in names if name not in keeping]
            title = f"step {number} of {steps}"
            with progress(f"{title}, backward and update", 0, lang.usage):
                step = await _propose(current, chosen, changing, task, lang, finder)
            if step.candidate != current.candidate:
                step = await _judge(step, current, train, validation, accepts, task, lang, title)
            kept = dict.fromkeys(sorted(keeping), "drew the old one") | step.kept
            history.append(replace(step, kept=kept, calls=lang.usage.calls))
            if step.accepted:
                current = step
    except BudgetExceeded as error:
        error.args = (f"{error} {max(len(history) - 1, 0)} of {steps} steps were done.",)
        raise
    models = lang.model.model, coach.model
    return Run(task.name, *models, settings, tuple(history), stopped, lang.usage, params)


async def _judge(
    step: Step,
    current: Step,
    train: Sequence[Example],
    validation: Sequence[Example],
    accepts: Gate,
    task: Task,
    lang: Language,
    title: str,
) -> Step:
    """The step with the scores of its candidate, and whether the gate accepts it.

    With validation examples, only a candidate that the gate accepts is evaluated on the others.
    """
    refused: list[ModelError] = []
    judged = await scored(step.candidate, validation or train, task, lang, title, refused)
    assert current.judged
    accepted = not refused and bool(accepts(current.judged, judged))
    scores = None if validation else judged
    if accepted and validation:
        scores = await scored(step.candidate, train, task, lang, title, refused)
    if refused:
        too_long = all(isinstance(error, PromptTooLong) for error in refused)
        why = "are too long for" if too_long else "were refused by"
        reason = f"prompts of {len(refused)} questions with it {why} {lang.model.model}"
        changed = [node.name for node in step.candidate if node != current.candidate[node.name]]
        return replace(step, kept=step.kept | dict.fromkeys(changed, reason))
    return replace(
        step, scores=scores, validation=judged if validation else None, accepted=accepted
    )


async def _propose(
    current: Step, chosen: list[str], names: list[str], task: Task, lang: Language, finder: Leaks
) -> Step:
    """A step not evaluated yet: a candidate made from the gradients of the chosen examples."""
    graph, scores = current.candidate, current.scores
    assert scores
    traces = {id: scores.traces[id] for id in chosen}
    by_id = {example.id: example for example in task.train}
    gradients: dict[str, Gradients] = {}
    if lang.gradient:
        passes = [backward(traces[id], task.feedback(by_id[id], traces[id]), lang) for id in chosen]
        gradients = dict(zip(chosen, await together(passes)))
    correct = {row.id for row in scores.rows if row.correct == 1}
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
    find_leak = finder.find if finder.reject else None
    texts = await together(
        lang.update(graph[name], seen, find_leak) for name, seen in cases.items()
    )
    instructions: dict[str, str] = {}
    leaks: dict[str, str] = {}
    for name, text in zip(cases, texts):
        leak = None if text is None else finder.find(text)
        if leak:
            leaks[name] = leak
        if text is None:
            kept[name] = "the new one could not be read"
        elif leak and finder.reject:
            kept[name] = f"the new one leaks: {leak}"
        else:
            instructions[name] = text
    return Step(
        graph.with_instructions(instructions),
        scores=None,
        accepted=False,
        examples=tuple(chosen),
        gradients={id: dict(each) for id, each in gradients.items()},
        messages={id: each.messages for id, each in gradients.items()},
        kept=kept,
        leaks=leaks,
    )


DEFAULTS = {name: each.default for name, each in inspect.signature(descend).parameters.items()}


def check_settings(settings: dict[str, Any], questions: int) -> Gate:
    """The gate to use. ParameterError for settings of `descend` impossible with these questions."""
    settings = DEFAULTS | settings
    for name, least in (("steps", 0), ("errors", 1), ("seed", 0), ("validate", 0)):
        if type(value := settings[name]) is not int or value < least:
            raise ParameterError(f"{name} is {value!r}; it takes a whole number from {least}")
    if settings["validate"] >= questions:
        raise ParameterError(
            f"validate is {settings['validate']}; at least one of the {questions} training "
            "questions must be left for gradients"
        )
    if not isinstance(value := settings["draw_between"], bool):
        raise ParameterError(f"draw_between is {value!r}; it takes True or False")
    known("among", settings["among"], ("wrong", "any"))
    known("leaks", settings["leaks"], ("count", "reject"))
    return gate_function(settings["gate"], settings["level"])


def _as_recorded(settings: dict[str, Any], newer: dict[str, Any], lang: Language) -> dict[str, Any]:
    """The settings of a Run, with those of `lang`; newer ones only if not the default."""
    gate, trainable = settings["gate"], settings["trainable"]
    if isinstance(gate, str):
        gate = {"strict": True, "off": False}.get(gate, gate)
    settings = {**settings, "gate": getattr(gate, "__name__", gate)}
    settings["trainable"] = None if trainable is None else list(trainable)
    for name in ("neighbourhood", "gradient", "feedback", "critique", "short"):
        settings[name] = getattr(lang, name)
    settings["prompts"] = digest(lang.prompts)
    return settings | {name: value for name, value in newer.items() if value != USUAL[name]}


def _trainable(graph: Graph, trainable: Sequence[str] | None) -> list[str]:
    """The names of the nodes to train, in the graph's order."""
    if trainable is None:
        trainable = [node.name for node in graph if node.trainable]
    if not isinstance(trainable, list | tuple) or any(name not in graph for name in trainable):
        raise ParameterError(
            f"trainable is {trainable!r}; it takes a list of names out of {', '.join(graph.order)}"
        )
    if not trainable:
        raise ParameterError("no node of the graph is trainable: trainable is []")
    return [name for name in graph.order if name in trainable]
