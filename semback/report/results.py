"""What is kept of a finished run for tables and figures: one JSON record a run, and the DataFrames made of them.

A record holds only what follows from the parameters and the recorded responses, so a rerun gives the same bytes. What
depends on circumstances (which calls were live) is in the Run that is saved beside it, under `history/`.

Accuracies are shares from 0 to 1; intervals are 95 %. Results of different models, data, variants or conditions are never pooled.
"""

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError, ParameterError, check
from ..llm.prices import priced_rows
from ..paths import home, write_text
from ..run import Run, Scores
from ..tasks import Task
from ..variants import VARIANTS
from . import conditions, kept
from .statistics import complete, mean_over_files, pooled, tested, wilson

SETTING = [
    "model",
    "coach",
    "data",
    "conditions",
]  # what two results must share to stand in one row, or one plot
RUN = ["experiment", "task", "variant", "seed", *SETTING]  # what tells a run from all others
NAMED = RUN[:6]  # of them, what its file is named after
NAMES = {
    "bbh": "BBH",
    "gsm8k": "GSM8K",
    "liar": "LIAR",
}  # how tables and figures call the experiments, in their order
CALLS = (
    "recorded",
    "live",
    "repeated",
    "cut",
    "refused",
    "unreadable",
)  # of a run; repeated: asked before by the same one
USAGE = "phase model calls repeated cut refused prompt_tokens completion_tokens cost answered_by".split()  # recorded already or not
GROUPS = {"nlp": "BBH NLP", "algorithmic": "BBH algorithmic"}


def run_id(experiment: str, task: str, variant: str, seed: int, model: str, coach: str) -> str:
    """The file name of a run, without ending: what tells it from the other runs of a batch."""
    parts = [
        *([] if task.startswith(experiment) else [experiment]),
        task,
        variant,
        f"seed{seed}",
        *dict.fromkeys([model, coach]),
    ]
    return kept.file_name("-".join(re.sub(r"[^\w.]+", "_", part) for part in parts))


def run_of(record: dict) -> str:
    """The `run_id` of a record."""
    return run_id(*(record[key] for key in NAMED))


def folder(name: str) -> Path:
    """Where the batch of this name keeps its files: `runs/<name>` in the checkout. ParameterError for what is no name of a folder."""
    if (
        not isinstance(name, str)
        or not re.fullmatch(r"(?!\.)[^/\\\0\ud800-\udfff]+", name)
        or len(name.encode()) > 200
    ):
        raise ParameterError(
            f"a batch cannot be called {name!r}: it names a folder in runs/: short, without slashes or a dot in front"
        )
    return home() / "runs" / name


def path_of(name: str, run: str) -> Path:
    """Where the record of the run of a batch with this `run_id` is, or will be."""
    return folder(name) / "results" / f"{run}.json"


def save(
    name: str,
    experiment: str,
    variant: str,
    data: str,
    task: Task,
    run: Run,
    before: Scores,
    after: Scores,
    group: str = "",
) -> Path:
    """Write the record of a run to `runs/<name>/results/`, beside it the Run itself and its calls to `history/`, and the keys of the
    responses that they rest on to `responses/`, one a line.

    Parameters
    ----------
    name: of the batch. experiment: "bbh", "gsm8k", "liar" or your own. variant: see `ablations`. data: "sample" or "full".
    task, run: what was run. before, after: scores of the start graph and of `run.graph` on the test examples.
    group: the part of the benchmark the task belongs to, for averages: "nlp" or "algorithmic" in BBH.

    Returns the path of the record; one that is there is replaced, unless it is another run's whose names differ in signs only: DataError.
    ParameterError: another thing than these, or a task of another graph than the run's.
    """
    check(str, "a text", experiment=experiment, variant=variant, data=data, group=group)
    check(Task, "a Task", task=task)
    check(Run, "a Run, as descend gives it", run=run)
    check(Scores, "Scores, as evaluate gives them", before=before, after=after)
    if task.graph != run.steps[0].candidate:
        raise ParameterError(
            f"the run of {run.task!r} began with another graph than that of the task {task.name!r}; give its own"
        )
    record = {
        "experiment": experiment,
        "task": task.name,
        "group": group,
        "variant": variant,
        "data": data,
        "seed": run.settings["seed"],
        "model": run.model,
        "coach": run.coach,
        "simulated": run.simulated,
        "settings": run.settings,
        "stopped": run.stopped,
        "overlap": task.overlap,
        "params": run.params,
        "train": run.training,
        "test": {
            stage: {
                "questions": len(scores.rows),
                "correct": scores.correct,
                "unreadable": scores.unreadable,
                "answers": [[row.id, row.answer, row.correct] for row in scores.rows],
            }
            for stage, scores in (("before", before), ("after", after))
        },
        "instructions": {
            node.name: [node.instruction, run.graph[node.name].instruction]
            for node in task.graph.nodes
        },
        "usage": [
            {"stage": stage, **{name: row[name] for name in USAGE}}
            for stage, scored in (("train", run), ("test before", before), ("test after", after))
            for row in priced_rows(scored.usage)
        ],
    }
    identity = run_of(record)
    kept.refuse_another(path := path_of(name, identity), {key: record[key] for key in NAMED})
    run.save(folder(name) / "history" / f"{identity}.json")
    usages = run.usage, before.usage, after.usage
    made = {
        kind: sum(getattr(count, kind) for usage in usages for count in usage.counts.values())
        for kind in CALLS[:-1]
    }
    made["unreadable"] = sum(len(usage.failures) for usage in usages)
    write_text(folder(name) / "history" / f"{identity}.calls.json", json.dumps(made) + "\n")
    keys = sorted({key for usage in usages for key in usage.keys})
    write_text(folder(name) / "responses" / f"{identity}.txt", "".join(f"{key}\n" for key in keys))
    return write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def calls(name: str, runs: Iterable[str]) -> dict[str, int]:
    """How many calls some runs of a batch made, by what became of them (`CALLS`), when they ran last."""
    counts = [
        json.loads((folder(name) / "history" / f"{run}.calls.json").read_text(encoding="utf-8"))
        for run in runs
    ]
    return {kind: sum(count[kind] for count in counts) for kind in CALLS}


