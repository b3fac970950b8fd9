"""The `semback` command: run batches of notebooks, see what they would cost, look at results, care for data and recordings."""

import os
import signal
import sys
from contextlib import suppress
from textwrap import indent

import click

from ..errors import ParameterError, SembackError
from ..tasks import data as files
from ..usage import SIMULATED
from .cache import cache


class Plainly(click.Group):
    """A group of commands whose errors are one message each: exit code 2 for a wrong argument, 1 for anything else, 130 for Ctrl-C."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except SembackError as error:
            click.echo(f"semback: {error}", err=True)
            ctx.exit(2 if isinstance(error, ParameterError) else 1)
        except KeyboardInterrupt:
            click.echo(
                "semback: stopped. What is complete stays, and the responses that came are in the cache: the same command "
                "goes on from there.",
                err=True,
            )
            ctx.exit(130)


@click.group(
    cls=Plainly, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(package_name="semback")
def main():
    """Semantic backpropagation on language-model systems: experiments, and exact reruns of them.

    Results are in runs/NAME in the checkout: SEMBACK_HOME, or the nearest folder, from here upwards, with notebooks and cache.
    """


main.add_command(cache)


def _options(command):
    """The options that say which runs there are; the same for `run` and `plan`."""
    for option in reversed(
        (
            click.argument("experiments", nargs=-1, metavar="[bbh|gsm8k|liar]..."),
            click.option(
                "--data",
                type=click.Choice(["sample", "full"]),
                default="sample",
                show_default=True,
                help="Our own small samples, or the real files (see `semback data`).",
            ),
            click.option(
                "--name",
                help="Of the batch; its files are in runs/NAME.  [default: demo for the sample data, full for the full]",
            ),
            click.option(
                "--category",
                "categories",
                multiple=True,
                help="A file of BBH; may be repeated.  [default: all]",
            ),
            click.option(
                "--variant",
                "variants",
                multiple=True,
                help="full, no_gradient, no_neighbourhood, no_gate or only_NODE; may be repeated.  [default: LIAR all; others full, "
                "and with the sample data no_gradient and no_neighbourhood]",
            ),
            click.option(
                "--seed",
                "seeds",
                type=int,
                multiple=True,
                default=(0,),
                show_default=True,
                help="May be repeated.",
            ),
            click.option(
                "--model",
                "models",
                multiple=True,
                default=(SIMULATED,),
                show_default=True,
                help="Who answers, as OPENAI_BASE_URL knows it; may be repeated.",
            ),
            click.option(
                "--coach", help="Who writes gradients and instructions.  [default: the model]"
            ),
            click.option(
                "--train", type=int, help="Training questions.  [default: the notebook's]"
            ),
            click.option("--steps", type=int, help="Updates to try.  [default: the notebook's]"),
            click.option(
                "-p",
                "--parameter",
                "parameters",
                type=(str, str),
                multiple=True,
                metavar="NAME VALUE",
                help="Any other parameter of the experiments' notebooks; may be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def _jobs(
    experiments, data, name, categories, variants, seeds, models, coach, train, steps, parameters
) -> tuple[list, str]:
    """The jobs that the options describe, checked, and the name of their batch."""
    from ..batch.jobs import check, grid

    name = name or {"sample": "demo", "full": "full"}[data]
    extra = {"train": train, "steps": steps} | dict(parameters)
    jobs = grid(
        experiments,
        data,
        categories,
        variants,
        seeds,
        [(model, coach or model) for model in models],
        name,
        {key: value for key, value in extra.items() if value is not None},
    )
    check(jobs, name)
    return jobs, name


def _heed_signals() -> None:
    """To be stopped by another program is a Ctrl-C too, and so is a terminal that is closed or a connection that is lost, unless that is to
    be ignored (nohup)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def end(*_):
        for stream in terminals:  # where nothing can be said any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        raise KeyboardInterrupt

    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, end)


