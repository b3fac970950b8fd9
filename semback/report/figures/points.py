"""What figures of results share: which records they show, scores as points with intervals, and how axes name them."""

import textwrap

from ...errors import DataError, ParameterError
from .. import results
from ..statistics import complete, pooled, tested


class NothingToDraw(DataError):
    """None of the results is of what a figure shows."""


def choose(records, what: str, wanted) -> list[dict]:
    """The records for which `wanted` is true. NothingToDraw where there are none; `what` says of what. ParameterError for a name."""
    if isinstance(records, str):
        raise ParameterError(
            f"records is the text {records!r}; it takes those of a batch, as in sb.results.load({records!r})"
        )
    if chosen := [record for record in records if wanted(record)]:
        return chosen
    raise NothingToDraw(f"there are no results {what} to draw; `semback run` makes some")


def start_and_variants(rows):
    """(name, test rows) of the start graph, once for each task and seed, and of each variant after the descent."""
    before, after = tested(rows)
    yield "start", before.drop_duplicates(["task", "seed"]).assign(method="the start graph")
    yield from after.groupby("variant", sort=False)


def by_result(rows):
    """(setting, result, rows) of each task, and in place of BBH's files of each of their groups: of the files that all its variants ran."""
    groups = rows["group"].map(results.GROUPS).fillna("BBH")
    rows = rows.assign(result=rows["result"].where(rows["experiment"] != "bbh", groups))
    for setting, mine in rows.groupby(results.SETTING):
        for result, part in mine.groupby("result", sort=False):
            shared = set.intersection(*(set(runs["task"]) for _, runs in part.groupby("variant")))
            if shared:
                yield setting, result, part[part["task"].isin(shared)]


def score(rows, setting, **names) -> dict:
    """A row of a figure's data: where a point is, pooled over the questions of some rows of `results.frame`."""
    rows = complete(rows)
    return {
        **dict(zip(results.SETTING, setting)),
        **names,
        **dict(zip(("accuracy", "low", "high", "interval"), pooled(rows))),
        "files": rows["task"].nunique(),
        "seeds": rows["seed"].nunique(),
        "questions": rows.groupby("seed")["questions"].sum().max(),
        "simulated": bool(rows["simulated"].any()),
        "runs": tuple(rows["run"]),
    }


def spread(points, middle: str = "accuracy", low: str = "low", high: str = "high") -> list:
    """How far the intervals of points reach down and up, as matplotlib's error bars take it; middle, low, high: names of columns."""
    return [
        (points[middle] - points[low]).clip(lower=0),
        (points[high] - points[middle]).clip(lower=0),
    ]


def files_text(number) -> str:
    """How many files, in words."""
    return f"{number:.0f} file{'s' if number > 1 else ''}"


def setting_text(setting, wide: int) -> str:
    """The model, the coach, the data and the conditions as a title, in lines of so many letters."""
    model, coach, data, conditions = setting
    parts = [
        model,
        *([f"coach {coach}"] if coach != model else []),
        *([f"{data} data"] if data else []),
        *conditions.split(", "),
    ]
    whole = ", ".join(
        part.replace(" ", "\xa0") for part in parts if part
    )  # so that lines end after a part
    return textwrap.fill(whole, wide, break_on_hyphens=False).replace("\xa0", " ")


def down_the_side(ax, y, names, setting, wide: int) -> None:
    """Names down the side, accuracy along the bottom."""
    ax.set_yticks(y, names)
    ax.set(
        ylim=(max(y) + 0.6, min(y) - 0.6),
        title=setting_text(setting, wide),
        xlabel="accuracy on test questions",
    )
    ax.label_outer()
    ax.grid(axis="y", visible=False)