def load(name: str) -> list[dict]:
    """The records of the batch of this name, sorted by file name. DataError where there are none, or one is not a record."""
    if not (paths := sorted((folder(name) / "results").glob("*.json"))):
        raise DataError(
            f"there are no results in {folder(name) / 'results'}; `semback run --name {name}` makes them"
        )
    return [
        kept.read(
            path,
            kept.record,
            "is not the record of a run; move it away, or run that notebook again",
        )
        for path in paths
    ]


def responses(name: str) -> dict[str, list[str]]:
    """The keys of the responses that each run of a batch rests on, by the run's id."""
    return {
        path.stem: path.read_text(encoding="utf-8").split()
        for path in sorted((folder(name) / "responses").glob("*.txt"))
    }


def _ordered(records) -> list[dict]:
    """With `conditions`; the paper's experiments, groups, variants first, nodes as in their graph. DataError for none, or one twice."""

    def place(record):
        variants = [*VARIANTS, *(f"only_{node}" for node in record["instructions"])]
        orders = {"experiment": list(NAMES), "group": list(GROUPS), "variant": variants}
        experiment, group, variant = (
            order.index(record[key]) if record[key] in order else len(order)
            for key, order in orders.items()
        )
        return (
            experiment,
            record["experiment"],
            group,
            record["task"],
            variant,
            *(record[key] for key in RUN[2:]),
        )

    try:
        records = sorted(conditions.labelled(list(records)), key=place)
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"these are no records of runs, as results.load gives them: {error!r}"
        ) from None
    if not records:
        raise DataError("there are no results to show; `semback run` makes some")
    for one, other in zip(records, records[1:]):
        if all(one[key] == other[key] for key in RUN):
            raise DataError(
                f"two results are of the same run: {', '.join(f'{key} {one[key]}' for key in RUN)}"
            )
    return records


def _columns(record: dict) -> dict:
    """What was run: the first columns of `frame` and `steps`; `result` and `method` are what tables and figures call task and variant."""
    keys, variant = (
        ("experiment", "task", "group", "variant", "seed", *SETTING, "simulated"),
        record["variant"],
    )
    name = record["task"].removeprefix(record["experiment"]).removeprefix("/")
    return {
        "result": f"{NAMES.get(record['experiment'], record['experiment'])} {name}".strip(),
        **{key: record[key] for key in keys},
        "method": VARIANTS[variant][0]
        if variant in VARIANTS
        else variant.replace("only_", "only ", 1),
        "run": run_of(record),
    }


def parts(rows):
    """What results are shown of, of rows of `frame`: (name, rows) of each task, and then of each group of BBH files and of all of them,
    where that is more than a file or a group."""
    yield from rows.groupby("result", sort=False)
    bbh, most = rows[rows["experiment"] == "bbh"], 1
    for group, name in GROUPS.items():
        mine = bbh[bbh["group"] == group]
        most = max(most, files := mine["task"].nunique())
        if files > 1:
            yield name, mine
    if bbh["task"].nunique() > most:
        yield "BBH all", bbh


