"""The figures of the paper's experiments: learning curves, the methods, BBH file by file, the ablation on LIAR."""

import math
import textwrap

from .. import results
from ..errors import DataError
from ..intervals import complete, pooled
from ..plot import BLUE, COLUMN, GREEN, GREY, PAGE, VERMILLION, Plot, canvas, finished
from ..run import Run
from ..tally import SIMULATED

SERIES = {  # of `methods`: (variant, where from): name, marker, colour
    ("start", "measured"): ("the start graph", "s", GREY),
    ("full", "measured"): ("semantic gradient descent", "o", BLUE),
    ("full", "reported"): ("semantic gradient descent, reported in the paper, real models", "D", BLUE),
    ("no_neighbourhood", "measured"): ("without the neighbourhood (TextGrad form)", "^", VERMILLION),
    ("no_neighbourhood", "reported"): ("TextGrad, reported in the paper, real models", "d", VERMILLION),
    ("no_gradient", "measured"): ("without gradients", "v", GREEN),
}
REPORTED = {  # in arXiv 2412.03624, with gpt-4o-mini-2024-07-18 and, as coach, gpt-4-turbo-2024-04-09
    "full": {"GSM8K": 0.932, "BBH NLP": 0.825, "BBH algorithmic": 0.856},
    "no_neighbourhood": {"GSM8K": 0.782, "BBH NLP": 0.487, "BBH algorithmic": 0.669},
}


def learning_curves(records, variant: str = "full") -> Plot:
    """Accuracy on the training examples, step by step, of one variant.

    Each task has a panel; more than six BBH files share one for each group. Up to three runs in a panel are drawn each: the
    graph's accuracy as a line, candidates as markers. More are drawn thin, with their mean, in which a run that ended early
    counts with its last graph. DataError where there are no such results, as in all figures.
    """
    chosen = _chosen(records, f"of the variant {variant!r}", lambda record: record["variant"] == variant)
    data = results.steps(chosen)
    bbh = data["experiment"] == "bbh"
    if data.loc[bbh, "task"].nunique() > 6:
        data["result"] = data["result"].where(~bbh, data["group"].map(results.GROUPS).fillna("BBH"))
    return _curves(data)


def learning_curve(run: Run) -> Plot:
    """Accuracy on the training examples, step by step, of one Run: the graph's as a line, candidates as markers."""
    simulated = any(model.startswith(SIMULATED) for model in (run.model, run.coach))
    record = {"experiment": run.task.partition("/")[0], "task": run.task, "group": "", "variant": "", "data": "",
              "seed": run.settings["seed"], "model": run.model, "coach": run.coach, "simulated": simulated, "instructions": {},
              "train": results.training(run)}
    return _curves(results.steps([record]))


def _curves(data) -> Plot:
    panels, settings = list(data.groupby(["result", *results.SETTING], sort=False)), data.groupby(results.SETTING).ngroups
    columns = len(panels) if len(panels) <= 4 else 3 if len(panels) <= 6 else 4
    lines = math.ceil(len(panels) / columns)
    with canvas(COLUMN if columns == 1 else PAGE, 0.7 + 1.9 * lines, lines, columns, sharey=True) as (figure, axes):
        for ax, ((result, *setting), mine) in zip(axes, panels):
            runs = [run for _, run in mine.groupby(["task", "seed"], sort=False)]
            last, many = mine["step"].max(), len(runs) > 3
            line = {"color": GREY, "alpha": 0.5, "linewidth": 0.5, "label": "one run"} if many else {"color": BLUE, "label": "the graph"}
            for run in runs:
                ax.stairs(run["current"], [*run["step"], run["step"].max() + 1], baseline=None, **line)
                for accepted, name, marker, colour in ((True, "accepted", "o", BLUE), (False, "rejected", "x", VERMILLION)):
                    tried = run[(run["accepted"] == accepted) & (run["step"] > 0)]
                    if not many and len(tried):
                        ax.plot(tried["step"], tried["accuracy"], marker, color=colour, label=f"candidate, {name}")
            if many:
                mean = mine.pivot_table(index="step", columns=["task", "seed"], values="current").ffill().mean(axis=1)
                ax.stairs(mean, range(last + 2), baseline=None, color=BLUE, linewidth=1.8, label="mean of the runs")
            files = f", {mine['task'].nunique()} files" if mine["task"].nunique() > 1 else ""
            ax.set(title=result + files + (f"\n{_setting(setting, 30)}" if settings > 1 else ""), xlabel="step",
                   xticks=range(0, last + 1, math.ceil(last / 10) or 1), xlim=(-0.3, last + 0.6))
        for ax in axes[len(panels):]:
            ax.remove()
        figure.suptitle(_setting(panels[0][0][1:], 40 * columns) if settings == 1 else None)
        figure.supylabel("accuracy on training questions")
        return finished(figure, data, panels, columns=1 if columns == 1 else 5)


