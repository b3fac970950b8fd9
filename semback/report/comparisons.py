"""Is one method better than another? Semantic gradient descent against each other variant and
against the start graph, on the same questions, in numbers and in words.

The tests are those of `statistics.paired`. Comparisons that answer one question together are a
family, and their p values are adjusted to the level of one (Holm).
"""

from collections.abc import Iterable
from typing import Any

from pandas import DataFrame, Series
from statsmodels.stats.multitest import multipletests

from . import results
from .records import CONFIGURATION, Record
from .statistics import paired

FULL, LEVEL = "full", 0.05


def table(records: Iterable[Record]) -> DataFrame:
    """Every variant and the start graph against "full": one row for each pair of each result.

    Returns
    -------
    DataFrame
        result (a task, or BBH files pooled over questions), variant ("full"), against (the other
        variant, or "start") and its `method`; the configuration; what `statistics.paired` returns;
        family (BBH files are one, BBH groups another) and its number of `comparisons`; holm, the
        adjusted p; floor, the difference between two evaluations of the start graph (null control;
        NaN without one), and `changed`, how many answers differ between them; calls, of all runs of
        the result; `stayed`, whether no candidate was accepted, so that the start graph would be
        compared with itself; words, what all this means; simulated. Empty where "full" was not run.

    Raises
    ------
    DataError
        No records, or two of the same run.
    """
    rows = []
    keys = ["result", *CONFIGURATION]
    for key, part in results.with_groups(results.frame(records)).groupby(keys, sort=False):
        family = key[0]
        if part["experiment"].iloc[0] == "bbh":
            family = "BBH groups" if part["task"].nunique() > 1 else "BBH files"
        scored = results.with_start(part)
        start, again = (scored[scored["variant"] == name] for name in ("start", "again"))
        floor = paired(again, start)
        common = {"floor": abs(floor["difference"]) if floor else float("nan")}
        common["changed"] = floor["only_variant"] + floor["only_against"] if floor else 0
        common["calls"] = part["calls"].sum()
        full = scored[scored["variant"] == FULL]
        others = scored[~scored["variant"].isin([FULL, "again"])]
        for (against, method), other in others.groupby(["variant", "method"], sort=False):
            names = {"variant": FULL, "against": against, "method": method, "family": family}
            if found := paired(full, other):
                row = {**dict(zip(keys, key)), **names, **found, **common}
                kept = against == "start" or other["stayed"].all()
                row["stayed"] = bool(kept and full["stayed"].all())
                rows.append(row | {"simulated": other["simulated"].any()})
    if not rows:
        return DataFrame()
    compared = DataFrame(rows).sort_values(CONFIGURATION, kind="stable", ignore_index=True)
    families = compared.groupby([*CONFIGURATION, "family"])["p"]
    compared["comparisons"], compared["holm"] = families.transform("size"), families.transform(holm)
    compared["words"] = [words(row) for row in compared.to_dict("records")]
    return compared


def holm(p: Series) -> Any:
    """The p values of a family of comparisons, adjusted by Holm's procedure."""
    return multipletests(p, method="holm")[1]


def words(row: dict) -> str:
    """What a row of `table` means: which method is better, if that can be told, and by how much.

    A result of one seed is about the two graphs that it led to, not about the methods: another seed
    may reverse it.
    """
    if row["stayed"]:
        verdict = "no candidate was accepted, so the start graph stayed"
    elif row["holm"] < LEVEL:
        verdict = "better" if row["difference"] > 0 else "worse"
        if row["seeds"] == 1:
            verdict += " with this seed"
    elif row["p"] < LEVEL:
        verdict = f"not distinguishable after adjusting for {row['comparisons']} comparisons"
    else:
        verdict = "not distinguishable at this sample size"
    low, middle, high = (f"{100 * row[name]:z.1f}" for name in ("low", "difference", "high"))
    test = f"{row['test']} p {equals(row['p'])}"
    if row["comparisons"] > 1:
        test += f", Holm-adjusted over {row['comparisons']} comparisons {equals(row['holm'])}"
    sample = f"{row['questions']} questions"
    sample += f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    text = f"{verdict}: {middle} points (95 % interval {low} to {high}; {test}; {sample})"
    same = row["stayed"] and not row["only_variant"] + row["only_against"]  # the recorded replies
    text = f"{verdict} ({sample})" if same else text
    if row["floor"] >= 0:
        text += f"; two evaluations of the start graph differ by {100 * row['floor']:.1f} points "
        text += f"({row['changed']} answers changed)"
        if not same and abs(row["difference"]) <= row["floor"] + 1e-9:
            text += ", and this difference is not more than that"
    return text


def equals(p: float) -> str:
    """A p value as it follows the letter p: "= 0.012"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
