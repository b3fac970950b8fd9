"""`make crate`: a batch as an RO-Crate, read back by the library that wrote it."""

import importlib.util
from pathlib import Path

from rocrate.rocrate import ROCrate

from semback import results

CRATE = Path(__file__).parents[1] / "crate.py"


def test_a_crate_names_every_file_of_the_batch_and_its_run(own_home, monkeypatch):
    folder = results.folder("trial")
    for path in ("results", "notebooks"):
        (folder / path).mkdir(parents=True)
    (folder / "notebooks/run.ipynb").write_text("{}")
    spec = importlib.util.spec_from_file_location("crate", CRATE)
    crate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(crate)
    monkeypatch.setattr(results, "load", lambda name: [{"model": "small", "coach": "large"}])
    (folder / "results/run.json").write_text("{}")
    crate.describe("trial")
    read = ROCrate(folder)
    assert {each.id for each in read.data_entities} == {"results/run.json", "notebooks/run.ipynb"}
    assert "large, small" in read.description
    run = read.dereference("#run")
    assert run["instrument"].id == "#semback" and run["result"][0].id == "results/run.json"