def frame(records):
    """All results as a tidy DataFrame: one row for each run, split ("train", "test") and stage ("before", "after").

    Columns: what was run, and the file name of its record; questions, correct, accuracy, low and high (Wilson); right: {question id:
    whether it was answered rightly}, of test questions; calls, tokens and dollars that the stage asked for, recorded or not (training's
    stand with "train", "after"; dollars are NaN where a price is unknown).
    Errors: DataError where there are no records, or two of the same run.
    """
    import pandas

    rows = []
    for record in _ordered(records):
        scores = {
            ("train", "before"): record["train"][0],
            ("train", "after"): [step for step in record["train"] if step["accepted"]][-1],
            ("test", "before"): record["test"]["before"],
            ("test", "after"): record["test"]["after"],
        }
        for (split, stage), score in scores.items():
            low, high = wilson(score["correct"], score["questions"])
            asked = "train" if (split, stage) == ("train", "after") else f"{split} {stage}"
            usage = [row for row in record["usage"] if row["stage"] == asked]
            right = (
                {question: right for question, _, right in score["answers"]}
                if split == "test"
                else {}
            )
            rows.append(
                _columns(record)
                | {
                    "split": split,
                    "stage": stage,
                    "questions": score["questions"],
                    "correct": score["correct"],
                    "accuracy": score["correct"] / score["questions"],
                    "low": low,
                    "high": high,
                    "right": right,
                    "calls": sum(row["calls"] for row in usage),
                    "tokens": sum(row["prompt_tokens"] + row["completion_tokens"] for row in usage),
                    "dollars": sum(
                        float("nan") if row["cost"] is None else row["cost"] for row in usage
                    ),
                }
            )
    return pandas.DataFrame(rows)


def steps(records):
    """One row for each step of each run, as a DataFrame. Step 0 is the start graph.

    `accuracy` is the candidate's on the training examples, `low` and `high` Wilson's interval of it, all NaN where it was not evaluated;
    `accepted` whether it became the graph; `current` the accuracy of the graph after the step; `kept` why nodes kept their instruction.
    Errors: as `frame`.
    """
    import pandas

    rows = []
    for record in _ordered(records):
        for step in record["train"]:
            accuracy, low, high = [float("nan")] * 3
            if step["correct"] is not None:
                accuracy, (low, high) = (
                    step["correct"] / step["questions"],
                    wilson(step["correct"], step["questions"]),
                )
            rows.append(
                _columns(record)
                | {
                    "step": step["step"],
                    "questions": step["questions"],
                    "accuracy": accuracy,
                    "low": low,
                    "high": high,
                    "accepted": step["accepted"],
                    "current": accuracy if step["accepted"] else rows[-1]["current"],
                    "kept": "; ".join(map(": ".join, step["kept"].items())),
                }
            )
    return pandas.DataFrame(rows)


def table(records):
    """The summary of a batch as a DataFrame: one row for each setting (model, coach, data, conditions), result and variant.

    A result is a task (each BBH file is one) or a group of BBH files, averaged in the two ways that its name tells, over the seeds
    that ran all its `files`. before, after: test accuracy, the mean over the seeds; low, high: of `after`, and `interval` names their
    kind; questions: of one seed; calls, tokens, dollars: what all seeds asked for together, training included. Errors: as `frame`.
    """
    import pandas

    everything, table = frame(records), []
    for setting, rows in everything.groupby(SETTING):
        for name, mine in parts(rows):
            both = {", pooled over questions": pooled, ", mean over files": mean_over_files}
            ways = {"": pooled} if name in set(mine["result"]) else both
            for (way, score), (variant, runs) in itertools.product(
                ways.items(), mine.groupby("variant", sort=False)
            ):
                runs = complete(runs)
                before, after = tested(runs)
                table.append(
                    {
                        "result": name + way,
                        "variant": variant,
                        "method": runs["method"].iloc[0],
                        **dict(zip(SETTING, setting)),
                        "files": after["task"].nunique(),
                        "questions": after.groupby("seed")["questions"].sum().max(),
                        "before": score(before)[0],
                        **dict(zip(("after", "low", "high", "interval"), score(after))),
                        "seeds": after["seed"].nunique(),
                        "calls": runs["calls"].sum(),
                        "tokens": runs["tokens"].sum(),
                        "dollars": runs["dollars"].sum(skipna=False),
                        "simulated": bool(runs["simulated"].any()),
                    }
                )
    return pandas.DataFrame(table)


def as_text(table) -> str:
    """What `table` made, for terminals: a block for each setting; "?" where a price is unknown. ParameterError for another thing."""
    if "conditions" not in getattr(table, "columns", ()):
        raise ParameterError(
            f"as_text takes what results.table made of records, not {repr(table)[:80]}"
        )
    wide, many = table["result"].str.len().max(), "{:,}".format
    shown = {
        "result": f"{{:<{wide}}}".format,
        "variant": str,
        "files": str,
        "questions": many,
        **dict.fromkeys(("before", "after", "low", "high"), "{:.1%}".format),
        "interval": str,
        "seeds": str,
        "calls": many,
        "tokens": many,
        "dollars": "{:.2f}".format,
    }
    blocks = [
        conditions.heading(*setting)
        + "\n"
        + rows[list(shown)].to_string(index=False, formatters=shown, na_rep="?")
        for setting, rows in table.groupby(SETTING)
    ]
    if table["conditions"].str.contains(conditions.CONTAMINATED).any():
        blocks.append(
            f"{conditions.CONTAMINATED}: training questions are among the test questions, so these accuracies are too high"
        )
    if table["simulated"].any():
        blocks.append("simulated model: these numbers say nothing about real models")
    return "\n\n".join(blocks)
