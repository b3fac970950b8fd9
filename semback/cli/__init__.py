"""The `semback` command: run batches of notebooks, see their cost and results, manage data.

Imports inside of commands keep `semback --help` quick.
"""

import os
import shutil
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from ..errors import ParameterError, SembackError
from ..tasks import data as files
from ..usage import SIMULATED
from .cache import cache, echo, options
from .proxy import proxy, run_with


class Commands(click.Group):
    """Commands whose errors are one message and an exit code.

    2: a wrong argument. 1: any other error. 130: Ctrl-C.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SembackError as error:
            echo(f"semback: {error}", error=True)
            ctx.exit(2 if isinstance(error, ParameterError) else 1)
        except KeyboardInterrupt:
            echo("semback: stopped; the same command continues from there", error=True)
            ctx.exit(130)


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="semback")
def main() -> None:
    """Semantic backpropagation on language-model systems: experiments, and exact reruns of them.

    Results are in runs/NAME in the checkout: SEMBACK_HOME or, from here upwards, the nearest folder
    that has notebooks and cache.
    """


for command in (cache, proxy, run_with):
    main.add_command(command)

PASSED = ("train", "steps", "test", "control")
PASSED += ("in_flight", "requests_per_minute", "tokens_per_minute")
PASSED += ("base_url", "coach_url")  # options that are parameters of the notebooks
OPTIONS = (  # of `run` and `plan`
    click.argument("experiments", nargs=-1, metavar="[bbh|gsm8k|liar]..."),
    click.option("--study", type=click.Path(), help="A TOML file that lists the jobs."),
    click.option("--data", default="sample", help="sample: ours; full: the real files."),
    click.option("--name", help="The batch.  [default: demo; full for the full data]"),
    click.option("--category", "categories", multiple=True, help="A file of BBH.  [default: all]"),
    click.option("--variant", "variants", multiple=True, help="full, no_gradient, only_NODE, …"),
    click.option("--method", "methods", multiple=True, help="semback, textgrad, copro, …, start."),
    click.option("--seed", "seeds", type=int, multiple=True, default=(0,)),
    click.option("--model", multiple=True, help="Answers the questions.  [default: simulated]"),
    click.option("--coach", help="Writes gradients and instructions.  [default: the model]"),
    click.option("--train", type=int, help="Training questions.  [default: the notebook's]"),
    click.option("--steps", type=click.IntRange(0), help="Updates.  [default: the notebook's]"),
    click.option("--control", is_flag=True, default=None, help="Evaluate the start graph twice."),
    click.option("--test", type=int, help="The first N test questions.  [default: all]"),
    click.option("--in-flight", type=int, help="Requests at a time, in all notebooks together."),
    click.option("--requests-per-minute", type=float, help="The limit of your account."),
    click.option("--tokens-per-minute", type=float, help="The limit of your account."),
    click.option("--base-url", help="The server of the models.  [default: OPENAI_BASE_URL]"),
    click.option("--coach-url", help="The coach's (SEMBACK_COACH_API_KEY).  [default: the same]"),
    click.option("-p", "--parameter", type=(str, str), multiple=True, help="Another parameter."),
)


@main.command()
@options(OPTIONS)
@click.option("--jobs", type=click.IntRange(min=1), help="Notebooks at a time.  [default: CPUs]")
@click.option("--again", is_flag=True, help="Also run what is complete.")
@click.option("--local", type=click.IntRange(1), metavar="THREADS", help="Serve the models here.")
def run(jobs: int | None, again: bool, local: int | None, **choice: Any) -> None:
    """Execute the notebooks of experiments, show the results, and write a report of them.

    By default: all experiments, and the figures after them. --category, --variant, --method,
    --seed, --model and -p may be repeated. What is complete with the same parameters, notebook and
    semback is skipped. Exit code 1 if a notebook failed. With --local, the models are GGUF files,
    or those of `semback.llm.llama`, and llama.cpp's server runs meanwhile with that many threads.
    """
    if not local:
        _run(jobs, again, **choice)
        return
    from ..llm import llama

    def name(file: str) -> str:
        return Path(file).name.removesuffix(".gguf")

    files = [*choice["model"], *filter(None, [choice["coach"]])]
    choice["model"] = [name(file) for file in choice["model"]]
    choice["coach"] = choice["coach"] and name(choice["coach"])
    named, _ = _jobs(**choice)
    names = {job.settings[role] for job in named if job.experiment for role in ("model", "coach")}
    served = {name(file): file for file in [*names, *files]}
    with llama.serving(list(served.values()), threads=local) as url:
        os.environ["OPENAI_BASE_URL"] = url
        _run(jobs, again, **choice)


@main.command()
@options(OPTIONS)
def plan(**choice: Any) -> None:
    """Show what `run` would request with these options: calls, tokens, dollars. Nothing is sent.

    It also shows which difference between two methods the test questions can find, with 80 % power
    at the two-sided level of 5 %.
    """
    from ..batch import estimate

    jobs, _ = _jobs(**choice)
    echo(f"{estimate.as_text(estimate.plan(jobs))}\n\n{estimate.differences(jobs)}".rstrip())


@main.command()
@click.argument("name")
@click.argument("other", default="")
@click.option("--full", is_flag=True, help="All columns, and the comparisons in words.")
@click.option("--csv", is_flag=True, help="The results as CSV.")
def table(name: str, other: str, full: bool, csv: bool) -> None:
    """Show the results of a batch, and which differences between them are significant.

    With OTHER, a second batch: how far they agree, question by question, and where they first
    differ.
    """
    from ..report import batches, results, show, summary

    if other:
        echo(batches.side_by_side(name, other))
        return
    records = results.load(name)
    if csv:
        echo(results.table(records).to_csv(index=False).rstrip())
    elif full:
        echo(show.as_text(*summary.summary_view(summary.Summary(records))))
    else:
        echo(summary.Summary(records).text(shutil.get_terminal_size().columns))


@main.command()
def runs() -> None:
    """List the batches in runs/: size, models, when they ran, and their reports."""
    from ..report import batches

    echo(batches.listing())


@main.command()
@click.argument("names", nargs=-1, required=True)
def claims(names: tuple[str, ...]) -> None:
    """Show the claims of the paper's abstract and what batches say about them, as Markdown."""
    from ..report import claims

    echo(claims.markdown(*names))


