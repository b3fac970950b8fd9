"""The response cache: exact keys, look-ups, modes, and what it makes of what is in its table."""

import asyncio
import os
import pickle
import tempfile
from contextlib import suppress
from dataclasses import replace

import pytest
from cache_helpers import (
    MESSAGES,
    Planted,
    database,
    entry,
    line,
    lookup,
    plant,
    record,
    reply,
)

from semback import CacheMiss, ParameterError, ResponseCache
from semback.cache import recording
from semback.cache.recording import canonical, key, key_and_body
from semback.errors import CacheError


def chat(llm, messages=MESSAGES, **settings):
    return asyncio.run(llm.chat(messages, **settings))


@pytest.fixture
def opened(tmp_path):
    """A factory: opened(name, mode) is a cache in that folder; all are closed at the end."""
    caches = []

    def make(name="cache", mode=None):
        caches.append(ResponseCache(tmp_path / name, mode))
        return caches[-1]

    yield make
    for each in caches:
        each.close()


# Keys


def test_the_key_is_pinned():
    request = {
        "model": "gpt-4o-mini-2024-07-18",
        "messages": [{"role": "user", "content": "Grüße\u2028"}],
        "temperature": 0,
        "top_p": 1,
        "max_tokens": 1024,
    }
    first = "a03ed0759ab58a6e1168ddd12136d74b02782d7ed72c752f9c2f4b6490fc73fe"
    second = "82a3a4479bc557dbb6b5b6aaae8340a0b91cf4f0a7accacac9c456ffe09c9220"
    assert (key(request), key(request, draw=1)) == (first, second)
    assert key_and_body(request) == (first, canonical(request))


def test_the_key_depends_on_every_field_and_the_draw_and_on_nothing_else():
    request = {"model": "m", "messages": MESSAGES, "temperature": 0}
    others = [
        {**request, "model": "n"},
        {**request, "temperature": 1},
        {**request, "seed": 1},
        {**request, "messages": MESSAGES[1:]},
        {"model": "m", "messages": MESSAGES},
        {**request, "messages": MESSAGES[::-1]},
    ]
    assert len({key(request), key(request, 1), *map(key, others)}) == 8
    assert key(dict(reversed(request.items()))) == key(request)


def test_another_model_parameter_prompt_or_draw_is_another_entry(script, cache):
    model = script("Yes.")
    for settings, draw in (
        ({}, 0),
        ({"model": "n"}, 0),
        ({"params": {"top_p": 0.5}}, 0),
        ({}, 1),
        ({"params": {"seed": 4}}, 0),
        ({}, 0),
    ):
        chat(model.llm(cache=cache, **settings), draw=draw)
    assert len(cache) == len(model.asked) == 5


# Look-ups and records


def test_a_recorded_reply_is_found_by_its_request_and_draw_alone(cache):
    assert lookup(cache) is None
    assert record(cache) == lookup(cache) == reply()
    assert lookup(cache, draw=1) is None
    assert cache.get(entry()[0]) == entry()[1]


def test_the_first_recorded_reply_counts_for_two_caches_on_one_folder(opened):
    one, two = opened(), opened()
    assert record(one, "First.") == record(two, "Second.") == lookup(two) == reply("First.")
    assert two.add(*entry("Third."))["reply"] == reply("First.")
    assert len(two) == 1


def test_any_text_of_any_size_is_replayed_to_the_letter_and_lies_in_the_table_alone(cache):
    text = 'a\r\nb\r\u2028\x00"\\🙂' * 20_000
    record(cache, text)
    assert lookup(cache)["text"] == text and cache.get(entry()[0]) == entry(text)[1]
    files = [path.name for path in (cache.folder / "responses").rglob("*") if path.is_file()]
    assert not [name for name in files if not name.startswith("cache.db")]


def test_the_text_of_an_entry_is_what_canonical_writes_of_it():
    made = entry('"Four.\n\u2028é', 3)[1]
    body = canonical(made["request"])
    assert recording.entry_text(body, 3, made["reply"], made["source"]) == canonical(made)


