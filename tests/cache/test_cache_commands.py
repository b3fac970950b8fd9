"""The `semback cache` commands."""

import json

import pytest
from cache_helpers import entry, line
from click.testing import CliRunner

from semback.cli import main


@pytest.fixture
def semback(cache):
    """A function that runs a `semback cache` command: (exit code, what it printed)."""

    def run(*arguments):
        result = CliRunner().invoke(
            main, ["cache", *map(str, arguments)], env={"SEMBACK_CACHE_DIR": str(cache.folder)}
        )
        return result.exit_code, result.output

    return run


def test_verify_names_every_bad_line_and_keeps_nothing(semback, cache, tmp_path):
    (tmp_path / "good.jsonl").write_text(line(*entry()))
    (tmp_path / "bad.jsonl").write_text(
        line(*entry()) + line(*entry("Two.", 1)).replace("2 + 2", "2 + 3") + "half a li"
    )
    code, out = semback("verify", tmp_path / "good.jsonl")
    assert code == 0 and out.startswith("1 ") and "refused" not in out
    code, out = semback("verify", tmp_path / "bad.jsonl")
    assert code == 1 and len(cache) == 0
    assert "refused line 2: its key" in out and "refused line 3: it is not" in out


def test_import_lists_conflicts_and_what_it_refused_and_keeps_what_was_there(
    semback, cache, tmp_path
):
    cache.add(*entry("Old."))
    (tmp_path / "r.jsonl").write_text(line(*entry("New.")) + line(*entry("Two.", 1)) + "{}\n")
    assert semback("import", tmp_path / "r.jsonl")[0] == 1 and len(cache) == 1
    code, out = semback("import", "--skip", tmp_path / "r.jsonl")
    assert code == 0 and "1 new" in out
    assert entry()[0][:12] in out and "refused line 3: it is not" in out
    assert cache.get(entry()[0])["reply"]["text"] == "Old."


def test_explain_tells_of_any_request_what_a_miss_tells_and_whether_it_is_recorded(
    semback, cache, tmp_path
):
    cache.add(*entry())
    request = entry()[1]["request"] | {
        "temperature": 1,
        "messages": [{"role": "user", "content": "What is\n2 + 3?"}],
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    code, out = semback("explain", tmp_path / "request.json", "--draw", "2")
    assert code == 0 and out.strip() in str(cache.miss(request, 2))
    assert "draw: requested 2, recorded 0" in out
    assert "temperature: requested 1, recorded None" in out and "+2 + 3?" in out
    assert "is recorded: a reply of m-1" in semback("explain", entry()[0][:9])[1]
    cache.add(*entry("Three.", 3))
    (tmp_path / "line.json").write_text(line(*entry("Three.", 3)))
    out = semback("explain", tmp_path / "line.json")[1]
    assert f"{entry(draw=3)[0][:12]}… is recorded" in out
    assert f"nearest is {entry()[0][:12]}" in out and "draw: requested 3, recorded 0" in out


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        "[]",
        "{}",
        '{"model": "m"}',
        '{"model": "m", "messages": ["x"]}',
        '{"request": {}, "n": 1}',
    ],
)
def test_explain_refuses_what_is_no_request_and_an_unknown_key(semback, tmp_path, text):
    (tmp_path / "request.json").write_text(text)
    code, out = semback("explain", tmp_path / "request.json")
    assert code == 1 and out.startswith("semback: ") and "request.json" in out
    assert semback("explain", "0123")[0] == 2


def test_ls_and_stats_show_what_was_altered_and_drop_takes_it_out_but_never_everything(
    semback, cache
):
    cache.add(*entry())
    cache._table.set(entry(draw=1)[0], '{"request": 7}')
    assert f"{entry(draw=1)[0][:12]}  altered: it is not a recorded reply" in semback("ls")[1]
    stats = semback("stats")[1]
    assert "        1  altered: see" in stats and "        1  m\n" in stats
    assert semback("drop", "")[0] == 2 and len(cache) == 2
    assert semback("drop", entry(draw=1)[0][:12])[1].startswith("1 ") and len(cache) == 1
