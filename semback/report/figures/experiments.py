"""The figures of the paper's experiments: learning curves, the methods, BBH file by file, the ablation on LIAR."""

import math

from pandas import DataFrame, concat

from ...run import Run
from .. import results
from ..plot import BLUE, COLUMN, GREEN, GREY, PAGE, VERMILLION, Plot, canvas, finished
from ..statistics import over_runs
from .points import (
    NothingToDraw,
    by_result,
    choose,
    down_the_side,
    files_text,
    score,
    setting_text,
    spread,
    start_and_variants,
)

SERIES = {  # of `methods`: (variant, where from): name, marker, colour
    ("start", "measured"): ("the start graph", "s", GREY),
    ("full", "measured"): ("semantic gradient descent", "o", BLUE),
    ("full", "reported"): (
        "semantic gradient descent, reported in the paper, real models",
        "D",
        BLUE,
    ),
    ("no_neighbourhood", "measured"): (
        "without the neighbourhood (TextGrad form)",
        "^",
        VERMILLION,
    ),
    ("no_neighbourhood", "reported"): (
        "TextGrad, reported in the paper, real models",
        "d",
        VERMILLION,
    ),
    ("no_gradient", "measured"): ("without gradients", "v", GREEN),
}
STEPS = {  # of learning curves: (accepted, the start graph): name, marker, colour
    (True, True): ("the start graph", "s", GREY),
    (True, False): ("candidate, accepted", "o", BLUE),
    (False, False): ("candidate, rejected", "x", VERMILLION),
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
    chosen = choose(
        records, f"of the variant {variant!r}", lambda record: record["variant"] == variant
    )
    data = results.steps(chosen)
    bbh = data["experiment"] == "bbh"
    if data.loc[bbh, "task"].nunique() > 6:
        data["result"] = data["result"].where(~bbh, data["group"].map(results.GROUPS).fillna("BBH"))
    return _curves(data)


def learning_curve(run: Run) -> Plot:
    """Accuracy on the training examples, step by step, of one Run: the graph's as a line, candidates as markers."""
    record = {
        "experiment": run.task.partition("/")[0],
        "task": run.task,
        "group": "",
        "variant": "",
        "data": "",
        "seed": run.settings["seed"],
        "model": run.model,
        "coach": run.coach,
        "simulated": run.simulated,
        "instructions": {},
        "settings": run.settings,
        "train": run.training,
    }
    return _curves(results.steps([record]))._replace(runs=())


def _curves(data) -> Plot:
    data = data.assign(interval="Wilson over questions", runs=[(run,) for run in data.pop("run")])
    panels, settings, means = (
        list(data.groupby(["result", *results.SETTING], sort=False)),
        data.groupby(results.SETTING).ngroups,
        [],
    )
    columns = len(panels) if len(panels) <= 4 else 3 if len(panels) <= 6 else 4
    lines = math.ceil(len(panels) / columns)
    with canvas(
        COLUMN if columns == 1 else PAGE, 0.9 + 1.9 * lines, lines, columns, sharey=True
    ) as (figure, axes):
        for ax, ((result, *setting), mine) in zip(axes, panels):
            runs = [run for _, run in mine.groupby(["task", "seed"], sort=False)]
            last, many = mine["step"].max(), len(runs) > 3
            line = (
                {"color": GREY, "alpha": 0.5, "linewidth": 0.5, "label": "one run"}
                if many
                else {"color": BLUE, "label": "the graph"}
            )
            for place, run in enumerate(runs):
                ax.stairs(
                    run["current"], [*run["step"], run["step"].max() + 1], baseline=None, **line
                )
                for (accepted, start), (name, marker, colour) in STEPS.items():
                    tried = run[
                        (run["accepted"] == accepted)
                        & ((run["step"] == 0) == start)
                        & run["accuracy"].notna()
                    ]
                    if not many and len(tried):
                        ax.errorbar(
                            tried["step"] + 0.1 * (place - (len(runs) - 1) / 2),
                            tried["accuracy"],
                            yerr=spread(tried),
                            fmt=marker,
                            color=colour,
                            elinewidth=0.6,
                            label=name,
                        )
            if many:
                means.append(mean := _mean(mine))
                ax.errorbar(
                    mean["step"],
                    mean["accuracy"],
                    yerr=spread(mean),
                    fmt="o-",
                    color=BLUE,
                    label="mean of the runs",
                )
                data.loc[mine.index, "interval"] = None  # which is not drawn
            files = f", {mine['task'].nunique()} files" if mine["task"].nunique() > 1 else ""
            ax.set(
                title=result + files + (f"\n{setting_text(setting, 30)}" if settings > 1 else ""),
                xlabel="step",
                xticks=range(0, last + 1, math.ceil(last / 10) or 1),
                xlim=(-0.3, last + 0.6),
            )
        figure.suptitle(setting_text(panels[0][0][1:], 40 * columns) if settings == 1 else None)
        (axes[0].set_ylabel if columns == 1 else figure.supylabel)("accuracy on training questions")
        return finished(
            figure,
            concat([data, *means], ignore_index=True),
            panels,
            columns=1 if columns == 1 else 4,
        )


def _mean(rows):
    """The mean accuracy of the runs after each step, with its interval, as rows of the figure's data."""
    current = rows.pivot_table(index="step", columns=["task", "seed"], values="current").ffill()
    low_high = [over_runs(values) for values in current.to_numpy()]
    same = {name: rows[name].iloc[0] for name in ("result", "variant", *results.SETTING)}
    return DataFrame(
        [
            {
                **same,
                "method": f"mean of {current.shape[1]} runs",
                "step": step,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "interval": "t over the runs",
                "simulated": rows["simulated"].any(),
            }
            for (step, accuracy), (low, high) in zip(current.mean(axis=1).items(), low_high)
        ]
    )


def methods(records) -> Plot:
    """The start graph and the methods side by side on GSM8K and both groups of BBH, beside what the paper reports.

    BBH is pooled over the questions of the files that all the methods ran. Reported is shown only beside what was run.
    """
    chosen = choose(
        records,
        "of GSM8K or a group of BBH",
        lambda record: (
            (record["variant"], "measured") in SERIES
            and (
                record["experiment"] == "gsm8k"
                or record["experiment"] == "bbh"
                and record["group"] in results.GROUPS
            )
        ),
    )
    data = []
    for setting, result, mine in by_result(results.frame(chosen)):
        data += [
            score(runs, setting, source="measured", result=result, variant=variant)
            for variant, runs in start_and_variants(mine)
        ]
    if not data:
        raise NothingToDraw(
            "there are no results to draw the methods side by side: no file was run with all of them"
        )
    places = [
        result for result in REPORTED["full"] if any(point["result"] == result for point in data)
    ]
    reported = [
        dict(
            source="reported",
            result=result,
            variant=variant,
            accuracy=accuracies[result],
            simulated=False,
        )
        for variant, accuracies in REPORTED.items()
        for result in places
    ]
    panels, data = list(DataFrame(data).groupby(results.SETTING)), DataFrame(data + reported)
    with canvas(COLUMN, 1.6 + 2 * len(panels), len(panels), sharey=True) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            points = DataFrame(
                [
                    *mine.to_dict("records"),
                    *(each for each in reported if each["result"] in set(mine["result"])),
                ]
            )
            for place, ((variant, source), (name, marker, colour)) in enumerate(SERIES.items()):
                if (
                    some := points[(points["variant"] == variant) & (points["source"] == source)]
                ).empty:
                    continue
                at = [places.index(result) + 0.13 * (place - 2.5) for result in some["result"]]
                ax.errorbar(
                    at,
                    some["accuracy"],
                    yerr=spread(some),
                    fmt=marker,
                    color=colour,
                    elinewidth=0.8,
                    label=name,
                    markerfacecolor="white" if source == "reported" else colour,
                )
            files = mine.groupby("result")["files"].max()
            ax.set_xticks(
                range(len(places)),
                [
                    f"{p}\n{files_text(files[p])}" if "BBH" in p and p in files else p
                    for p in places
                ],
            )
            ax.set(
                xlim=(-0.5, len(places) - 0.5),
                title=setting_text(setting, 40),
                ylabel="accuracy on test questions",
            )
            ax.grid(axis="x", visible=False)
        return finished(figure, data, panels, columns=1)


def bbh_files(records, variant: str = "full") -> Plot:
    """Each BBH file, and each group of several pooled over their questions: test accuracy of the start graph and after the descent, of one
    variant. Thick grey lines lead from the one to the other."""
    chosen, data = (
        choose(
            records,
            f"of BBH and the variant {variant!r}",
            lambda record: (record["experiment"], record["variant"]) == ("bbh", variant),
        ),
        [],
    )
    for (*setting, group), mine in results.frame(chosen).groupby(
        [*results.SETTING, "group"], sort=False
    ):
        name = results.GROUPS.get(group, "BBH")
        whole = [(name, mine)] if mine["task"].nunique() > 1 else []
        for task, runs in [*whole, *mine.groupby("result", sort=False)]:
            data += [
                score(part, setting, group=name, result=task, variant=stage)
                for stage, part in start_and_variants(runs)
            ]
    panels = list((data := DataFrame(data)).groupby(results.SETTING))
    lines = [mine["result"].nunique() for _, mine in panels]
    with canvas(
        PAGE,
        0.4 + sum(0.95 + 0.19 * n for n in lines),
        len(panels),
        sharex=True,
        height_ratios=lines,
    ) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            before, after = mine[mine["variant"] == "start"], mine[mine["variant"] == variant]
            bold = list(after["result"] == after["group"])
            y = [place + 0.4 * sum(bold[: place + 1]) for place in range(len(bold))]
            ax.hlines(
                y,
                before["accuracy"],
                after["accuracy"],
                color="#bbbbbb",
                linewidth=2.5,
                label="the change",
            )
            for points, shift, face, colour, name in (
                (before, -0.15, "white", GREY, "the start graph"),
                (after, 0.15, BLUE, BLUE, "after the descent"),
            ):
                ax.errorbar(
                    points["accuracy"],
                    [place + shift for place in y],
                    xerr=spread(points),
                    fmt="o",
                    color=colour,
                    markerfacecolor=face,
                    elinewidth=0.8,
                    label=name,
                )
            names = [
                f"{result}, {files_text(files)} pooled"
                if result == group
                else result.removeprefix("BBH ").replace("_", " ")
                for result, group, files in zip(after["result"], after["group"], after["files"])
            ]
            down_the_side(ax, y, names, setting, 80)
            for tick, heavy in zip(ax.get_yticklabels(), bold):
                tick.set_fontweight("bold" if heavy else "normal")
        return finished(figure, data, panels, columns=3)


def liar_ablation(records) -> Plot:
    """The variants of LIAR: test accuracy of each after the descent, and of the start graph as a line, with a band as its interval."""
    rows, data = (
        results.frame(choose(records, "of LIAR", lambda record: record["experiment"] == "liar")),
        [],
    )
    for setting, mine in rows.groupby(results.SETTING):
        data += [
            score(runs, setting, variant=variant, method=runs["method"].iloc[0])
            for variant, runs in start_and_variants(mine)
        ]
    panels = list((data := DataFrame(data)).groupby(results.SETTING))
    lines = [len(mine) for _, mine in panels]
    with canvas(
        COLUMN, sum(0.85 + 0.19 * n for n in lines), len(panels), sharex=True, height_ratios=lines
    ) as (figure, axes):
        for ax, (setting, mine) in zip(axes, panels):
            start, after = mine.iloc[0], mine.iloc[1:]
            ax.axvline(
                start["accuracy"],
                color=GREY,
                linestyle="--",
                label="the start graph, band: its interval",
            )
            ax.axvspan(start["low"], start["high"], color=GREY, alpha=0.15, linewidth=0)
            ax.errorbar(
                after["accuracy"],
                range(len(after)),
                xerr=spread(after),
                fmt="o",
                color=BLUE,
                elinewidth=0.8,
                label="after the descent",
            )
            down_the_side(ax, range(len(after)), after["method"], setting, 30)
        return finished(figure, data, panels, columns=2)
