"""The `semback cache` commands."""

import json
import os
import subprocess
import sys

import pytest
from cache_helpers import MESSAGES, entry, line
from click.testing import CliRunner

from semback.cache import recording
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


def test_ls_shows_what_was_altered_and_drop_takes_it_out_but_never_everything(semback, cache):
    cache.add(*entry())
    cache._table.set(entry(draw=1)[0], '{"request": 7}')
    assert f"{entry(draw=1)[0][:12]}  altered: it is not a recorded reply" in semback("ls")[1]
    assert semback("drop", "")[0] == 2 and len(cache) == 2
    assert semback("drop", entry(draw=1)[0][:12])[1].startswith("1 ") and len(cache) == 1


FAULTY = {"stop": "Four.", "length": "Fo", "content_filter": "", "refusal": "No.", "end": " \n"}


@pytest.mark.parametrize(
    "arguments, left",
    [
        (["--empty"], {"stop", "length", "refusal"}),
        (["--cut"], {"stop", "content_filter", "refusal", "end"}),
        (["--refused"], {"stop", "length", "end"}),
        (["--empty", "--cut", "--refused"], {"stop"}),
        (["KEY of stop", "--cut"], set(FAULTY)),
        (["KEY of length", "--cut", "--empty"], {"stop", "content_filter", "refusal", "end"}),
    ],
)
def test_drop_takes_out_what_is_not_worth_keeping(semback, cache, arguments, left):
    keys = {}
    for draw, (reason, text) in enumerate(FAULTY.items()):
        keys[reason], made = entry(text, draw)
        made["reply"]["finish_reason"] = reason
        cache.add(keys[reason], made if draw else recording.sealed(keys[reason], made))
    arguments = [keys[each[7:]][:9] if each.startswith("KEY") else each for each in arguments]
    code, out = semback("drop", *arguments)
    assert code == 0 and out == f"{5 - len(left)} replies removed\n"
    assert dict(cache.entries()).keys() == {keys[reason] for reason in left}


@pytest.mark.parametrize("arguments", [[], ["0123"], ["0123", "--empty"], ["--full"]])
def test_drop_without_a_choice_is_a_wrong_argument(semback, cache, arguments):
    cache.add(*entry(""))
    assert semback("drop", *arguments)[0] == 2 and len(cache) == 1


def test_show_prints_messages_reply_usage_when_and_from_where(semback, cache):
    name, made = entry("Four.\n\x1b[2J", temperature=0)
    made["reply"]["usage"] = {"prompt_tokens": 7}
    made["source"]["time"] = "2026-11-23T02:56:32Z"
    cache.add(name, made)
    code, out = semback("show", name[:9])
    lines = out.partition("\n---")[0].splitlines()
    facts = {each[:24].strip(): each[24:] for each in lines}
    assert code == 0 and facts["key"] == name and facts["request temperature"] == "0"
    assert facts["source"] == '{"host":"example.org","time":"2026-11-23T02:56:32Z"}'
    assert facts["reply usage"] == '{"prompt_tokens":7}'
    for message in MESSAGES:
        assert f"\n--- {message['role']}\n{message['content']}\n" in out
    assert out.endswith("--- reply\nFour.\n\\x1b[2J\n")
    code, out = semback("show", "0" * 64)
    assert code == 2 and "start of a key" in out


def test_every_command_knows_a_sealed_recording(semback, cache, tmp_path):
    name, path = entry()[0], tmp_path / "sealed.jsonl"
    cache.add(*entry())
    assert semback("export", "--sealed", path) == (0, f"1 replies are in {path}\n")
    code, out = semback("verify", path)
    assert code == 0 and out.startswith("1 replies are intact, 0 are not\n1 are sealed")
    cache.drop(name)
    assert semback("import", path)[1] == "1 new replies\n"
    assert semback("ls")[1] == f"{name[:12]}  m-1 (sealed)  0  Four.\n"
    out = semback("show", name)[1]
    assert "\nrequest sealed  " in out and out.endswith("--- reply\nFour.\n")
    assert "is recorded, but sealed" in semback("explain", name)[1]
    code, out = semback("explain", path)
    assert code == 1 and "a sealed line has none" in out
    (tmp_path / "request.json").write_text(json.dumps(entry()[1]["request"]))
    assert "is recorded: a reply of m-1" in semback("explain", tmp_path / "request.json")[1]
    path.write_text(path.read_text().replace("Four", "Five"))
    assert semback("verify", path)[0] == 1


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_what_the_output_cannot_encode_is_escaped(cache, encoding):
    cache.add(*entry("Größe ≥ 4 🙂"))
    run = subprocess.run(
        [sys.executable, "-c", "from semback.cli import main; main()", "cache", "ls"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "SEMBACK_CACHE_DIR": str(cache.folder)},
    )
    text = "Größe ≥ 4 🙂".encode(encoding, "backslashreplace")
    assert run.returncode == 0 and run.stdout.split(b"  ")[-1].rstrip() == text
