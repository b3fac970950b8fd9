"""Is one method better than another? Each is compared with semantic gradient descent on the same questions, in numbers and in words.

With one seed, or several that tell no more than one, by McNemar's exact test, on the questions that only one of the two answers
rightly. With several by a t test of the differences, question by question, in which seeds and questions both are samples. Comparisons
that answer one question together are held to the level of one (Holm).
"""

from . import conditions, results
from .statistics import complete, paired, tested

FULL, START, LEVEL = "full", "start", 0.05


def table(records):
    """Every variant against "full", and "full" against the start graph, as a DataFrame with a row for each pair of each result.

    A result is a task, or a group of BBH files pooled over their questions, of one setting (model, coach, data, conditions); only seeds
    and files that both methods ran are compared. Columns: result, variant ("full"), against (the other variant, or "start") and its
    `method`; the setting; seeds; questions of one seed, and the different ones of all; both, only_variant, only_against, neither: who
    answered how many rightly, over all seeds; difference of the accuracies (shares), low, high, and `interval`, their kind; p and the
    `test` it is of; family and comparisons: what it was counted with, and how many those are; holm: p, so adjusted; words: what that
    says; simulated. The comparisons on one experiment are a family; in BBH those on files are one, and those on groups another.

    Empty where "full" was not run. Errors: DataError where there are no records, or two of the same run.
    """
    import pandas

    found = []
    for setting, mine in results.frame(records).groupby(results.SETTING):
        for result, part in results.parts(mine):
            before, after = tested(part)
            full, whole = after[after["variant"] == FULL], result not in set(part["result"])
            pairs = {
                START: before[before["variant"] == FULL].assign(method="the start graph"),
                **{
                    variant: runs
                    for variant, runs in after.groupby("variant", sort=False)
                    if variant != FULL
                },
            }
            for against, other in pairs.items():
                if compared := _compared(full, other):
                    family = (
                        result
                        if part["experiment"].iloc[0] != "bbh"
                        else "BBH groups"
                        if whole
                        else "BBH files"
                    )
                    found.append(
                        {
                            "result": result + (", pooled over questions" if whole else ""),
                            "variant": FULL,
                            "against": against,
                            "method": other["method"].iloc[0],
                            **dict(zip(results.SETTING, setting)),
                            **compared,
                            "family": family,
                            "simulated": bool(other["simulated"].any()),
                        }
                    )
    if not (found := pandas.DataFrame(found)).empty:
        families = found.groupby([*results.SETTING, "family"])["p"]
        found["comparisons"], found["holm"] = families.transform("size"), families.transform(holm)
        found["words"] = [words(row) for row in found.to_dict("records")]
    return found


def _compared(one, other) -> dict:
    """What `paired` says of the seeds and tasks that both have, of seeds that are complete; empty where there are none."""
    shared = set(zip(one["seed"], one["task"])) & set(zip(other["seed"], other["task"]))
    both = [
        rows[[key in shared for key in zip(rows["seed"], rows["task"])]] for rows in (one, other)
    ]
    return paired(*map(complete, both)) if shared else {}


def holm(p):
    """The p of several comparisons, adjusted so that the chance of any false alarm among them is that of one (Holm, Scand. J. Stat. 1979).

    p: a pandas Series of at least one; returns one with its index.
    """
    ordered = p.sort_values()
    return (ordered * list(range(len(p), 0, -1))).cummax().clip(upper=1).reindex(p.index)


def words(row: dict) -> str:
    """What a row of `table` says: which is better, if that can be told, by how much, and what that rests on. One seed tells it of the two
    graphs that came of it, and not of the methods: with another seed they may come out the other way."""
    if row["holm"] < LEVEL:
        verdict = ("better" if row["difference"] > 0 else "worse") + (
            " with this seed" if row["seeds"] == 1 else ""
        )
    else:
        verdict = "not distinguishable " + (
            f"among {row['comparisons']} comparisons" if row["p"] < LEVEL else "at this sample size"
        )
    difference, low, high = (
        f"{round(100 * row[name], 1) + 0:.1f}" for name in ("difference", "low", "high")
    )  # + 0: no minus zero
    counted = (
        f", Holm's of {row['comparisons']} {p_text(row['holm'], '= ')}"
        if row["comparisons"] > 1
        else ""
    )
    seeds = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    several = (
        f" a seed, {row['different']} different ones" if row["different"] > row["questions"] else ""
    )
    return (
        f"{verdict}: {difference} points (95 % interval {low} to {high}; {row['test']} p {p_text(row['p'], '= ')}{counted}; "
        f"{row['questions']} questions{several}{seeds})"
    )


def p_text(value: float, equal: str = "") -> str:
    """A p as it is written, with `equal` before it unless it is only told to be smaller."""
    return "< 0.001" if value < 0.001 else f"{equal}{value:.3f}"


def as_text(table) -> str:
    """What `table` made, for terminals: a block for each setting, a line for each comparison. Empty where there is nothing to compare."""
    blocks = []
    for setting, rows in table.groupby(results.SETTING) if len(table) else ():
        shown = rows[
            ["result", "against", "both", "only_variant", "only_against", "neither"]
        ].rename(
            columns={
                "against": "full against",
                "only_variant": "only full",
                "only_against": "only other",
            }
        )
        left = {"result": f"{{:<{shown['result'].str.len().max()}}}".format}
        lines = shown.to_string(index=False, formatters=left).split("\n")
        blocks.append(
            f"{conditions.heading(*setting)}: right answers of both, of one only, of neither\n"
            + "\n".join(f"{line}  {said}" for line, said in zip(lines, ["full is", *rows["words"]]))
        )
    return "\n\n".join(blocks)


def summary(records) -> str:
    """The table of results and the comparisons after it, as text."""
    return f"{results.as_text(results.table(records))}\n\n{as_text(table(records))}".rstrip()
