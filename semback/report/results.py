"""The results of finished runs: saving and loading their records, and DataFrames made of them.

`sb.results.table(sb.results.load("demo"))` is the summary of a batch. What depends on circumstances
(how many calls were live) is saved beside the records in `history/`, and the keys of the replies
that they rest on in `responses/`. Accuracies are proportions from 0 to 1, with 95 % intervals.
Results of different configurations (model, coach, data, settings) or variants are never pooled.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import NoneType
from typing import Any

from pandas import DataFrame, Series, concat, to_datetime

from ..cache import ResponseCache, recording
from ..control import Control
from ..errors import DataError, ParameterError, check
from ..graph import Graph
from ..llm.budget import priced_rows
from ..paths import home, write_text
from ..propagate import Trace
from ..run import Questions, Run, Score, Scores, interval, wilson
from ..task import Example, Task, checked
from ..variants import METHODS, VARIANTS
from .records import CONFIGURATION, Record, TestScores, UsageRow, labels, read, reading
from .statistics import complete, pooled

NAMES = {"bbh": "BBH", "gsm8k": "GSM8K", "liar": "LIAR"}
GROUPS = {"nlp": "BBH NLP", "algorithmic": "BBH algorithmic"}
LABELS = {name: variant.label for name, variant in VARIANTS.items()} | METHODS  # in tables
ORDER = {name: place for place, name in enumerate([*NAMES, *GROUPS, *LABELS])}  # of tables
IDENTITY = ["experiment", "task", "variant", "seed", "model", "coach"]  # what a file is named after
RUN = ["experiment", "task", "variant", "seed", *CONFIGURATION]  # what identifies a run
CALLS = ["recorded", "live", "repeated", "cut", "refused", "unreadable"]
MISSING, START = float("nan"), METHODS["start"]
TEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "%&#$_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def run_id(experiment: str, task: str, variant: str, seed: int, model: str, coach: str) -> str:
    """The id of a run in its batch, which is the name of its files without the extension."""
    parts = [task, variant, f"seed{seed}", *dict.fromkeys([model, coach])]
    if not task.startswith(experiment):
        parts.insert(0, experiment)
    name = "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)
    if len(name.encode()) <= 200:
        return name
    start = name.encode()[:180].decode(errors="ignore")  # file names have at most 255 bytes
    return f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def run_of(record: Record) -> str:
    """The `run_id` of a record."""
    return run_id(*(record[key] for key in IDENTITY))


def folder(name: str) -> Path:
    """The folder `runs/<name>` of a batch.

    Raises
    ------
    ParameterError
        The name cannot be that of a folder.
    """
    allowed = r"(?!\.)[^/\\\0\ud800-\udfff]+"
    if not isinstance(name, str) or not re.fullmatch(allowed, name) or len(name.encode()) > 200:
        raise ParameterError(
            f"a batch cannot be called {name!r}; its name is that of a folder in runs/: "
            "short, without slashes or a leading dot"
        )
    return home() / "runs" / name


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
    control: Control | None = None,
) -> Path:
    """Write the record of a run to `runs/<name>/results/`, replacing an earlier one.

    The Run itself, its test questions with the value of every node, and the number of its calls go
    to `history/` beside it, and the keys of its replies, one per line, to `responses/`.

    Parameters
    ----------
    name : str
        The batch.
    experiment : str
        "bbh", "gsm8k", "liar" or your own.
    variant : str
        A name of `variants.VARIANTS` or `METHODS`, "only_<node>" or your own.
    data : str
        "sample", "full" or your own.
    task : Task
    run : Run
        The descent on this task.
    before, after : Scores
        Scores of the start graph and of `run.graph` on the test examples.
    group : str, optional
        The part of the benchmark that the task belongs to, for averages: "nlp" or "algorithmic".
    control : Control, optional
        The start graph evaluated once more, as `control` returns it.

    Returns
    -------
    Path
        The path of the record.

    Raises
    ------
    ParameterError
        An argument of the wrong type, or a run that did not start from the task's graph.
    """
    check(str, "a text", experiment=experiment, variant=variant, data=data, group=group)
    check(Task, "a Task", task=task)
    check(Run, "a Run, as descend returns it", run=run)
    check(Scores, "Scores, as evaluate returns them", before=before, after=after)
    check((Control, NoneType), "what sb.control returns", control=control)
    if task.graph != run.steps[0].candidate:
        raise ParameterError(
            f"the run of {run.task!r} did not start from the graph of the task {task.name!r}; "
            "save it with its own task"
        )
    stages = {"train": run.usage, "test before": before.usage, "test after": after.usage}
    if control:
        stages["control"] = control.usage
    usage = [{**row, "stage": stage} for stage in stages for row in priced_rows(stages[stage])]
    settings = run.settings | ({"test questions": task.only} if task.only else {})
    inner = [node for node in task.graph if node.name != task.graph.answer]
    if forms := dict.fromkeys(node.form for node in inner if node.form):
        settings["hint form"] = " ".join(forms)
    nodes = zip(task.graph, run.graph)
    parts = {
        **facts(run),
        "settings": settings,
        "experiment": experiment,
        "task": task.name,
        "group": group,
        "variant": variant,
        "data": data,
        "overlap": task.overlap,
        "test": {"before": _test_scores(before), "after": _test_scores(after)},
        "instructions": {old.name: (old.instruction, new.instruction) for old, new in nodes},
        "usage": [
            {key: row[key] for key in UsageRow.__annotations__ if key in row} for row in usage
        ],
    }
    if control:
        seen = vars(control.seen) | {"accepted": control.accepted}
        parts["control"] = {"test": _test_scores(control.test), **seen}
    record: Any = {key: parts[key] for key in Record.__annotations__ if key in parts}
    identity = run_of(record)
    made = {kind: sum(row[kind] for row in usage) for kind in CALLS[:-1]}
    made["unreadable"] = sum(len(stage.failures) for stage in stages.values())
    keys = sorted(set().union(*(stage.keys for stage in stages.values())))
    history = folder(name) / "history"
    run.save(history / f"{identity}.json")
    write_text(history / f"{identity}.calls.json", json.dumps(made) + "\n")
    texts = json.dumps(_texts(task, before, after), indent=1, ensure_ascii=False) + "\n"
    write_text(history / f"{identity}.questions.json", texts)
    write_text(folder(name) / "responses" / f"{identity}.txt", "".join(f"{key}\n" for key in keys))
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    return write_text(folder(name) / "results" / f"{identity}.json", text)


def facts(run: Run) -> dict[str, Any]:
    """The fields of a record that a Run has."""
    names = ("task", "model", "coach", "simulated", "settings", "stopped", "params")
    own = {name: getattr(run, name) for name in names}
    return {**own, "seed": run.settings["seed"], "train": run.training}


def _texts(task: Task, before: Scores, after: Scores) -> dict[str, dict[str, Any]]:
    """{id: question, right answer, and the value of every node before and after}."""
    texts = {}
    for example in task.test:
        texts[example.id] = {"question": example.question, "answer": example.answer}
        for stage, scores in (("before", before), ("after", after)):
            trace = scores.traces.get(example.id)
            texts[example.id][stage] = dict(trace.values) if trace else None
    return texts


def _test_scores(scores: Scores) -> TestScores:
    return {
        "questions": len(scores.rows),
        "correct": scores.correct,
        "unreadable": scores.unreadable,
        "answers": [(row.id, row.answer, row.correct) for row in scores.rows],
    }


def load(name: str) -> list[Record]:
    """Read the records of a batch, in the order of their file names.

    Raises
    ------
    DataError
        There are none, or a file is not a record.
    """
    paths = sorted((folder(name) / "results").glob("*.json"))
    if not paths:
        raise DataError(
            f"there are no results in {folder(name) / 'results'}; "
            f"`semback run --name {name}` makes them"
        )
    return [read(path) for path in paths]


def responses(name: str) -> dict[str, list[str]]:
    """The keys of the replies that each run of a batch rests on, by run id.

    Raises
    ------
    DataError
        A file is damaged.
    """
    found = {}
    for path in sorted((folder(name) / "responses").glob("*.txt")):
        with reading(path, "a list of keys of replies"):
            found[path.stem] = path.read_text(encoding="utf-8").split()
            for key in found[path.stem]:
                if not re.fullmatch("[0-9a-f]{64}", key):
                    raise ValueError(f"{key[:80]!r} is not a key")
    return found


def recorded(keys: set[str]) -> tuple[int, int, str, list[str], float]:
    """The number of these replies, how many of them the cache holds, the SHA-256 of the lines that
    `semback cache export` writes for those, the days on which they were recorded, and how many
    hours that took without pauses of more than 10 minutes."""
    digest, times = hashlib.sha256(), []
    for key, entry in ResponseCache().entries(keys):
        digest.update(recording.line(key, entry))
        times.append(str(entry["source"].get("time", "")))
    days = sorted({time[:10] for time in times} - {""})
    moments = to_datetime(Series(times, dtype=str), format="ISO8601", errors="coerce", utc=True)
    gaps = moments.sort_values().diff().dt.total_seconds()
    return len(keys), len(times), digest.hexdigest(), days, gaps[gaps <= 600].sum() / 3600


def history(name: str, record: Record) -> Run | None:
    """The Run behind a record of a batch; None if its file was removed.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder(name) / "history" / f"{run_of(record)}.json"
    if not path.exists():
        return None
    with reading(path, "a saved run"):
        return Run.load(path)


