"""`make codecheck`: write codecheck.yml, what `make reproduce` must give again.

It lists the figures and tables of runs/demo with their SHA-256, as https://codecheck.org.uk asks.
To check them: `make reproduce codecheck`, then `git diff codecheck.yml`, which shows nothing.
"""

from hashlib import sha256
from pathlib import Path

import yaml

import semback as sb

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "runs" / "demo"
CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"][0]
TABLES = {  # by name in runs/demo/tables: what makes it
    "results": sb.results.table,
    "comparisons": sb.comparisons.table,
}


def listed(path: Path, function) -> dict[str, str]:
    """An entry of the manifest; the first paragraph of the function's docstring is its comment."""
    comment = " ".join(function.__doc__.partition("\n\n")[0].split())
    file = str(path.relative_to(ROOT))
    return {
        "file": file,
        "comment": f"{comment} Simulated.",
        "sha256": sha256(path.read_bytes()).hexdigest(),
    }


def manifest() -> list[dict[str, str]]:
    """Every figure, its data, and every table, which is written here."""
    entries, records = [], sb.results.load("demo")
    for path in sorted((DEMO / "figures").glob("*.png")):
        function = getattr(sb.figures, path.stem)
        entries += [listed(file, function) for file in (path, path.with_suffix(".csv"))]
    for name, function in TABLES.items():
        path = DEMO / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(function(records).to_csv(index=False, lineterminator="\n"))
        entries.append(listed(path, function))
    return entries


if __name__ == "__main__":
    authors = [f"{each['given-names']} {each['family-names']}" for each in CITED["authors"]]
    paper = {"title": CITED["title"], "reference": CITED["url"]}
    check = {
        "version": "https://codecheck.org.uk/spec/config/1.0/",
        "paper": {**paper, "authors": [{"name": name} for name in authors]},
        "manifest": manifest(),
    }
    text = yaml.safe_dump(check, sort_keys=False, allow_unicode=True, width=1000)
    head = "# Made by `make codecheck`. The numbers are simulated, and not those of the paper.\n"
    (ROOT / "codecheck.yml").write_text(f"{head}---\n{text}")
