"""`make crate NAME=demo`: describe the batch runs/NAME as an RO-Crate, for an archive.

It writes runs/NAME/ro-crate-metadata.json (https://www.researchobject.org/ro-crate/): the report,
the executed notebooks, records, figures and keys of replies, and the run that made them.
"""

import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

import semback as sb

KINDS = {  # by pattern in the folder of a batch: what such a file is
    "index.html": ("the report", "text/html"),
    "notebooks/*.ipynb": ("a notebook as it was executed", "application/x-ipynb+json"),
    "results/*.json": ("the record of a run", "application/json"),
    "history/*.json": ("everything that happened in a run", "application/json"),
    "responses/*.txt": ("the keys of the replies that a run rests on", "text/plain"),
    "figures/*.png": ("a figure", "image/png"),
    "figures/*.csv": ("the data of a figure", "text/csv"),
}


def describe(name: str) -> Path:
    """Write the metadata of a batch; returns their path."""
    folder = sb.results.folder(name)
    records = sb.results.load(name)
    models = sorted({record[role] for record in records for role in ("model", "coach")})
    newest = max(path.stat().st_mtime for path in (folder / "results").glob("*.json"))
    made = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")

    crate = ROCrate()
    crate.name = f"semback: the batch {name}"
    crate.description = f"{len(records)} runs of semantic gradient descent with {', '.join(models)}"
    crate.license = "https://spdx.org/licenses/MIT"
    crate.datePublished = datetime.fromtimestamp(newest, UTC)
    software = SoftwareApplication(
        crate, "#semback", {"name": "semback", "softwareVersion": version("semback")}
    )
    crate.add(software)
    files = {
        path.relative_to(folder).as_posix(): crate.add_file(
            path,
            path.relative_to(folder).as_posix(),
            properties={"description": what, "encodingFormat": kind},
        )
        for pattern, (what, kind) in KINDS.items()
        for path in sorted(folder.glob(pattern))
    }
    run = {"@type": "CreateAction", "name": f"semback run --name {name}", "endTime": made}
    action = crate.add(ContextEntity(crate, "#run", run))
    action["instrument"] = software
    action["object"] = [entity for path, entity in files.items() if path.startswith("notebooks/")]
    action["result"] = [
        entity for path, entity in files.items() if not path.startswith("notebooks/")
    ]
    crate.metadata.write(folder)
    return folder / crate.metadata.id


if __name__ == "__main__":
    print(describe(sys.argv[1]))