@main.command()
@_options
@click.option(
    "--jobs",
    "workers",
    type=click.IntRange(min=1),
    help="Notebooks at one time.  [default: one a processor]",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Of a Dask scheduler that runs the notebooks; needs semback[dask].",
)
@click.option("--again", is_flag=True, help="Run also what is complete.")
def run(workers, scheduler, again, **options):
    """Execute the notebooks of experiments, several at a time, show the results, and write a report of them.

    Without a choice: all experiments, and the figures after them. What is complete with the same parameters, notebook and semback is
    skipped. Exit code 1 if a notebook failed; the others run on.
    """
    from ..batch import runner as batch
    from ..report import comparisons, results

    _heed_signals()
    jobs, name = _jobs(**options)
    asked = [job for job in jobs if job.experiment and (again or not batch.complete(job, name))]
    if any(
        not job.settings[role].startswith(SIMULATED) for job in asked for role in ("model", "coach")
    ):
        from ..batch.plan import plan, total

        click.echo(
            f"if nothing of it were recorded: {total(plan(asked))}; `semback plan` has the details",
            err=True,
        )
    early = []

    def meanwhile():
        with suppress(SembackError):  # which is told when all is done
            early.append(_write_report(name))

    outcomes = batch.run(jobs, name, workers, scheduler, again, meanwhile=meanwhile)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    folder = results.folder(name)
    some = any((folder / "results").glob("*.json"))
    if some:
        click.echo(comparisons.summary(results.load(name)))
    calls = results.calls(
        name,
        [
            outcome.job.id
            for outcome in outcomes
            if outcome.state == "ok" and outcome.job.experiment
        ],
    )
    click.echo(
        f"\ncalls               {', '.join(f'{count:,} {kind}' for kind, count in calls.items())}"
    )
    click.echo(f"executed notebooks  {folder / 'notebooks'}")
    if some:
        click.echo(f"results             {folder / 'results'}")
        click.echo(
            f"figures             {folder / 'figures'}"
            if (folder / "figures").is_dir()
            else f"figures: semback figures {name}"
        )
        click.echo(f"report              {early[0] if early else _write_report(name)}")
    for error in dict.fromkeys(
        outcome.error for outcome in failed
    ):  # a missing key, for one, is the same in all of them
        alike = "".join(f"\nfailed: {outcome.path}" for outcome in failed if outcome.error == error)
        click.echo(f"{alike}\n{indent(error, '  ')}", err=True)
    if failed:
        sys.exit(1)


@main.command()
@_options
def plan(**options):
    """Show what the same options of `run` would ask: calls, tokens and dollars. Nothing is sent."""
    from ..batch import plan

    click.echo(plan.as_text(plan.plan(_jobs(**options)[0])))


@main.command()
@click.argument("name")
def table(name):
    """Show the results of a batch, and what is distinguishable in them."""
    from ..report import comparisons, results

    click.echo(comparisons.summary(results.load(name)))


@main.command()
@click.argument("name")
def figures(name):
    """Make the figures of a batch again: PNG, PDF and the data of each as CSV."""
    from ..report import figures

    for path in figures.all_figures(name):
        click.echo(path)


@main.command()
@click.argument("name")
def report(name):
    """Write the report of a batch anew: one page with its tables, figures, gradients, notebooks and recordings."""
    click.echo(_write_report(name))


def _write_report(name):
    from ..report.page import write

    return write(name)


@main.group()
def data():
    """The full data sets: 27 files of BBH, GSM8K and LIAR, in SEMBACK_DATA_DIR or downloaded."""


@data.command()
def fetch():
    """Download what is missing, and verify it."""
    click.echo(f"{len(files.fetch())} files are there and verified")


@data.command()
def verify():
    """Say of every file whether it is there and unaltered; exit code 1 if one is not."""
    rows = files.verify()
    for row in rows:
        click.echo(f"{row['state']:9}{row['path']}")
    sys.exit(any(row["state"] != "ok" for row in rows))
