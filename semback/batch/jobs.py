"""What a batch executes. A `Job` is a notebook with values for its parameters.

`grid` makes the jobs of a batch, `check` refuses those that cannot run.
"""

import ast
import inspect
import itertools
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from papermill.translators import PythonTranslator

from .. import llm, tasks
from ..cache.recording import canonical
from ..descend import check_settings, descend
from ..errors import ParameterError, known
from ..paths import home
from ..report import results
from ..usage import SIMULATED
from ..variants import METHODS, PEERS, VARIANTS, variant_names, variant_settings

# Their notebooks. GSM8K takes longest, so it starts first.
EXPERIMENTS = {"gsm8k": "03_gsm8k", "bbh": "02_bbh", "liar": "04_liar_ablation"}
STUDIES = ("01_semantic_gradients", "05_cost")  # these use the simulated model only
LAST = "06_figures"  # reads the records of all the others
SAMPLE = ("boolean_expressions", "date_understanding", "object_counting")  # our files of BBH
# What the paper has where our notebooks, made for small data, have less.
PAPER: dict[str, dict[str, Any]] = {
    "bbh": {"hint_form": ""},
    "gsm8k": {"hint_form": "", "train": 128},
    "liar": {"train": 50, "steps": 8},
}
# By data. The demo, which is everything with the sample data, has more.
DEFAULT_VARIANTS = {"sample": ("full", "no_neighbourhood", "no_gradient"), "full": ("full",)}
DEMO_VARIANTS = {"bbh": tuple(VARIANTS)}
DEMO_METHODS = {"bbh": ("semback", *PEERS)}


@dataclass(frozen=True)
class Job:
    """A notebook to execute.

    Parameters
    ----------
    notebook : Path
    parameters : Mapping
        Values for parameters of the notebook; the others keep their defaults.
    """

    notebook: Path
    parameters: Mapping[str, Any]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The notebook's parameters and their defaults; None for a default that is no literal.

        Raises
        ------
        ParameterError
            The notebook cannot be read.
        """
        try:
            cells = nbformat.read(self.notebook, as_version=4).cells
            tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
            found = [each for cell in tagged[:1] for each in PythonTranslator.inspect(cell)]
            return {parameter.name: _literal(parameter.default) for parameter in found}
        except Exception as error:  # a malformed file may cause any
            raise ParameterError(f"{self.notebook} (see SEMBACK_HOME): {error}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """All parameters of the notebook, with the values that it will run with."""
        settings = {**self.defaults, **self.parameters}
        if settings.get("coach", "") is None:
            settings["coach"] = settings["model"]
        return settings

    @property
    def experiment(self) -> str | None:
        """Which of `EXPERIMENTS` this is; None for a notebook that writes no record."""
        return {stem: name for name, stem in EXPERIMENTS.items()}.get(self.notebook.stem)

    @cached_property
    def id(self) -> str:
        """The name of its files: that of its record, or else that of the notebook."""
        if self.experiment is None:
            return self.notebook.stem
        task = f"bbh/{self.settings['category']}" if self.experiment == "bbh" else self.experiment
        identity = (self.settings[name] for name in ("seed", "model", "coach"))
        return results.run_id(self.experiment, task, self.way, *identity)

    @property
    def way(self) -> str:
        """What records call how it optimises: the variant, or the method in place of semback's."""
        method = self.settings.get("method", "semback")
        return self.settings["variant"] if method == "semback" else method

    def arguments(self, function: Callable) -> dict[str, Any]:
        """The settings that are parameters of a function."""
        names = inspect.signature(function).parameters.keys()
        return {name: value for name, value in self.settings.items() if name in names}

    def task(self) -> tasks.Task:
        """The task that the experiment's notebook will make.

        Raises
        ------
        ParameterError, DataError
            As the function in `semback.tasks` raises them.
        """
        function = getattr(tasks, self.experiment or "")
        return function(**self.arguments(function))

    def models(self, task: tasks.Task) -> tuple[llm.LLM, llm.LLM]:
        """The experiment's model and coach, with its budget; nothing is sent.

        Raises
        ------
        ParameterError
            Settings of a model, or a budget, that cannot be used.
        """
        budget = llm.Budget(dollars=self.settings.get("dollars"))
        return llm.models(task=task, budget=budget, **self.arguments(llm.models))