def questions(name: str, record: Record) -> Questions:
    """The test questions of a run of a batch, before and after the descent.

    They have no texts or traces if a file in `history/` was removed.

    Raises
    ------
    DataError
        A file is damaged.
    """
    run, texts = history(name, record), {}
    graphs = {"before": run.steps[0].candidate, "after": run.graph} if run else {}
    path = folder(name) / "history" / f"{run_of(record)}.questions.json"
    with reading(path, "the questions of a run") if path.exists() else nullcontext():
        if path.exists():
            texts = json.loads(path.read_text(encoding="utf-8"))
            if not texts.keys() & {id for id, *_ in record["test"]["after"]["answers"]}:
                raise ValueError("it has none of its questions")
        before, after = (
            _restored(record["test"][stage]["answers"], texts, stage, graphs.get(stage))
            for stage in ("before", "after")
        )
    return Questions(before, after)


def _restored(answers: Iterable, texts: dict, stage: str, graph: Graph | None) -> Scores:
    """The scores of a stage, with the texts from `_texts`."""
    rows, traces, examples = [], {}, {}
    for id, answer, correct in answers:
        if text := texts.get(id):
            examples[id] = checked(Example(id, text["question"], text["answer"]))
            if graph and text[stage]:
                values = {node: text[stage][node] for node in graph.order}
                traces[id] = Trace(graph, text["question"], values)
        reply = traces[id].answer if id in traces else None
        rows.append(Score(id, reply, answer, correct))
    return Scores(tuple(rows), traces=traces, examples=examples)