def test_a_reply_that_no_recording_can_hold_is_one_error_that_names_the_limit(
    cache, monkeypatch, tmp_path
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(recording, "LONGEST", 1000)
    for attempt in (
        lambda: record(cache, "x" * 1000),
        lambda: cache.add(*entry("x" * 1000)),
    ):
        with pytest.raises(CacheError, match="longer than 1,000 bytes") as error:
            attempt()
        assert "cache import" not in str(error.value)  # which would refuse it
    assert list((tmp_path / "temporary").iterdir()) == []
    assert len(cache) == 0 and record(cache, "x" * 500)


def test_what_is_no_entry_or_has_another_key_is_not_added(cache):
    for name, made in [("a" * 64, {}), ("b" * 64, entry()[1]), ("recordings", entry()[1])]:
        with pytest.raises(CacheError, match="cannot be recorded"):
            cache.add(name, made)
    assert len(cache) == 0


def test_a_closed_cache_opens_again_without_a_warning(cache):
    record(cache)
    cache.close()
    assert lookup(cache)
    cache.close()
    assert record(cache, draw=1)


# Modes


def test_replay_makes_no_request_and_gives_the_same_reply(script, opened):
    live = chat(script("Yes,\r\nit is.\u2028\x00🙂").llm(cache=opened()))
    silent = script("Something else.")
    for mode in ("auto", "replay"):
        assert chat(silent.llm(cache=opened(mode=mode))) == replace(live, recorded=True)
    assert silent.asked == [] and not live.recorded
    assert (live.fingerprint, live.model) == ("fp_1", "scripted-2024-07-18")


def test_a_miss_names_the_nearest_recording_and_what_differs(cache):
    near, far = entry(temperature=0, top_p=1), entry(messages=[{"role": "user", "content": "No."}])
    cache.add(*near), cache.add(*far)
    messages = [MESSAGES[0], {"role": "user", "content": "What is\n2 + 3?"}]
    request = {**near[1]["request"], "model": "n", "temperature": 0.5, "messages": messages}
    miss = cache.miss(request, 0)
    assert isinstance(miss, CacheMiss)
    assert (miss.key, miss.nearest) == (key(request), near[0])
    text = str(miss)
    assert (
        f"nearest is {near[0][:12]}…. It differs in:\n" in text
        and "draw" not in text.partition("nearest")[2]
    )
    assert "model: requested 'n', recorded 'm'" in text
    assert "temperature: requested 0.5, recorded 0\n" in text
    assert "-2 + 2?" in text and "+2 + 3?" in text
    assert "Solve it." not in text and "top_p" not in text


def test_a_miss_in_draw_alone_names_the_draw_and_an_empty_cache_has_no_nearest(opened):
    miss = opened("empty").miss(entry()[1]["request"], 0)
    assert miss.nearest is None and "no reply to this request (draw 0) is recorded" in str(miss)
    cache = opened()
    record(cache)
    text = str(cache.miss(entry()[1]["request"], 3))
    assert text.endswith("differs in:\n  draw: requested 3, recorded 0")


def test_a_miss_is_raised_in_mode_replay_and_explained_when_it_is_read(script, opened):
    with pytest.raises(CacheMiss) as miss:
        chat(script("").llm(cache=opened(mode="replay")))
    assert "mode auto requests and records it" in str(miss.value)


def test_refresh_requests_and_overwrites_and_off_neither_reads_nor_records(script, opened):
    chat(script("Old.").llm(cache=opened()))
    assert chat(script("Off.").llm(cache=opened(mode="off"))).text == "Off."
    assert chat(script("").llm(cache=opened(mode="replay"))).text == "Old."
    assert chat(script("New.").llm(cache=opened(mode="refresh"))).text == "New."
    assert chat(script("").llm(cache=opened(mode="replay"))).text == "New." and len(opened()) == 1


def test_a_reply_that_another_process_of_the_batch_has_refreshed_is_not_requested_again(
    opened, monkeypatch
):
    record(opened(), "Old.")
    monkeypatch.setenv("SEMBACK_BATCH", "/anywhere/.spent-1")
    one, two = opened(mode="refresh"), opened(mode="refresh")
    assert lookup(one) is None
    assert record(one, "New.") == lookup(one) == lookup(two) == reply("New.")
    monkeypatch.setenv("SEMBACK_BATCH", "")
    assert lookup(opened(mode="refresh")) is None


def test_the_environments_mode_goes_first_and_an_unknown_one_is_an_error(opened, monkeypatch):
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "replay")
    assert opened(mode="refresh").mode == "replay"
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "")
    assert opened(mode="off").mode == "off" and opened().mode == "auto"
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "reply")
    with pytest.raises(ParameterError, match="mode='reply' does not exist.*replay"):
        opened()


# What is in the table


@pytest.mark.parametrize(
    "row",
    [
        {"mode": 4, "value": b"pickle"},
        {"mode": 4, "filename": "planted.val"},
        {"mode": 4, "filename": "../../outside"},
        {"value": b"pickle"},
        {"mode": 2, "filename": "../../outside"},
        {"mode": 3, "filename": "../../outside"},
        {"filename": "../../outside", "value": "{}"},
        {"value": "hello"},
        {"value": "7"},
        {"value": "{}"},
        {"value": '{"reply":{"text":"Yes."}}'},
        {"value": canonical(entry("Other.", 2)[1])},
        {"value": "[" * 9999},
    ],
    ids=lambda row: str(row)[:40],
)
def test_a_planted_value_never_runs_or_leads_outside_and_is_a_cache_error(opened, tmp_path, row):
    cache, name, other = opened(), entry()[0], entry(draw=1)
    cache.add(*other)
    trap = pickle.dumps(Planted(tmp_path / "it ran"))
    for place in (cache.folder / "responses" / "planted.val", tmp_path / "outside"):
        place.write_bytes(trap)
    if row.get("value") == b"pickle":
        row = {**row, "value": trap}
    plant(cache, key=name, **row)
    for attempt in (
        lambda: cache.get(name),
        lambda: lookup(cache),
        lambda: cache.export(tmp_path / "r.jsonl"),
    ):
        with pytest.raises(CacheError, match=f"entry {name[:12]} .* drop {name[:12]}"):
            attempt()
    assert cache.get(other[0]) == other[1] and len(opened()) == 2
    assert cache.export(tmp_path / "r.jsonl", {other[0]}) == 1
    with suppress(CacheError):  # refused or replaced; either way the file stays
        opened(mode="refresh").add(*entry("New."))
    assert not (tmp_path / "it ran").exists() and (tmp_path / "outside").read_bytes() == trap