def grid(
    experiments: Sequence[str] = (),
    data: str = "sample",
    categories: Sequence[str] = (),
    variants: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    models: Sequence[tuple[str, str]] = ((SIMULATED, SIMULATED),),
    name: str = "demo",
    extra: Mapping[str, Any] | None = None,
) -> list[Job]:
    """The jobs of a batch: every experiment × category × way × seed × (model, coach).

    A way is a variant of semback's own method, or a method of another library.

    Parameters
    ----------
    experiments : sequence of str, optional
        Names in `EXPERIMENTS`. By default all of them, followed by `LAST` and, for the sample
        data, preceded by `STUDIES`.
    data : {"sample", "full"}
        With the full data, sizes are the paper's (`PAPER`) unless `extra` has others.
    categories : sequence of str, optional
        Files of BBH; by default all of the data.
    variants : sequence of str, optional
        See `semback.variants`; by default those of the paper for LIAR, and `DEFAULT_VARIANTS` for
        the others.
    methods : sequence of str, optional
        "semback" and names in `variants.METHODS`; by default "semback". Where neither experiments
        nor variants nor methods are chosen, and the data is the sample, there are more of both.
    seeds : sequence of int
    models : sequence of (str, str)
        Pairs of the model that answers and its coach.
    name : str
        The batch; its files are in ``runs/<name>``.
    extra : Mapping, optional
        Other parameters of the experiments' notebooks. A text is parsed as JSON unless the
        notebook's default is a text too.

    Returns
    -------
    list of Job

    Raises
    ------
    ParameterError
        An unknown experiment or data set, categories without BBH, a missing notebook.
    """
    known("data", data, DEFAULT_VARIANTS)
    if categories and "bbh" not in (experiments or EXPERIMENTS):
        raise ParameterError("only bbh has categories")
    demo = data == "sample" and not (experiments or variants or methods)
    files = SAMPLE if data == "sample" else tasks.NLP + tasks.ALGORITHMIC
    folder = home() / "notebooks"
    jobs = []
    for experiment in experiments or EXPERIMENTS:
        known("experiment", experiment, EXPERIMENTS)
        notebook = folder / f"{EXPERIMENTS[experiment]}.ipynb"
        defaults = Job(notebook, {}).defaults
        more = dict(PAPER[experiment]) if data == "full" else {}
        more |= {key: _parsed(value, defaults.get(key)) for key, value in (extra or {}).items()}
        parts: list[dict[str, str]] = [{}]
        if experiment == "bbh":
            parts = [{"category": part} for part in categories or files]
        chosen = variants or (demo and DEMO_VARIANTS.get(experiment)) or DEFAULT_VARIANTS[data]
        if experiment == "liar" and not variants:
            names = variant_names(tasks.liar(train=1).graph)
            chosen = [name for name in names if name not in ("comment", "critique")]
        ways: list[dict[str, str]] = []
        for method in methods or (demo and DEMO_METHODS.get(experiment)) or ("semback",):
            own = [{"variant": variant} for variant in chosen]
            ways += own if method == "semback" else [{"method": method}]
        for part, way, seed, (model, coach) in itertools.product(parts, ways, seeds, models):
            run = {**way, "seed": seed, "model": model, "coach": coach}
            jobs.append(Job(notebook, {"name": name, "data": data, **part, **run, **more}))
    if experiments:
        return jobs
    studies = [Job(folder / f"{study}.ipynb", {}) for study in STUDIES if data == "sample"]
    return [*studies, *jobs, Job(folder / f"{LAST}.ipynb", {"name": name})]


def study(path: str | Path, name: str, **overrides: Any) -> list[Job]:
    """The jobs that a study file lists.

    Parameters
    ----------
    path : path
        TOML: a table ``[all]`` and tables ``[[jobs]]``. The keys of each are arguments of `grid`
        and parameters of notebooks; those of ``[all]`` are for every table.
    name : str
        The batch.
    **overrides
        Replace what the file says.

    Raises
    ------
    ParameterError
        The file cannot be read, or as `grid` raises it.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        choices = [{**tables.get("all", {}), **table, **overrides} for table in tables["jobs"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ParameterError(f"{path} is not a file of a study: {error!r}") from None
    arguments = inspect.signature(grid).parameters.keys() - {"extra", "models"}
    jobs = []
    for choice in choices:
        model = choice.pop("model", SIMULATED)
        own = {key: choice.pop(key) for key in arguments & choice.keys()}
        models = [(model, choice.pop("coach", model))]
        jobs += grid(**{**own, "models": models, "name": name, "extra": choice})
    return [*jobs, Job(home() / "notebooks" / f"{LAST}.ipynb", {"name": name})]


def check(jobs: Iterable[Job], name: str) -> None:
    """Refuse jobs that cannot run in a batch.

    Parameters
    ----------
    jobs : iterable of Job
    name : str
        The batch.

    Raises
    ------
    ParameterError, DataError
        A name that no batch can have; or with the notebook, the parameter and the values that it
        takes.
    """
    results.folder(name)
    ids: set[str] = set()
    for job in jobs:
        try:
            _check(job, name)
        except ParameterError as error:
            raise ParameterError(f"{job.notebook.name}: {error}") from None
        if job.id in ids:
            raise ParameterError(f"two jobs would be called {job.id}; one: {dict(job.parameters)}")
        ids.add(job.id)


def _check(job: Job, name: str) -> None:
    defaults = job.defaults
    if not defaults and (job.parameters or job.experiment):
        raise ParameterError("no cell is tagged 'parameters'")
    for key, value in job.parameters.items():
        known("parameter", key, defaults)
        try:
            canonical(value)
        except (TypeError, ValueError):
            raise ParameterError(f"{key} is {value!r}; it takes JSON (no NaN, Infinity)") from None
        default = defaults[key]
        accepted = [int, float] if type(default) is float else [type(default)]
        if default is not None and type(value) not in accepted:  # True is no number
            raise ParameterError(f"{key} is {value!r}; it takes a value such as {default!r}")
    if job.parameters.get("name", name) != name:
        raise ParameterError(f"name is {job.parameters['name']!r}, but the batch is {name!r}")
    if job.experiment:
        task = job.task()
        variant_settings(job.settings["variant"], task.graph)
        _check_method(job.settings.get("method", "semback"), job.settings["variant"])
        check_settings(job.arguments(descend), len(task.train))
        job.models(task)


def _check_method(method: str, variant: str) -> None:
    known("method", method, ("semback", *METHODS))
    if method == "semback":
        return
    if variant != "full":
        raise ParameterError(f"variant is {variant!r}, which the method {method!r} does not have")
    if method in PEERS:
        from ..baselines import python  # it imports a web server

        python()


def _literal(text: str) -> Any:
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)


def _parsed(value: Any, default: Any) -> Any:
    """A value from the command line, where everything is text, in the type of its default."""
    if isinstance(value, str) and not isinstance(default, str):
        with suppress(ValueError, RecursionError):  # `check` refuses what is no JSON
            return json.loads(value)
    return value