def methods(records) -> Plot:
    """The start graph and the methods side by side on GSM8K and both groups of BBH, beside what the paper reports.

    BBH is pooled over the questions of the files that all the methods ran. What was not run, or not reported, stays empty.
    """
    chosen = _chosen(records, "of GSM8K or a group of BBH", lambda record: (record["variant"], "measured") in SERIES and (
        record["experiment"] == "gsm8k" or record["experiment"] == "bbh" and record["group"] in results.GROUPS))
    rows, data, places = results.frame(chosen), [], list(REPORTED["full"])
    rows["result"] = rows["group"].map(results.GROUPS).where(rows["experiment"] == "bbh", "GSM8K")
    for (*setting, result), mine in rows.groupby([*results.SETTING, "result"]):
        shared = set.intersection(*(set(runs["task"]) for _, runs in mine.groupby("variant")))
        data += [_score(runs, setting, source="measured", result=result, variant=variant)
                 for variant, runs in _start_and_variants(mine[mine["task"].isin(shared)]) if len(runs)]
    if not data:
        raise NothingToDraw("there are no results to draw the methods side by side: no file was run with all of them")
    reported = [dict(source="reported", result=result, variant=variant, accuracy=accuracy, simulated=False)
                for variant, accuracies in REPORTED.items() for result, accuracy in accuracies.items()]
    panels, data = list(_table(data).groupby(results.SETTING)), _table(data + reported)
    with canvas(COLUMN, 1.6 + 2 * len(panels), len(panels), sharey=True) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            points = _table([*mine.to_dict("records"), *reported])
            for place, ((variant, source), (name, marker, colour)) in enumerate(SERIES.items()):
                some = points[(points["variant"] == variant) & (points["source"] == source)]
                at = [places.index(result) + 0.13 * (place - 2.5) for result in some["result"]]
                ax.errorbar(at, some["accuracy"], yerr=_spread(some), fmt=marker, color=colour, elinewidth=0.8, label=name,
                            markerfacecolor="white" if source == "reported" else colour)
            files = mine.groupby("result")["files"].max()
            ax.set_xticks(range(len(places)), [f"{p}\n{_files(files[p])}" if "BBH" in p and p in files else p for p in places])
            ax.set(xlim=(-0.5, len(places) - 0.5), title=_setting(setting, 40), ylabel="accuracy on test questions")
            ax.grid(axis="x", visible=False)
        return finished(figure, data, panels, columns=1)


def bbh_files(records, variant: str = "full") -> Plot:
    """Each BBH file, and each group pooled over its questions: test accuracy of the start graph and after the descent, of one variant."""
    chosen, data = _chosen(records, f"of BBH and the variant {variant!r}",
                           lambda record: (record["experiment"], record["variant"]) == ("bbh", variant)), []
    for (*setting, group), mine in results.frame(chosen).groupby([*results.SETTING, "group"], sort=False):
        name = results.GROUPS.get(group, "BBH")
        for task, runs in [(name, mine), *mine.groupby("result", sort=False)]:
            data += [_score(part, setting, group=name, result=task, variant=stage) for stage, part in _start_and_variants(runs)]
    panels = list((data := _table(data)).groupby(results.SETTING))
    lines = [mine["result"].nunique() for _, mine in panels]
    with canvas(PAGE, sum(0.95 + 0.19 * n for n in lines), len(panels), sharex=True, height_ratios=lines) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            before, after = mine[mine["variant"] == "start"], mine[mine["variant"] == variant]
            bold = list(after["result"] == after["group"])
            y = [place + 0.4 * sum(bold[:place + 1]) for place in range(len(bold))]
            ax.hlines(y, before["accuracy"], after["accuracy"], color="#bbbbbb", linewidth=2.5)
            for points, shift, face, colour, name in ((before, -0.15, "white", GREY, "the start graph"),
                                                      (after, 0.15, BLUE, BLUE, "after the descent")):
                ax.errorbar(points["accuracy"], [place + shift for place in y], xerr=_spread(points), fmt="o", color=colour,
                            markerfacecolor=face, elinewidth=0.8, label=name)
            names = [f"{result}, {_files(files)} pooled" if result == group else result.removeprefix("BBH ").replace("_", " ")
                     for result, group, files in zip(after["result"], after["group"], after["files"])]
            _rows(ax, y, names, setting, 80)
            for tick, heavy in zip(ax.get_yticklabels(), bold):
                tick.set_fontweight("bold" if heavy else "normal")
        return finished(figure, data, panels, columns=2)


