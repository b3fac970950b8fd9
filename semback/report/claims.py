"""The claims of the paper's abstract, each with what the records of real models say about it.

`semback claims NAME…` prints them as Markdown. A claim about results is confirmed, or not, by
paired tests, adjusted for all the comparisons that it needs. Where these find no difference, the
verdict is "cannot be told", and the row says how large a difference they could have found, or that
the start graph stayed, so that there was nothing to compare.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pandas import DataFrame, read_csv

from ..variants import PEERS
from . import comparisons, results
from .figures import REPORTED
from .records import Record
from .statistics import detectable


class Claim(NamedTuple):
    """A claim: its text, its experiment, and what the full method must be better than."""

    text: str
    experiment: str
    against: tuple[str, ...]


CLAIMS = (
    Claim("It improves an agentic system for BIG-Bench Hard.", "bbh", ("start",)),
    Claim("It improves an agentic system for GSM8K.", "gsm8k", ("start",)),
    Claim("On BIG-Bench Hard it is better than other methods.", "bbh", PEERS),
    Claim("On GSM8K it is better than other methods.", "gsm8k", PEERS),
    Claim("The neighbourhood is needed (ablation on LIAR).", "liar", ("no_neighbourhood",)),
    Claim("Gradients are needed (ablation on LIAR).", "liar", ("no_gradient",)),
    Claim("The gate is needed (ablation on LIAR).", "liar", ("no_gate",)),
)
HEAD = """\
# The claims of the paper's abstract, and what was found here

Semantic gradients generalise reverse-mode automatic differentiation: **confirmed**.
`pytest tests/core/test_propagate.py` runs the code that propagates texts on numbers, and compares
the gradients of random graphs with PyTorch's.

Made from runs/ by `semback claims {}`, out of {:,} replies that were recorded in {:.1f} hours
(pauses of more than 10 minutes left out); `make reproduce` replays those that ship. Accuracies are
in percent, with 95 % intervals. No simulated number is included.
"""
STAYED = "cannot be told: the gate accepted no candidate, so the start graph stayed"


def table(records: Iterable[Record]) -> DataFrame:
    """One row for each claim about results and each result that it is about.

    Returns
    -------
    DataFrame
        claim, result, model, coach, data, calls (in training and test, including repeats), reported
        (accuracies in the paper, percent), found (in the words of `comparisons`, for each method
        compared), verdict. Records of simulated models are left out.
    """
    real = [record for record in records if not record["simulated"]]
    keys, rows = ["result", "model", "coach", "data"], []
    compared = comparisons.table(real) if real else DataFrame()
    if compared.empty:
        compared = DataFrame(columns=[*keys, "against"], dtype=str)
    for claim in CLAIMS:
        names = {"claim": claim.text, "reported": _reported(claim)}
        task = compared["result"].str.startswith(results.NAMES[claim.experiment])
        relevant = compared[task & compared["against"].isin(claim.against)]
        if relevant.empty:
            rows.append({**names, "verdict": "cannot be told: not run with a real model"})
        for key, some in relevant.groupby(keys, sort=False):
            found = "; ".join(f"{row.method}: {row.words}" for row in some.itertuples(index=False))
            outcome = {"calls": some["calls"].iloc[0], "found": found, "verdict": verdict(some)}
            rows.append(names | dict(zip(keys, key)) | outcome)
    columns = ["claim", "result", "model", "coach", "data", "calls", "reported", "found", "verdict"]
    return DataFrame(rows).reindex(columns=columns)


def verdict(rows: DataFrame) -> str:
    """The verdict on a claim, from comparisons of the full method with all that it should beat."""
    if rows["stayed"].all():
        return STAYED
    if (rows["holm"] >= comparisons.LEVEL).all():
        questions = rows["questions"].min()
        least = f"{100 * detectable(questions):.0f} points"
        return f"cannot be told: {questions} questions are too few to find less than {least}"
    if (rows["difference"] > 0).all() and (rows["holm"] < comparisons.LEVEL).all():
        return "confirmed" + (" with this seed" if rows["seeds"].min() == 1 else "")
    if ((rows["difference"] < 0) & (rows["holm"] < comparisons.LEVEL)).any():
        return "not confirmed: another is better"
    return "cannot be told for all of them"


def markdown(*names: str) -> str:
    """The claims as Markdown, from the records of the batches of these names."""
    rows = table(record for name in names for record in results.load(name))
    heads = [each for each in rows.columns if each != "coach"]
    keys = {key for name in names for run in results.responses(name).values() for key in run}
    count, *_, hours = results.recorded(keys)
    lines = [HEAD.format(" ".join(names), count, hours)]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows.astype(object).fillna("").to_dict("records"):
        if row["coach"]:
            row["model"] += f", coached by {row['coach']}"
        row["calls"] = f"{row['calls']:,.0f}" if row["calls"] else ""
        lines.append(f"| {' | '.join(str(row[head]) for head in heads)} |")
    return "\n".join(lines) + "\n"


def _reported(claim: Claim) -> str:
    reported = read_csv(REPORTED, comment="#")
    here = reported["result"].str.startswith(results.NAMES[claim.experiment])
    rows = reported[here & reported["variant"].isin({"full", *claim.against})]
    return "; ".join(
        f"{row.result}, {row.method}: {100 * row.accuracy:.1f}"
        + (" (not verified)" if "not verified" in row.source else "")
        for row in rows.itertuples(index=False)
    )
