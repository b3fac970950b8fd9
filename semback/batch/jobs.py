"""What a batch executes: a `Job` is a notebook and its parameters, `grid` makes the jobs of a batch, `check` refuses what cannot run."""

import ast
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from .. import tasks
from ..errors import DataError, ParameterError, known
from ..llm.budget import Budget
from ..paths import home
from ..report import results
from ..usage import SIMULATED
from ..variants import variant_names, variant_settings

# experiment: its notebook, and which of its parameters make the task. GSM8K first: it takes longest, and should not start last.
EXPERIMENTS = {
    "gsm8k": ("03_gsm8k", ("seed", "train", "data")),
    "bbh": ("02_bbh", ("category", "seed", "train", "split", "data")),
    "liar": ("04_liar_ablation", ("seed", "train", "data")),
}
NEEDED = (
    "name",
    "variant",
    "data",
    "model",
    "coach",
    "seed",
)  # parameters of every experiment's notebook
STUDIES, LAST = (
    ("01_semantic_gradients", "05_cost"),
    "06_figures",
)  # those ask only simulated models; the last reads what all others wrote
VARIANTS = {
    "sample": ("full", "no_neighbourhood", "no_gradient"),
    "full": ("full",),
}  # unless told otherwise; of LIAR, all
CATEGORIES = {
    "sample": ("boolean_expressions", "date_understanding", "object_counting"),
    "full": tasks.NLP + tasks.ALGORITHMIC,
}


@dataclass(frozen=True)
class Job:
    """A notebook to execute, and the parameters that it is given."""

    notebook: Path
    parameters: Mapping

    @cached_property
    def defaults(self) -> dict:
        """The notebook's parameters with their defaults (None for one that is no literal). ParameterError where there is no notebook."""
        from papermill import inspect_notebook

        if not self.notebook.is_file():
            raise ParameterError(
                f"there is no notebook {self.notebook}; go to the checkout that has it, or set SEMBACK_HOME to it"
            )
        try:
            found = inspect_notebook(unbraced(self.notebook))
        except Exception as error:  # whatever papermill makes of a file that is something else
            raise ParameterError(
                f"{self.notebook} cannot be read as a notebook: {type(error).__name__}: {error}"
            ) from None
        return {name: _literal(parameter["default"]) for name, parameter in found.items()}

    @property
    def settings(self) -> dict:
        """All parameters, with the values they will have."""
        return {**self.defaults, **self.parameters}

    @property
    def experiment(self) -> str | None:
        """Which of `EXPERIMENTS` this is; None for a notebook that writes no record."""
        return next(
            (name for name, (stem, _) in EXPERIMENTS.items() if stem == self.notebook.stem), None
        )

    @cached_property
    def id(self) -> str:
        """What its files are called: like its record in `results`, or like the notebook where there is no record."""
        if self.experiment is None:
            return self.notebook.stem
        task = f"bbh/{self.settings['category']}" if self.experiment == "bbh" else self.experiment
        return results.run_id(
            self.experiment,
            task,
            *(self.settings[name] for name in ("variant", "seed", "model", "coach")),
        )

    def task(self) -> tasks.Task:
        """The experiment's task, as its notebook will make it; with the errors of `semback.tasks`."""
        return _task(
            self.experiment,
            **{
                name: self.settings[name]
                for name in EXPERIMENTS[self.experiment][1]
                if name in self.settings
            },
        )


