"""The response cache: exact keys, portable recordings, nothing unpickled, nothing lost."""

import asyncio
import gzip
import json
import os
import pickle
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace

import pytest
import zstandard

from semback import CacheMiss, ParameterError, ResponseCache
from semback.cache.recording import canonical, key, text_of
from semback.errors import CacheError

MESSAGES = [
    {"role": "system", "content": "Solve it."},
    {"role": "user", "content": "What is\n2 + 2?"},
]


def entry(text="Four.", draw=0, **request):
    """(key, entry) of a made-up response."""
    request = {"model": "m", "messages": MESSAGES, **request}
    reply = {
        "text": text,
        "finish_reason": "stop",
        "usage": {},
        "model": "m-1",
        "fingerprint": None,
    }
    return key(request, draw), {
        "request": request,
        "draw": draw,
        "reply": reply,
        "source": {"host": "example.org"},
    }


def as_text(*said):
    """(key, text of the entry) of a made-up response."""
    name, made = entry(*said)
    return name, canonical(made)


def chat(llm, messages=MESSAGES, **settings):
    return asyncio.run(llm.chat(messages, **settings))


def line(name, kept):
    return canonical({"key": name, **kept}) + "\n"


@pytest.fixture
def opened(tmp_path):
    """A factory: opened(name, mode) is a cache in a folder of that name; all are closed at the end."""
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
    assert key(request) == "a03ed0759ab58a6e1168ddd12136d74b02782d7ed72c752f9c2f4b6490fc73fe"
    assert (
        key(request, draw=1) == "82a3a4479bc557dbb6b5b6aaae8340a0b91cf4f0a7accacac9c456ffe09c9220"
    )


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
    said = script("Yes.")
    for settings, draw in (
        ({}, 0),
        ({"model": "n"}, 0),
        ({"params": {"top_p": 0.5}}, 0),
        ({}, 1),
        ({"params": {"seed": 4}}, 0),
        ({}, 0),
    ):
        chat(said.llm(cache=cache, **settings), draw=draw)
    assert len(cache) == len(said.asked) == 5


# Modes


def test_replay_makes_no_request_and_gives_the_same_reply(script, opened):
    live = chat(script("Yes,\r\nit is.\u2028\x00🙂").llm(cache=opened()))
    silent = script("Something else.")
    for mode in ("auto", "replay"):
        assert chat(silent.llm(cache=opened(mode=mode))) == replace(live, recorded=True)
    assert (
        silent.asked == []
        and not live.recorded
        and live.fingerprint == "fp_1"
        and live.model == "scripted-2024-07-18"
    )


def test_a_miss_in_replay_names_the_nearest_recording_and_what_differs(script, opened):
    said = script("Yes.")
    chat(said.llm(cache=opened()))
    chat(
        said.llm(cache=opened()),
        [
            {
                "role": "user",
                "content": "Something of an entirely different kind, far away from the rest.",
            }
        ],
    )
    with pytest.raises(CacheMiss) as miss:
        asked = [MESSAGES[0], {"role": "user", "content": "What is\n2 + 3?"}]
        chat(said.llm("scripted-2", opened(mode="replay"), params={"temperature": 0.5}), asked)
    text, nearest = (
        str(miss.value),
        key(
            {
                "model": "scripted",
                "messages": MESSAGES,
                "temperature": 0,
                "top_p": 1,
                "max_tokens": 1024,
            }
        ),
    )
    assert (
        len(said.asked) == 2
        and nearest[:12] in text
        and "differs in: messages, model, temperature" in text
    )
    assert "asked 'scripted-2', recorded 'scripted'" in text and "asked 0.5, recorded 0" in text
    assert (
        "-2 + 2?" in text and "+2 + 3?" in text and "Solve it." not in text and "top_p" not in text
    )


def test_a_miss_in_draw_alone_says_so_and_an_empty_cache_says_so(script, opened):
    with pytest.raises(CacheMiss, match="no response is recorded .* at all"):
        chat(script("").llm(cache=opened("empty", "replay")))
    chat(script("Yes.").llm(cache=opened()))
    with pytest.raises(CacheMiss, match="differs in: draw"):
        chat(script("").llm(cache=opened(mode="replay")), draw=3)


def test_refresh_calls_and_overwrites_and_off_neither_reads_nor_writes(script, opened):
    chat(script("Old.").llm(cache=opened()))
    assert chat(script("Off.").llm(cache=opened(mode="off"))).text == "Off."
    assert chat(script("").llm(cache=opened(mode="replay"))).text == "Old."
    assert chat(script("New.").llm(cache=opened(mode="refresh"))).text == "New."
    assert chat(script("").llm(cache=opened(mode="replay"))).text == "New." and len(opened()) == 1


