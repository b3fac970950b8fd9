"""What docs/real.md says of the sealed recordings is what they say, on the data sets themselves."""

import asyncio
import os
from pathlib import Path

import pytest
from benchmarks import pilot

from semback import Budget, Language, ResponseCache, descend, evaluate, models, tasks

ROOT = Path(__file__).parents[2]
RECORDINGS = [ROOT / "cache" / "recordings" / f"{name}.jsonl.zst" for name in ("pilot", "real_bbh")]
COACH = "qwen2.5-coder-1.5b-instruct-q4_k_m"
pytestmark = pytest.mark.skipif(
    not os.environ.get("SEMBACK_DATA_DIR"),
    reason="SEMBACK_DATA_DIR is not set: the full data is not here",
)


@pytest.fixture
def documented(own_home, monkeypatch):
    """docs/real.md; the recordings are in the cache."""
    cache = ResponseCache()
    for recording in RECORDINGS:
        cache.load(recording)
    cache.close()
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "replay")
    return (ROOT / "docs" / "real.md").read_text(encoding="utf-8")


def test_the_pilot_replays_from_its_sealed_recording(documented, capsys):
    asyncio.run(pilot.pilot(None, pilot.MODEL))
    rows, table = capsys.readouterr().out.split("training questions each\n")
    assert "liar: not recorded" in rows
    lines = [line.split() for line in table.splitlines()[1:]]
    assert len(lines) > 5
    for cells in lines[:-1]:
        assert f"| {' | '.join(cells)} |" in documented


def test_the_run_on_a_file_of_bbh_replays_from_its_sealed_recording(documented):
    async def run():
        task = tasks.bbh("snarks", data="full", test=60, hint_form=pilot.SHORT)
        lang = Language(*models(pilot.MODEL, COACH, task, ResponseCache(), Budget()))
        before = await evaluate(task.graph, task.test, task, lang)
        run = await descend(task, lang, steps=4)
        return before, run, await evaluate(run.graph, task.test, task, lang)

    before, run, after = asyncio.run(run())
    scores = [step.scores.correct if step.scores else None for step in run.steps]
    assert scores == [7, 4, 10, None, 6]
    assert [step.accepted for step in run.steps] == [True, False, True, False, False]
    assert "7; 4, **10**, none, 6" in documented
    for score in (before, after):
        low, high = (100 * end for end in score.interval)
        assert f"{100 * score.accuracy:.1f} % [{low:.1f}, {high:.1f}]" in documented