def calls(name: str, runs: Iterable[str]) -> dict[str, int]:
    """The calls that runs of a batch made when they last ran, by kind.

    A "repeated" call had been made before in the same run; "cut" replies ended at the token limit;
    "refused" and "unreadable" replies could not be used.
    """
    made = dict.fromkeys(CALLS, 0)
    for run in runs:
        path = folder(name) / "history" / f"{run}.calls.json"
        with reading(path, "a count of calls"):
            count = json.loads(path.read_text(encoding="utf-8"))
            made = {kind: made[kind] + count[kind] for kind in CALLS}
    return made


def frame(records: Iterable[Record]) -> DataFrame:
    """Test results: a row for each run and stage, "before" the descent and "after" it.

    If there was a null control, "again" is the start graph evaluated once more.

    Returns
    -------
    DataFrame
        The run (experiment, task, group, variant, seed, configuration, and its id `run`), with
        `result` and `method`, the names of task and variant in tables and figures; whether the
        start graph `stayed`; questions, correct, accuracy, low and high (Wilson); scores, {question
        id: 0 or 1}; calls, tokens and dollars, recorded or live (those of training are in the row
        "after"; dollars are NaN if a price is unknown).

    Raises
    ------
    DataError
        No records, or two of the same run.
    ParameterError
        Something other than records.
    """
    rows = []
    for record, columns in _ordered(records):
        stages = {"before": ["test before"], "after": ["train", "test after"]}
        scores: dict[str, Any] = dict(record["test"])
        stayed = all(old == new for old, new in record["instructions"].values())
        if "control" in record:
            stages["again"], scores["again"] = ["control"], record["control"]["test"]
        for stage, spent_in in stages.items():
            score = scores[stage]
            usage = [part for part in record["usage"] if part["stage"] in spent_in]
            row = {**columns, "stage": stage, "stayed": stayed, **_accuracy(score)}
            row["scores"] = {id: float(correct) for id, _, correct in score["answers"]}
            row["calls"] = sum(part["calls"] for part in usage)
            row["tokens"] = sum(part["prompt_tokens"] + part["completion_tokens"] for part in usage)
            costs = [MISSING if part["cost"] is None else part["cost"] for part in usage]
            row["dollars"] = sum(costs)
            rows.append(row)
    return DataFrame(rows)