def test_an_altered_reply_of_the_right_request_is_a_cache_error(cache):
    record(cache)
    with database(cache) as db:
        db.execute("""UPDATE Cache SET value = replace(value, '"usage":{}', '"usage":[]')""")
    with pytest.raises(CacheError, match="was altered"):
        lookup(cache)


@pytest.mark.parametrize(
    "row",
    [
        {"raw": 0, "value": "{}"},
        {"key": 7, "value": "{}"},
        {"key": None, "value": "{}"},
        {"key": "x", "value": "{}"},
        {"key": entry()[0], "value": "null"},
        {"key": entry()[0], "value": canonical(entry("Other.", 2)[1])},
    ],
    ids=lambda row: str(row)[:40],
)
def test_a_planted_row_is_listed_and_named_and_can_be_dropped_while_the_others_work(
    cache, tmp_path, row
):
    good, late = entry("Good.", 1), entry("Late.", 3)
    cache.add(*good)
    plant(cache, **{"key": pickle.dumps(Planted(tmp_path / "it ran")), **row})
    assert cache.get(good[0]) == good[1] == cache.add(*good) and cache.add(*late) == late[1]
    rows = list(cache.rows())
    assert {name for name, made, _ in rows if made} == {good[0], late[0]} and len(cache) == 3
    ((bad, _, wrong),) = [each for each in rows if each[2]]
    with pytest.raises(CacheError, match=f"entry {bad[:12]} .* drop {bad[:12]}"):
        cache.export(tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()
    assert "nearest" in str(cache.miss(entry()[1]["request"], 9)) or bad == entry()[0]
    assert cache.drop(bad[:12]) == 1 and dict(cache.entries()) == dict([good, late])
    assert not (tmp_path / "it ran").exists()


def test_dropping_takes_out_what_begins_with_8_characters_and_a_row_by_its_whole_number(cache):
    names = [cache.add(*entry(draw=draw)) and entry(draw=draw)[0] for draw in range(3)]
    for number in range(12):
        plant(cache, key=f"planted {number}", value="{}")
    rows = sorted(name for name, _, _ in cache.rows() if ":" in name)
    assert cache.drop("row:1") == 0 and cache.drop(rows[-1]) == 1 and len(cache) == 14
    assert cache.drop(names[0][:8]) == 1 and cache.get(names[0]) is None
    for start in ("", "0", names[1][:7], "row:", "%", names[1][:8].upper() + "x"):
        with pytest.raises(ParameterError, match="at least 8 characters"):
            cache.drop(start)
    assert len(cache) == 13


# Recordings in the folder


def test_recordings_in_the_folder_are_read_at_opening_and_once(opened, tmp_path):
    folder = tmp_path / "cache" / "recordings"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text(line(*entry("A.")))
    recording.write(folder / "b.jsonl.gz", [entry("B.", 1)])
    (folder / "c.jsonl.part").write_text("half a lin")  # not a recording
    (folder / ".d.jsonl").write_text("half a lin")  # an export that was killed
    assert len(opened()) == 2
    opened().drop(entry("A.")[0])  # only a second reading of the file would bring it back
    assert len(opened(mode="replay")) == 1
    (folder / "a.jsonl").write_text(line(*entry("A.")) + line(*entry("C.", 2)))
    assert len(opened()) == 3


def test_what_another_process_is_reading_is_waited_for_and_not_read_again(opened, monkeypatch):
    cache = opened()
    (cache.folder / "recordings").mkdir()
    (cache.folder / "recordings" / "a.jsonl").write_text(line(*entry("A.")))
    read, paths = recording.digests, []

    def digests(folder):
        """Another process reads the recordings after we have seen that they are new."""
        found = read(folder)
        monkeypatch.setattr(recording, "digests", read)
        opened()
        monkeypatch.setattr(recording, "lines", paths.append)
        return found

    monkeypatch.setattr(recording, "digests", digests)
    assert len(opened()) == 1 and paths == []


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_recording_in_the_folder_that_is_no_plain_file_is_an_error_that_names_it(
    tmp_path, opened, kind
):
    folder = tmp_path / "cache" / "recordings"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere.jsonl").write_text(line(*entry()))
    make = {
        "link": lambda path: path.symlink_to(tmp_path / "elsewhere.jsonl"),
        "fifo": os.mkfifo,
        "folder": lambda path: path.mkdir(),
    }
    make[kind](folder / "a.jsonl")
    with pytest.raises(CacheError, match="a.jsonl is not a plain file"):
        opened()