def liar_ablation(records) -> Plot:
    """The variants of LIAR: test accuracy of each after the descent, and of the start graph as a line."""
    rows, data = results.frame(_chosen(records, "of LIAR", lambda record: record["experiment"] == "liar")), []
    for setting, mine in rows.groupby(results.SETTING):
        data += [_score(runs, setting, variant=variant, method=runs["method"].iloc[0]) for variant, runs in _start_and_variants(mine)]
    panels = list((data := _table(data)).groupby(results.SETTING))
    lines = [len(mine) for _, mine in panels]
    with canvas(COLUMN, sum(0.85 + 0.19 * n for n in lines), len(panels), sharex=True, height_ratios=lines) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            start, after = mine.iloc[0], mine.iloc[1:]
            ax.axvline(start["accuracy"], color=GREY, linestyle="--", label="the start graph")
            ax.errorbar(after["accuracy"], range(len(after)), xerr=_spread(after), fmt="o", color=BLUE, elinewidth=0.8,
                        label="after the descent")
            _rows(ax, range(len(after)), after["method"], setting, 30)
        return finished(figure, data, panels, columns=2)


class NothingToDraw(DataError):
    """None of the results is of what a figure shows."""


def _chosen(records, what: str, wanted) -> list[dict]:
    if chosen := [record for record in records if wanted(record)]:
        return chosen
    raise NothingToDraw(f"there are no results {what} to draw; `semback run` makes some")


def _start_and_variants(rows):
    """(name, test rows) of the start graph, once for each task and seed, and of each variant after the descent."""
    test = rows[rows["split"] == "test"]
    yield "start", test[test["stage"] == "before"].drop_duplicates(["task", "seed"]).assign(method="the start graph")
    yield from test[test["stage"] == "after"].groupby("variant", sort=False)


def _score(rows, setting, **names) -> dict:
    """A row of a figure's data: where a point is, pooled over the questions of some rows of `results.frame`."""
    rows = complete(rows)
    return {**dict(zip(results.SETTING, setting)), **names, **dict(zip(("accuracy", "low", "high", "interval"), pooled(rows))),
            "files": rows["task"].nunique(), "seeds": rows["seed"].nunique(), "questions": rows.groupby("seed")["questions"].sum().iloc[0],
            "simulated": bool(rows["simulated"].any())}


def _table(data: list[dict]):
    import pandas

    return pandas.DataFrame(data)


def _spread(points) -> list:
    return [points["accuracy"] - points["low"], points["high"] - points["accuracy"]]


def _files(number) -> str:
    return f"{number:.0f} file{'s' if number > 1 else ''}"


def _setting(setting, wide: int) -> str:
    model, coach, data = setting
    parts = [model, *([f"coach {coach}"] if coach != model else []), *([f"{data} data"] if data else [])]
    whole = ", ".join(part.replace(" ", "\xa0") for part in parts)  # so that lines end after a part
    return textwrap.fill(whole, wide, break_on_hyphens=False).replace("\xa0", " ")


def _rows(ax, y, names, setting, wide: int) -> None:
    """Names down the side, accuracy along the bottom."""
    ax.set_yticks(y, names)
    ax.set(ylim=(max(y) + 0.6, min(y) - 0.6), title=_setting(setting, wide), xlabel="accuracy on test questions")
    ax.label_outer()
    ax.grid(axis="y", visible=False)