def steps(records: Iterable[Record]) -> DataFrame:
    """One row for each step of each run; step 0 is the start graph.

    Returns
    -------
    DataFrame
        The run, as in `frame`; step; questions, correct, accuracy, low and high (Wilson) of the
        candidate on the training examples, NaN if it was not evaluated; whether it was `accepted`;
        `current`, the accuracy of the graph after the step; `calls` of the run up to then, without
        repeats; `kept`, why nodes kept their instruction; `judged_on`, the questions that the gate
        decides by: training or validation.
    """
    rows = []
    for record, columns in _ordered(records):
        for step in record["train"]:
            kept = "; ".join(f"{node}: {reason}" for node, reason in step["kept"].items())
            own = {"step": step["step"], "accepted": step["accepted"], "current": MISSING}
            own["calls"] = step.get("calls", MISSING)
            own["judged_on"] = "validation" if record["settings"].get("validate") else "training"
            rows.append({**columns, **_accuracy(step), **own, "kept": kept})
    table = DataFrame(rows)
    # Step 0 is accepted, so nothing is carried over from another run.
    table["current"] = table["accuracy"].where(table["accepted"]).ffill()
    return table


def _accuracy(score: Mapping[str, Any]) -> dict[str, Any]:
    correct, questions = score["correct"], score["questions"]
    accuracy = low = high = MISSING
    if correct is not None:
        accuracy = correct / questions
        if "answers" in score:
            low, high, _ = interval([float(value) for _, _, value in score["answers"]])
        elif correct == int(correct):
            low, high = wilson(correct, questions)
    found = {"questions": questions, "correct": correct, "accuracy": accuracy}
    return found | {"low": low, "high": high}


def _ordered(records: Iterable[Record]) -> list[tuple[Record, dict[str, Any]]]:
    """Each record with its columns: the paper's experiments, groups and variants come first."""

    def place(pair: tuple[Record, dict[str, Any]]) -> list:
        names = [pair[1][key] for key in ("experiment", "group", "task", "variant")]
        places = [(ORDER.get(name, len(ORDER)), name) for name in names]
        return [*places, *(pair[1][key] for key in RUN)]

    records = list(records)
    for record in records:
        check(dict, "a record; sb.results.load(name) reads those of a batch", record=record)
    if not records:
        raise DataError("there are no results to show; `semback run` makes some")
    pairs = [(record, _columns(record, label)) for record, label in zip(records, labels(records))]
    pairs.sort(key=place)
    for (_, one), (_, other) in zip(pairs, pairs[1:]):
        if all(one[key] == other[key] for key in RUN):
            run = ", ".join(f"{key} {one[key]}" for key in RUN)
            raise DataError(f"two records are of the same run: {run}")
    return pairs


def _columns(record: Record, settings: str) -> dict[str, Any]:
    experiment, variant = record["experiment"], record["variant"]
    task = record["task"].removeprefix(experiment).removeprefix("/")
    return {
        "result": f"{NAMES.get(experiment, experiment)} {task}".strip(),
        **{key: record[key] for key in (*IDENTITY, "data", "group", "simulated")},
        "settings": settings,
        "method": LABELS.get(variant, variant.replace("only_", "only ", 1)),
        "run": run_of(record),
    }


