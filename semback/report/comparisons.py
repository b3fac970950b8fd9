"""Is one method better than another? Semantic gradient descent against each other variant and
against the start graph, on the same questions, in numbers and in words.

The tests are those of `statistics.paired`. Comparisons that answer one question together are a
family, and their p values are adjusted to the level of one (Holm).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import results
from .configuration import CONFIGURATION, heading
from .records import Record
from .statistics import paired, tested

if TYPE_CHECKING:
    from pandas import DataFrame, Series

FULL, START, LEVEL = "full", "start", 0.05


def table(records: Iterable[Record]) -> "DataFrame":
    """Every variant and the start graph against "full": one row for each pair of each result.

    Returns
    -------
    DataFrame
        result (a task, or BBH files pooled over questions), variant ("full"), against (the other
        variant, or "start") and its `method`; the configuration; what `statistics.paired` returns;
        family (in BBH, files are one and groups another) and its number of `comparisons`; holm, the
        adjusted p; words, what that means; simulated. Empty where "full" was not run.

    Raises
    ------
    DataError
        No records, or two of the same run.
    """
    import pandas

    rows = []
    everything = results.with_groups(results.frame(records))
    for (*key, result), part in everything.groupby([*CONFIGURATION, "result"], sort=False):
        before, after = tested(part)
        full = after[after["variant"] == FULL]
        start = before[before["variant"] == FULL].assign(variant=START, method="the start graph")
        others = pandas.concat([start, after[after["variant"] != FULL]])
        group = part["task"].nunique() > 1
        family = result
        if part["experiment"].iloc[0] == "bbh":
            family = "BBH groups" if group else "BBH files"
        for against, other in others.groupby("variant", sort=False):
            if found := paired(full, other):
                rows.append(
                    {
                        "result": f"{result}, pooled over questions" if group else result,
                        "variant": FULL,
                        "against": against,
                        "method": other["method"].iloc[0],
                        **dict(zip(CONFIGURATION, key)),
                        **found,
                        "family": family,
                        "simulated": other["simulated"].any(),
                    }
                )
    if not rows:
        return pandas.DataFrame()
    compared = pandas.DataFrame(rows).sort_values(CONFIGURATION, kind="stable", ignore_index=True)
    families = compared.groupby([*CONFIGURATION, "family"])["p"]
    compared["comparisons"], compared["holm"] = families.transform("size"), families.transform(holm)
    compared["words"] = [words(row) for row in compared.to_dict("records")]
    return compared


def holm(p: "Series") -> Any:
    """The p values of a family of comparisons, adjusted by Holm's procedure."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1]


def words(row: dict) -> str:
    """What a row of `table` means: which method is better, if that can be told, and by how much.

    One seed speaks of the two graphs that it led to, not of the methods: with another seed they may
    come out the other way round.
    """
    if row["holm"] < LEVEL:
        verdict = "better" if row["difference"] > 0 else "worse"
        if row["seeds"] == 1:
            verdict += " with this seed"
    elif row["p"] < LEVEL:
        verdict = f"not distinguishable after adjusting for {row['comparisons']} comparisons"
    else:
        verdict = "not distinguishable at this sample size"
    difference, low, high = (_points(row[name]) for name in ("difference", "low", "high"))
    test = f"{row['test']} p {p_text(row['p'], '= ')}"
    if row["comparisons"] > 1:
        test += f", Holm-adjusted over {row['comparisons']} comparisons {p_text(row['holm'], '= ')}"
    sample = f"{row['questions']} questions"
    if row["seeds"] > 1:
        sample += f", {row['seeds']} seeds"
    return f"{verdict}: {difference} points (95 % interval {low} to {high}; {test}; {sample})"


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: no minus zero


def p_text(value: float, equal: str = "") -> str:
    """A p value as it is printed; `equal` stands before it unless it is below 0.001."""
    return "< 0.001" if value < 0.001 else f"{equal}{value:.3f}"


def as_text(table: "DataFrame") -> str:
    """What `table` returned, for terminals: a block for each configuration; empty if it is."""
    blocks = []
    for configuration, rows in table.groupby(CONFIGURATION) if len(table) else ():
        lines = [
            f"{row['result']}, full against {row['against']}: {row['words']}"
            for row in rows.to_dict("records")
        ]
        blocks.append("\n".join([heading(*configuration), *lines]))
    return "\n\n".join(blocks)


def summary(records: Iterable[Record]) -> str:
    """The table of results and the comparisons after it, as text."""
    records = list(records)
    return f"{results.as_text(results.table(records))}\n\n{as_text(table(records))}".rstrip()
