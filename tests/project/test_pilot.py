"""What docs/real.md says of the pilot is what its recording says, on the data sets themselves."""

import asyncio
import os
from pathlib import Path

import pytest
from benchmarks import pilot

from semback import ResponseCache

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not os.environ.get("SEMBACK_DATA_DIR"),
    reason="SEMBACK_DATA_DIR is not set: the full data is not here",
)
def test_the_pilot_replays_from_its_sealed_recording(own_home, monkeypatch, capsys):
    cache = ResponseCache()
    cache.load(ROOT / "cache" / "recordings" / "pilot.jsonl.zst")
    cache.close()
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "replay")
    asyncio.run(pilot.pilot(None, pilot.MODEL))
    rows, table = capsys.readouterr().out.split("training questions each\n")
    assert "liar: not recorded" in rows
    documented = (ROOT / "docs" / "real.md").read_text(encoding="utf-8")
    lines = [line.split() for line in table.splitlines()[1:]]
    assert len(lines) > 5
    for cells in lines[:-1]:
        assert f"| {' | '.join(cells)} |" in documented