def with_start(rows: DataFrame) -> DataFrame:
    """The rows "after" of `frame`, and, once for each seed, those "before" as the variant "start"
    and those of null controls as the variant "again"."""
    once = rows.drop_duplicates([*CONFIGURATION, "result", "task", "seed", "stage"])
    before, again = (once[once["stage"] == stage] for stage in ("before", "again"))
    before = before.assign(variant="start", method=START)
    again = again.assign(variant="again", method=f"{START}, once more")
    return concat([before, again, rows[(rows["stage"] == "after") & (rows["variant"] != "start")]])


def with_groups(rows: DataFrame) -> DataFrame:
    """Rows of `frame`, and those of BBH files again under the name of their group and "BBH all".

    Groups of one file are left out, and so is "BBH all" if it has one group only.
    """
    bbh = rows[rows["experiment"] == "bbh"]
    groups = bbh.assign(result=bbh["group"].map(GROUPS))
    whole = bbh.assign(result="BBH all")
    files = groups.groupby([*CONFIGURATION, "result"])["task"].transform("nunique")
    kinds = whole.groupby(CONFIGURATION)["group"].transform("nunique")
    return concat([rows, groups[files > 1], whole[kinds > 1]], ignore_index=True)


def score(rows: DataFrame) -> dict[str, Any]:
    """The accuracy of rows of one variant and stage, with its interval and what it rests on.

    The keys are accuracy, low, high, interval, files, seeds, questions (of one seed), simulated,
    and runs, the ids of the runs.
    """
    return pooled(rows)._asdict() | {
        "files": rows["task"].nunique(),
        "seeds": rows["seed"].nunique(),
        "questions": rows.groupby("seed")["questions"].sum().max(),
        "simulated": rows["simulated"].any(),
        "runs": tuple(rows["run"]),
    }


def table(records: Iterable[Record]) -> DataFrame:
    """The results of a batch: one row for each configuration, result and variant.

    Returns
    -------
    DataFrame
        A result is a task (each BBH file is one) or a group of BBH files, pooled over the questions
        of its `files`, for the seeds that ran all of them. before, after: test accuracy, averaged
        over seeds; again: that of the start graph evaluated once more (null control), NaN without
        one; low, high: interval of `after`, and `interval`, its kind; questions of one seed; calls,
        tokens, dollars of all seeds, training included. equal_calls: training accuracy of the graph
        that a method had after as many calls as the method with the fewest made on the same task
        and seed, averaged over runs. failed: training steps without a candidate to evaluate.
    """
    rows, records = [], list(records)
    trained = _trained(records)
    keys = ["result", *CONFIGURATION, "variant", "method"]
    for key, runs in with_groups(frame(records)).groupby(keys, sort=False):
        runs = complete(runs)
        stages = {stage: runs[runs["stage"] == stage] for stage in ("before", "again", "after")}
        means = {stage: pooled(of).accuracy for stage, of in stages.items() if len(of)}
        spent = runs[["calls", "tokens", "dollars"]].sum(skipna=False)
        names = dict(zip(keys, key))
        shown = {"before": means["before"], "again": means.get("again", MISSING)}
        own = trained.loc[stages["after"]["run"]]
        training = {"equal_calls": own["equal_calls"].mean(), "failed": own["failed"].sum()}
        rows.append({**names, **shown, **score(stages["after"]), **spent, **training})
    table = DataFrame(rows).rename(columns={"accuracy": "after"})
    return table.sort_values(["simulated", *CONFIGURATION], kind="stable", ignore_index=True)


def _trained(records: list[Record]) -> DataFrame:
    """By run id: `equal_calls` and `failed` of `table`."""
    rows = steps(records)
    total = rows.groupby("run")["calls"].transform("max").where(rows["variant"] != "start")
    fewest = total.groupby([rows[key] for key in (*CONFIGURATION, "task", "seed")]).transform("min")
    equal = rows[rows["calls"] <= fewest].groupby("run")["current"].last()
    nothing = rows["accuracy"].isna() & (rows["kept"] != "")
    failed = nothing.groupby(rows["run"]).sum()
    return DataFrame({"equal_calls": equal, "failed": failed}).reindex(rows["run"].unique())


