"""The results of a batch and their comparisons, as shown by the command, notebooks and report."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pandas import DataFrame, isna

from . import comparisons, results, show
from .records import CONFIGURATION, CONTAMINATED, Record

FORMATS = {
    **dict.fromkeys(("before", "again", "after", "low", "high", "equal_calls"), show.percent),
    **dict.fromkeys(("questions", "calls", "tokens"), "{:,.0f}".format),
    "dollars": "{:.4f}".format,
}
SHOWN = ["result", "variant", "files", "questions", "before", "again", "after", "low", "high"]
SHOWN += ["interval", "seeds", "calls", "tokens", "dollars", "equal_calls", "failed"]
COMPARED = ["result", "against", "both", "only_variant", "only_against", "neither", "words"]
HEADS = ["result", "against", "both correct", "only it", "only the other", "neither", "it is"]
PAIR = [*CONFIGURATION, "result"]
SCREEN, WIDE = 30, 120  # lines of results (`semback run` prints some 10 more); columns
NOTE = "vs full: against semantic gradient descent; 95 % intervals; Holm-adjusted p"


@dataclass(frozen=True)
class Summary:
    """The results of a batch and their comparisons.

    As text, one line for each result; in HTML, two tables for each configuration.
    """

    records: Sequence[Record]

    def text(self, width: int = 80) -> str:
        """One line for each result: before → after, interval, and a comparison with its p value.

        If not all fit on a screen, BBH files that a group pools are left out, and if need be groups
        that "BBH all" pools.

        Parameters
        ----------
        width : int
            Of the terminal, in columns. From 120, calls, tokens and dollars are also shown.
        """
        table, compared = results.table(self.records), comparisons.table(self.records)
        key = [*PAIR, "against"]
        pairs = compared.set_index(key).to_dict("index") if len(compared) else {}
        lines = [_headline(self.records, table)]
        for configuration, own in _on_a_screen(table).groupby(CONFIGURATION, sort=False):
            title = f"model {results.configuration(configuration)}"
            lines += textwrap.wrap(title, width, subsequent_indent="  ")
            for result, rows in own.groupby("result", sort=False):
                lines.append(f"{result}: {_sample(rows)}")
                lines += [_line(row, pairs, width >= WIDE) for row in rows.to_dict("records")]
        return "\n".join([*lines, NOTE] if pairs else lines)


@show.shows(Summary)
def summary_view(summary: Summary) -> show.View:
    """The tables; unknown prices are shown as question marks."""
    table, compared = results.table(summary.records), comparisons.table(summary.records)
    headline = _headline(summary.records, table)
    shown = [name for name in SHOWN if name != "again" or table[name].notna().any()]
    for column, form in FORMATS.items():
        table[column] = ["?" if isna(value) else form(value) for value in table[column]]
    tables = []
    for configuration, rows in table.groupby(CONFIGURATION, sort=False):
        title = f"model {results.configuration(configuration)}"
        tables.append(show.Table(f"results, {title}", shown, rows[shown].values.tolist()))
        if len(compared):
            same = (compared[CONFIGURATION] == list(configuration)).all(axis="columns")
            rows = compared.loc[same, COMPARED].values.tolist()
            title = f"semantic gradient descent against others, {title}"
            tables.append(show.Table(title, HEADS, rows))
    return headline, *tables


Summary.__repr__ = Summary.text  # the tables above are too wide for a terminal


def _headline(records: Sequence[Record], table: DataFrame) -> str:
    text = f"Runs: {len(records)}; groups of BBH files are pooled over their questions"
    if table["simulated"].any():
        text += "\nsimulated model: these numbers say nothing about real models"
    if table["settings"].str.contains(CONTAMINATED).any():
        text += f"\n{CONTAMINATED}: its accuracies are too high, training questions are in it"
    return text


def _on_a_screen(table: DataFrame) -> DataFrame:
    """The first of these that fits: all rows, those without files in groups, the widest groups."""
    bbh = table["result"].str.startswith("BBH ")
    files = table.groupby(PAIR)["files"].transform("max")
    most = files.where(bbh).groupby([table[key] for key in CONFIGURATION]).transform("max")
    rest = ~bbh | (files == most)
    for rows in (table, table[rest | (files > 1)], table[rest]):
        if len(rows) + rows.groupby(PAIR).ngroups <= SCREEN:
            break
    return rows


def _sample(rows: DataFrame) -> str:
    """The sample that the results of a task or group rest on."""
    files, seeds, again = (rows[name].max() for name in ("files", "seeds", "again"))
    text = f"{rows['questions'].max():,.0f} questions"
    text += f" in {files} files" if files > 1 else ""
    text += f", {seeds} seeds" if seeds > 1 else ""
    return text if isna(again) else f"{text}; start graph again {100 * again:.1f}"


def _line(row: dict, pairs: Mapping[tuple, dict], wide: bool) -> str:
    """One result, 78 columns wide or, with its cost, 120."""
    full = row["variant"] == comparisons.FULL
    against = "start" if full else row["variant"]
    pair = pairs.get((*(row[key] for key in PAIR), against))
    change, other, p = row["after"] - row["before"], "start", ""
    if pair:
        change, other = (pair["difference"], "start") if full else (-pair["difference"], "full")
        p = f"p{comparisons.equals(pair['holm'])}".replace(" ", "").replace("0.", ".")[:6]
    line = f"  {row['method']:25.25}  {100 * row['before']:4.1f} → {100 * row['after']:<5.1f}"
    line += f" {show.interval(row['low'], row['high']):>13}  "
    stayed = pair and pair["stayed"]
    line += "start graph kept" if stayed else f"{100 * change:+z5.1f} vs {other:5} {p}"
    if wide:
        price = "price ?" if isna(row["dollars"]) else f"${row['dollars']:,.4f}"
        line = f"{line:78} {row['calls']:7,.0f} calls {row['tokens']:10,.0f} tokens {price:>8}"
    return line.rstrip()