@main.command()
@click.argument("name")
def figures(name: str) -> None:
    """Make the figures of a batch again: PNG, PDF, LaTeX, and the data of each as CSV."""
    from ..report import figures

    echo("\n".join(map(str, figures.all_figures(name))))


@main.command()
@click.argument("name")
def report(name: str) -> None:
    """Write the report of a batch again: a page with its tables, figures, notebooks, recordings."""
    from ..report import page

    echo(page.write(name))


@main.group()
def data() -> None:
    """The full data sets: 27 files of BBH, GSM8K and LIAR, in SEMBACK_DATA_DIR or downloaded."""


@data.command()
def fetch() -> None:
    """Download the files that are missing, and verify all of them."""
    echo(f"{len(files.fetch())} files are there and verified")


@data.command()
def verify() -> None:
    """Show for every file whether it is there and unaltered. Exit code 1 if one is not."""
    rows = files.verify()
    for row in rows:
        echo(f"{row['state']:9}{row['path']}")
    sys.exit(any(row["state"] != "ok" for row in rows))


def _jobs(name, model, coach, parameter, **choice):
    """The jobs that the options describe, checked, and the name of their batch."""
    from .. import batch

    if name is None and choice["study"]:
        name = Path(choice["study"]).stem
    if name is None:
        name = "demo" if choice["data"] == "sample" else "full"
    extra = {key: choice.pop(key) for key in PASSED} | dict(parameter)
    extra = {key: value for key, value in extra.items() if value is not None}
    if study := choice.pop("study"):
        own = {"model": model[0]} if model else {}
        own |= {"coach": coach} if coach else {}
        jobs = batch.study(study, name, **own, **extra)
    else:
        models = [(each, coach or each) for each in model or (SIMULATED,)]
        jobs = batch.grid(**choice, models=models, name=name, extra=extra)
    batch.check(jobs, name)
    return jobs, name


def _show_results(name: str, executed: list[str]) -> None:
    from ..report import page, results
    from ..report.summary import Summary

    folder = results.folder(name)
    calls = ", ".join(f"{count:,} {kind}" for kind, count in results.calls(name, executed).items())
    if any((folder / "results").glob("*.json")):
        report = page.write(name)
        echo(f"{Summary(results.load(name)).text(shutil.get_terminal_size().columns)}\n")
        echo(f"report     {report}\nresults    {folder / 'results'}")
        echo(f"details    semback table {name} --full")
    echo(f"notebooks  {folder / 'notebooks'}\ncalls      {calls}")


def _stop_on_signals() -> None:
    """Let SIGTERM, and SIGHUP where it is not ignored (nohup), stop the command as Ctrl-C does."""

    def hang_up(*_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a shell sends it too
        sys.stdout = sys.stderr = open(os.devnull, "w")  # writing to a closed terminal is an error
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, hang_up)


def _run(jobs: int | None, again: bool, **choice: Any) -> None:
    from .. import batch
    from ..batch import estimate
    from ..report import results

    _stop_on_signals()
    chosen, name = _jobs(**choice)
    folder = results.folder(name)
    new = [job for job in chosen if job.experiment and (again or not batch.complete(job, folder))]
    roles = [job.settings[role] for job in new for role in ("model", "coach")]
    if not all(model.startswith(SIMULATED) for model in roles):
        echo(f"{estimate.total(batch.plan(new))}; see `semback plan`", error=True)
    outcomes = batch.run(chosen, name, jobs, again)
    executed = [each.job for each in outcomes if each.state == "ok"]
    _show_results(name, [job.id for job in executed if job.experiment])
    failures = defaultdict(list)
    for outcome in outcomes:
        if outcome.state == "failed":
            failures[outcome.error].append(f"\nfailed: {outcome.path}")
    for error, failed in failures.items():  # all notebooks may have the same, such as a missing key
        echo(f"{''.join(failed)}\n{error}", error=True)
    sys.exit(1 if failures else 0)