def shared(rows: DataFrame) -> DataFrame:
    """Rows of `frame` with BBH's groups as results, for the files that all their variants ran."""
    groups = rows["group"].map(GROUPS).fillna("BBH")
    rows = rows.assign(result=rows["result"].where(rows["experiment"] != "bbh", groups))
    keys = [*CONFIGURATION, "result"]
    variants = rows.groupby(keys)["variant"].transform("nunique")
    return rows[rows.groupby([*keys, "task"])["variant"].transform("nunique") == variants]


def scored(rows: DataFrame, *by: str) -> DataFrame:
    """The test accuracy of the start graph and of each variant, by configuration and `by`.

    If there were null controls, `floor` is by how much the start graph's accuracy differed.
    """
    keys = [*CONFIGURATION, *by, "variant", "method", "stage"]
    found = [
        {**dict(zip(keys, key)), **score(complete(runs))}
        for key, runs in with_start(rows).groupby(keys, sort=False)
    ]
    data = DataFrame(found).sort_values(keys[:-3], kind="stable", ignore_index=True)
    again = data["variant"] == "again"
    if again.any():
        control = data.loc[again, [*keys[:-3], "accuracy"]].rename(columns={"accuracy": "floor"})
        data = data[~again].merge(control, how="left")
        data["floor"] = (data["accuracy"] - data["floor"]).abs().where(data["variant"] == "start")
    return data


def configuration(names: Sequence[str]) -> str:
    """The values of CONFIGURATION in words."""
    model, coach, data, settings = names
    coached = "" if coach == model else f"coach {coach}"
    return ", ".join(filter(None, [model, coached, f"{data} data" if data else "", settings]))


def remarks(data: DataFrame) -> str:
    """The end of a caption: kinds of intervals, the configuration if there is only one, and whether
    results are simulated."""
    texts = []
    if "interval" in data:
        kinds = " or ".join(sorted(data["interval"].dropna().unique()))
        texts.append(f"Intervals are 95 %: {kinds}.")
    if "settings" in data and len(data[CONFIGURATION].drop_duplicates()) == 1:
        texts.append(f"Model: {configuration(data[CONFIGURATION].iloc[0])}.")
    if data["simulated"].any():
        which = "" if data["simulated"].all() else " in panels with the tag"
        texts.append(f"The results{which} are simulated.")
    return " ".join(texts)


def latex(name: str) -> str:
    r"""The results of a batch in LaTeX: a table for each configuration (`\usepackage{booktabs}`).

    Returns
    -------
    str
        One line per method and one column per benchmark: test accuracy in percent with its 95 %
        interval. BBH is pooled over the questions of the files that all methods ran.

    Raises
    ------
    DataError
        There are no results, or no file that all methods ran.
    """
    rows = shared(frame(load(name)))
    if rows.empty:
        raise DataError(f"no file of {name} has results of all methods")
    rows = scored(rows, "result")
    limits = 100 * rows[["accuracy", "low", "high"]]
    rows["cell"] = ["{:.1f} [{:.1f}, {:.1f}]".format(*three) for three in limits.to_numpy()]
    questions = rows.groupby([*CONFIGURATION, "result"])["questions"].transform("max")
    rows["result"] += ", n = " + questions.astype(str)
    tables = []
    for _, some in rows.groupby(CONFIGURATION, sort=False):
        cells = some.pivot(index="method", columns="result", values="cell").fillna("--")
        cells = cells.loc[some["method"].unique(), some["result"].unique()]
        cells = cells.rename_axis(index=None, columns=None)
        caption = f"Test accuracy, percent; BBH is pooled over files that all ran. {remarks(some)}"
        words = {"caption": caption.translate(TEX), "label": f"tab:{name}-{len(tables) + 1}"}
        tables.append(cells.to_latex(escape=True, **words))
    return "\n".join(tables)


def latex_figure(name: str, caption: str, wide: bool) -> str:
    """LaTeX that includes `<name>.pdf`; a wide figure spans both columns if there are two."""
    star, caption = "*" if wide else "", caption.translate(TEX)
    lines = [rf"\begin{{figure{star}}}", rf"  \centering\includegraphics{{{name}.pdf}}"]
    lines += [rf"  \caption{{{caption}}}\label{{fig:{name}}}", rf"\end{{figure{star}}}"]
    return "\n".join(lines) + "\n"