def test_what_another_notebook_of_the_batch_has_refreshed_is_asked_once(
    script, opened, monkeypatch
):
    chat(script("Old.").llm(cache=opened()))
    monkeypatch.setenv("SEMBACK_BATCH", "/anywhere/.spent-1")
    one, two = script("New."), script("Newer.")
    assert chat(one.llm(cache=opened(mode="refresh"))).text == "New."
    assert chat(two.llm(cache=opened(mode="refresh"))).text == "New." and not two.asked


def test_the_environments_mode_goes_first_and_an_unknown_one_is_an_error(
    script, opened, monkeypatch
):
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "replay")
    with pytest.raises(CacheMiss):
        chat(script("Yes.").llm(cache=opened(mode="refresh")))
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "")
    assert opened(mode="off").mode == "off" and opened().mode == "auto"
    monkeypatch.setenv("SEMBACK_CACHE_MODE", "reply")
    with pytest.raises(ParameterError, match="'reply'.*auto, replay, refresh, off"):
        opened()


# Recordings


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"])
def test_an_export_is_sorted_whatever_came_first_the_same_twice_and_loads_again(
    opened, tmp_path, name
):
    entries = [entry(f"It is {i}.\r\n\u2028", i) for i in range(20)]
    one, two, three = opened("one"), opened("two"), opened("three")
    for each, other in zip(entries, reversed(entries)):
        one.add(*each), two.add(*other)
    paths = [tmp_path / str(number) / name for number in range(4)]
    assert [one.export(paths[0]), one.export(paths[1]), two.export(paths[2])] == [20] * 3
    assert three.load(paths[0]).new == 20 == len(three) and three.load(paths[0]) == (0, [], [])
    three.export(paths[3])
    assert len({path.read_bytes() for path in paths}) == 1 and [
        path.name for path in tmp_path.glob("0/*")
    ] == [name]
    data = paths[0].read_bytes()
    if name.endswith("gz"):
        data = gzip.decompress(data)
    if name.endswith("zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert [json.loads(each)["key"] for each in data.decode().split("\n")[:-1]] == sorted(
        dict(entries)
    )
    assert dict(three.entries()) == dict(entries)
    assert one.export(paths[3], keys={entries[3][0]}) == 1


@pytest.mark.parametrize(
    "old, new",
    [
        ("2 + 2", "2 + 3"),
        ('"m"', '"n"'),
        ('"draw":1', '"draw":2'),
        ('"key":"', '"key":"0'),
        ('"key"', '"name"'),
        ("{", ""),
        ('"reply"', '"answer"'),
        ('"reply":{', '"reply":7,"more":{'),
        ('"text"', '"words"'),
        ('"Four."', "null"),
        ('"usage"', '"used"'),
        ('"model":"m-1"', '"name":"m-1"'),
    ],
)
def test_load_refuses_an_altered_line_names_it_and_keeps_nothing_of_the_file(
    cache, tmp_path, old, new
):
    lines = [line(*entry(draw=draw)) for draw in range(3)]
    assert old in lines[1]
    (tmp_path / "bad.jsonl").write_text(
        lines[0] + lines[1].replace(old, new) + lines[2], encoding="utf-8"
    )
    with pytest.raises(CacheError, match="bad.jsonl, line 2"):
        cache.load(tmp_path / "bad.jsonl")
    assert len(cache) == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="not there"),
        pytest.param(b"no gzip", id="not gzip"),
        pytest.param(gzip.compress(b"x" * 99)[:20], id="cut"),
        pytest.param(gzip.compress(b"x" * 99)[:10] + b"\xff" * 20, id="damaged"),
        pytest.param(gzip.compress(b"\xff\xfe"), id="not UTF-8"),
    ],
)
def test_a_file_that_is_no_recording_is_a_cache_error_that_names_it(cache, tmp_path, data):
    if data is not None:
        (tmp_path / "bad.jsonl.gz").write_bytes(data)
    with pytest.raises(CacheError, match="bad.jsonl.gz"):
        cache.load(tmp_path / "bad.jsonl.gz")


def test_importing_never_overwrites(cache, tmp_path):
    name, old = entry("Old.")
    cache.add(name, old)
    (tmp_path / "r.jsonl").write_text(line(*entry("New.")) + line(*entry("Two.", 1)))
    assert cache.load(tmp_path / "r.jsonl") == (1, [name], []) and cache.get(name) == old