def grid(
    experiments: Sequence[str] = (),
    data: str = "sample",
    categories: Sequence[str] = (),
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    models: Sequence[tuple[str, str]] = ((SIMULATED, SIMULATED),),
    name: str = "demo",
    extra: Mapping | None = None,
) -> list[Job]:
    """The jobs of a batch: every experiment × category × variant × seed × (model, coach).

    Parameters
    ----------
    experiments: of `EXPERIMENTS`; without it all, with `LAST` after them and, for the sample data, `STUDIES` before.
    data: "sample" or "full".
    categories: of BBH; without it, all that the data has.
    variants: see `ablations`; without it, all for LIAR, and `VARIANTS` for the others.
    models: pairs of the model that answers and the coach.
    name: of the batch; its files are in ``runs/<name>``.
    extra: other parameters of the experiments. A text is read as JSON where the notebook's default is no text.

    Errors
    ------
    ParameterError: an experiment or data set that does not exist, categories without BBH, no notebook.
    """
    known("data", data, tuple(VARIANTS))
    for experiment in experiments:
        known("experiment", experiment, tuple(EXPERIMENTS))
    if categories and "bbh" not in (experiments or EXPERIMENTS):
        raise ParameterError("only bbh has categories")
    folder, jobs = home() / "notebooks", []
    if not experiments and data == "sample":
        jobs += [Job(folder / f"{study}.ipynb", {}) for study in STUDIES]
    for experiment in experiments or EXPERIMENTS:
        notebook = folder / f"{EXPERIMENTS[experiment][0]}.ipynb"
        defaults = Job(notebook, {}).defaults
        more = {key: _typed(value, defaults.get(key)) for key, value in (extra or {}).items()}
        parts = (
            [{"category": each} for each in categories or CATEGORIES[data]]
            if experiment == "bbh"
            else [{}]
        )
        chosen = variants or (
            variant_names(tasks.liar(train=1).graph) if experiment == "liar" else VARIANTS[data]
        )
        for part, variant, seed, (model, coach) in itertools.product(parts, chosen, seeds, models):
            parameters = {
                "name": name,
                "data": data,
                **part,
                "variant": variant,
                "seed": seed,
                "model": model,
                "coach": coach,
            }
            jobs.append(Job(notebook, {**parameters, **more}))
    return jobs if experiments else [*jobs, Job(folder / f"{LAST}.ipynb", {"name": name})]


def check(jobs: Iterable[Job], name: str) -> None:
    """Refuse what cannot run in the batch `name`: ParameterError or DataError, with the notebook, the parameter and what there is."""
    results.folder(name)  # which refuses what is no name
    seen: dict[str, Job] = {}
    for job in jobs:
        at, defaults = job.notebook.name, job.defaults
        for key, value in job.parameters.items():
            if key not in defaults:
                there = ", ".join(defaults) or "none, since no cell has the tag parameters"
                raise ParameterError(f"{at} has no parameter {key!r}; it has {there}")
            if not _fits(value, default := defaults[key]):
                raise ParameterError(
                    f"{at}: {key} is {value!r}; it takes a value of type {type(default).__name__}, such as {default!r}"
                )
        if job.parameters.get("name", name) != name:
            raise ParameterError(
                f"{at}: name is {job.parameters['name']!r}, so its results would not go to those of the batch, {name!r}"
            )
        if (steps := job.parameters.get("steps")) is not None and steps < 0:
            raise ParameterError(f"{at}: steps is {steps}; it is 0 or more")
        if job.experiment:
            if missing := [key for key in NEEDED if key not in defaults]:
                raise ParameterError(
                    f"{at} has no parameter {', '.join(missing)}; the notebook of an experiment needs {', '.join(NEEDED)}"
                )
            try:
                variant_settings(job.settings["variant"], job.task().graph)
                budget = Budget(dollars=job.settings.get("dollars"))
                for role in ("model", "coach"):
                    budget.admits(job.settings[role])
            except (ParameterError, DataError) as error:
                raise type(error)(f"{at}: {error}") from None
        if other := seen.get(job.id):
            raise ParameterError(
                f"{at}: two jobs would both be called {job.id}: {dict(other.parameters)} and {dict(job.parameters)}"
            )
        seen[job.id] = job


def unbraced(path) -> str:
    """A path for papermill, which otherwise fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


@cache
def _task(experiment: str, **settings) -> tasks.Task:
    return getattr(tasks, experiment)(**settings)


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _typed(value, default):
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # `check` says what is wrong with it


def _fits(value, default) -> bool:
    """Whether a value has its default's type. A whole number is a float too; True is no number; a default of None takes anything."""
    return (
        default is None
        or type(value) is type(default)
        or type(default) is float
        and type(value) is int
    )
