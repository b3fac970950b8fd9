"""What a batch executes: jobs, each a notebook with values for its parameters.

`grid` and `study` make the jobs of a batch, `check` refuses those that cannot run.
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

# The notebook of each experiment. GSM8K takes longest, so it starts first.
EXPERIMENTS = {"gsm8k": "03_gsm8k", "bbh": "02_bbh", "liar": "04_liar_ablation"}
STUDIES = ("01_semantic_gradients", "05_cost")  # these use the simulated model only
LAST = "06_figures"  # reads the records of all the others
SAMPLE = ("boolean_expressions", "date_understanding", "object_counting")  # our files of BBH
# The paper's settings; those of our notebooks are smaller, for small data.
PAPER: dict[str, dict[str, Any]] = {
    "bbh": {"hint_form": ""},
    "gsm8k": {"hint_form": "", "train": 128},
    "liar": {"train": 50, "steps": 8},
}
# By data. LIAR has more, and so has BBH in the demo, which is everything with the sample data.
DEFAULT_VARIANTS = {"sample": ("full", "no_neighbourhood", "no_gradient"), "full": ("full",)}


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
        """The notebook's parameters and their defaults; None for a default that is not a literal.

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
        except Exception as error:  # a malformed file may raise anything
            raise ParameterError(f"{self.notebook} (see SEMBACK_HOME): {error}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """All parameters of the notebook, with the values it will run with."""
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
        """The name of its files: the id of its record or, without one, the notebook's name."""
        if self.experiment is None:
            return self.notebook.stem
        task = f"bbh/{self.settings['category']}" if self.experiment == "bbh" else self.experiment
        identity = (self.settings[name] for name in ("seed", "model", "coach"))
        return results.run_id(self.experiment, task, self.way, *identity)

    @property
    def way(self) -> str:
        """How it optimises, as records call it: the variant, or the method of another library."""
        method = self.settings.get("method", "semback")
        return self.settings["variant"] if method == "semback" else method

    def arguments(self, function: Callable) -> dict[str, Any]:
        """The settings that are parameters of a function."""
        names = inspect.signature(function).parameters.keys()
        return {name: value for name, value in self.settings.items() if name in names}

    def task(self) -> tasks.Task:
        """The task that the experiment's notebook will create.

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
            Settings of a model, or a budget, that are not valid.
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
        With the full data, sizes are the paper's (`PAPER`) unless `extra` overrides them.
    categories : sequence of str, optional
        Files of BBH; by default all of them.
    variants : sequence of str, optional
        See `semback.variants`; by default those of the paper for LIAR, and `DEFAULT_VARIANTS` for
        the others.
    methods : sequence of str, optional
        "semback" and names in `variants.METHODS`; by default "semback". If neither experiments nor
        variants nor methods are chosen, and the data is the sample, BBH has all of both.
    seeds : sequence of int
    models : sequence of (str, str)
        Pairs of the answering model and its coach.
    name : str
        The batch; its files are in ``runs/<name>``.
    extra : Mapping, optional
        Other parameters of the experiments' notebooks. A string is parsed as JSON unless the
        notebook's default is a string too.

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
        chosen, optimisers = variants or DEFAULT_VARIANTS[data], methods or ("semback",)
        if experiment == "liar" and not variants:
            names = variant_names(tasks.liar(train=1).graph)
            chosen = [name for name in names if name not in ("comment", "critique")]
        elif experiment == "bbh" and demo:
            chosen, optimisers = tuple(VARIANTS), ("semback", *PEERS)
        ways: list[dict[str, str]] = []
        for method in optimisers:
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
        and parameters of notebooks; those of ``[all]`` apply to every table.
    name : str
        The batch.
    **overrides
        Replace values in the file.

    Raises
    ------
    ParameterError
        The file cannot be read, or as `grid` raises it.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        choices = [{**tables.get("all", {}), **table, **overrides} for table in tables["jobs"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ParameterError(f"{path} is not a study file: {error!r}") from None
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
        A name that no batch can have; or a job that cannot run, with its notebook, the parameter
        and the values that it takes.
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
        if default is not None and type(value) not in accepted:  # True is not a number
            raise ParameterError(f"{key} is {value!r}; it takes a value such as {default!r}")
    if job.parameters.get("name", name) != name:
        raise ParameterError(f"name is {job.parameters['name']!r}, but the batch is {name!r}")
    if job.experiment:
        _check_experiment(job)


def _check_experiment(job: Job) -> None:
    task, variant = job.task(), job.settings["variant"]
    variant_settings(variant, task.graph)
    method = job.settings.get("method", "semback")
    known("method", method, ("semback", *METHODS))
    if method != "semback" and variant != "full":
        raise ParameterError(f"variant is {variant!r}, which the method {method!r} does not have")
    if method in PEERS:
        from ..baselines import python  # it imports a web server

        python()
    check_settings(job.arguments(descend), len(task.train))
    job.models(task)


def _literal(text: str) -> Any:
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)


def _parsed(value: Any, default: Any) -> Any:
    """A value from the command line, where everything is text, in the type of its default."""
    if isinstance(value, str) and not isinstance(default, str):
        with suppress(ValueError, RecursionError):  # `check` refuses what is not JSON
            return json.loads(value)
    return value
