"""The results of a batch and their comparisons: the tables of the command, notebooks and page."""

from collections.abc import Sequence
from dataclasses import dataclass

from pandas import isna

from ..variants import METHODS
from . import comparisons, results, show
from .records import CONFIGURATION, CONTAMINATED, Record

FORMATS = {
    **dict.fromkeys(("before", "again", "after", "low", "high", "equal_calls"), show.percent),
    **dict.fromkeys(("questions", "calls", "tokens"), "{:,.0f}".format),
    "dollars": "{:.2f}".format,
}
SHOWN = ["result", "variant", "files", "questions", "before", "again", "after", "low", "high"]
SHOWN += ["interval", "seeds", "calls", "tokens", "dollars", "equal_calls", "failed"]
COMPARED = ["result", "against", "both", "only_variant", "only_against", "neither", "words"]
HEADS = ["result", "against", "both correct", "only it", "only the other", "neither", "it is"]


@dataclass(frozen=True)
class Summary:
    """The results of a batch and their comparisons, shown as two tables for each configuration."""

    records: Sequence[Record]


@show.shows(Summary)
def summary_view(summary: Summary) -> show.View:
    """The tables; unknown prices are question marks."""
    table, compared = results.table(summary.records), comparisons.table(summary.records)
    headline = f"Runs: {len(summary.records)}; groups of BBH files are pooled over their questions"
    if table["simulated"].any():
        headline += "\nsimulated model: these numbers say nothing about real models"
    if table["settings"].str.contains(CONTAMINATED).any():
        headline += f"\n{CONTAMINATED}: its accuracies are too high, training questions are in it"
    hidden = {"again"} if table["again"].isna().all() else set()
    if not table["variant"].isin(METHODS).any():
        hidden |= {"equal_calls", "failed"}
    shown = [name for name in SHOWN if name not in hidden]
    for column, form in FORMATS.items():
        table[column] = ["?" if isna(value) else form(value) for value in table[column]]
    tables = []
    for configuration, rows in table.groupby(CONFIGURATION):
        model, coach, data, settings = configuration
        title = f"model {model}, coach {coach}, {data} data" + (f", {settings}" if settings else "")
        tables.append(show.Table(f"results, {title}", shown, rows[shown].values.tolist()))
        if len(compared):
            same = (compared[CONFIGURATION] == list(configuration)).all(axis="columns")
            rows = compared.loc[same, COMPARED].values.tolist()
            title = f"semantic gradient descent against others, {title}"
            tables.append(show.Table(title, HEADS, rows))
    return headline, *tables