def test_recordings_in_the_folder_are_loaded_at_opening_and_once(opened, tmp_path):
    folder = tmp_path / "cache" / "recordings"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text(line(*entry("A.")))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(line(*entry("B.", 1)).encode()))
    (folder / "c.jsonl.part").write_text("half a lin")  # an export that was killed
    assert len(opened()) == 2
    first = opened(mode="replay")
    first._disk.delete(entry("A.")[0])  # only a second reading of the file would bring it back
    assert len(opened()) == 1
    (folder / "a.jsonl").write_text(line(*entry("A.")) + line(*entry("C.", 2)))
    assert len(opened()) == 3


# What lies in the table


def test_any_text_of_any_size_comes_back_to_the_letter(cache):
    name, kept = entry('a\r\nb\r\u2028\x00"\\🙂' * 20_000)
    assert cache.add(name, kept) == kept == cache.get(name)
    assert not [
        path
        for path in (cache.folder / "responses").rglob("*")
        if path.is_file() and not path.name.startswith("cache.db")
    ]


def test_the_first_stored_answer_counts_for_two_caches_on_one_folder(opened):
    one, two = opened(), opened()
    assert (
        one.add(*entry("First."))["reply"]["text"]
        == two.add(*entry("Second."))["reply"]["text"]
        == "First."
    )
    assert len(two) == 1


class Planted:
    """Unpickling one of these makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def plant(folder, **columns):
    """Put a row into the table behind the cache's back."""
    columns = {"raw": 1, "store_time": 0, "access_time": 0, "mode": 1, **columns}
    with closing(sqlite3.connect(folder / "responses" / "cache.db")) as db, db:
        db.execute(
            f"INSERT INTO Cache ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            tuple(columns.values()),
        )


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
    ],
    ids=str,
)
def test_a_planted_value_never_runs_or_leads_outside_and_is_a_cache_error(opened, tmp_path, row):
    cache, name, other = opened(), entry()[0], entry(draw=1)
    cache.add(*other)
    trap = pickle.dumps(Planted(tmp_path / "it ran"))
    for place in (cache.folder / "responses" / "planted.val", tmp_path / "outside"):
        place.write_bytes(trap)
    plant(
        cache.folder, key=name, **row | ({"value": trap} if row.get("value") == b"pickle" else {})
    )
    with pytest.raises(CacheError):
        cache.get(name)
    assert cache.get(other[0]) == other[1] and len(opened()) == 2
    with pytest.raises(CacheError):
        cache.export(tmp_path / "r.jsonl")
    with suppress(
        CacheError
    ):  # a planted file name may be refused here too; either way the file stays
        opened(mode="refresh").add(*entry("New."))
    assert not (tmp_path / "it ran").exists() and (tmp_path / "outside").read_bytes() == trap


def test_a_planted_key_never_runs_and_the_other_entries_still_work(opened, tmp_path):
    cache = opened()
    cache.add(*entry())
    plant(cache.folder, key=pickle.dumps(Planted(tmp_path / "it ran")), raw=0, value="{}")
    assert opened().get(entry()[0]) == entry()[1]
    with pytest.raises(CacheError):
        list(opened().entries())
    assert not (tmp_path / "it ran").exists()


def test_the_text_of_an_entry_is_what_canonical_writes_of_it():
    made = entry('"Four.\n\u2028é', 3)[1]
    assert text_of(canonical(made["request"]), 3, made["reply"], made["source"]) == canonical(made)


def test_what_tasks_keep_together_is_what_add_keeps_and_one_that_cannot_be_kept_takes_nothing_from_the_others(
    opened,
):
    together, cache = opened(), opened()
    before = cache.add(*entry("First.", 2))
    broken = entry("None.", 3)[0], "half of a character: \ud800"

    async def keep():
        gone = asyncio.create_task(together.keep(*as_text("Gone.", 4)))
        calls = [
            together.keep(*as_text("One.", 1)),
            together.keep(*as_text("Second.", 2)),
            together.keep(*broken),
        ]
        first = asyncio.create_task(asyncio.sleep(0))
        first.add_done_callback(lambda _: gone.cancel())  # while its entry waits to be written
        return await asyncio.gather(*calls, return_exceptions=True)

    one, two, three = asyncio.run(keep())
    assert one is None and two == before and isinstance(three, ValueError)
    assert cache.get(entry("", 1)[0]) == entry("One.", 1)[1]
    assert cache.get(entry("", 4)[0])["reply"]["text"] == "Gone." and len(cache) == 3
