"""Recordings between machines."""

import asyncio
import gzip
import json
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from cache_helpers import child, entry, line, lookup, output, record, reply
from hypothesis import given, settings
from hypothesis import strategies as st

from semback import ResponseCache
from semback.cache import recording
from semback.errors import CacheError


def merged(folder, paths):
    """(the bytes that a new cache exports after reading these recordings, keys of conflicts)."""
    with closing(ResponseCache(folder)) as cache:
        conflicts = {name for path in paths for name in cache.load(path).conflicts}
        cache.export(folder / "merged.jsonl")
    return (folder / "merged.jsonl").read_bytes(), conflicts


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"])
def test_an_export_is_sorted_the_same_in_whatever_order_it_was_recorded_and_loads_again(
    tmp_path, name
):
    entries = [entry(f"It is {i}.\r\n\u2028", i) for i in range(20)]
    paths = [tmp_path / str(number) / name for number in range(4)]
    with (
        closing(ResponseCache(tmp_path / "one")) as one,
        closing(ResponseCache(tmp_path / "two")) as two,
        closing(ResponseCache(tmp_path / "three")) as three,
    ):
        for each, other in zip(entries, reversed(entries)):
            one.add(*each), two.add(*other)
        assert [one.export(paths[0]), one.export(paths[1]), two.export(paths[2])] == [20] * 3
        assert three.load(paths[0]).new == 20 == len(three)
        assert three.load(paths[0]) == (0, [], [])
        three.export(paths[3])
        assert dict(three.entries()) == dict(entries)
    assert len({path.read_bytes() for path in paths}) == 1
    assert [path.name for path in tmp_path.glob("0/*")] == [name]
    data = paths[0].read_bytes()
    if name.endswith("gz"):
        data = gzip.decompress(data)
    if name.endswith("zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    keys = [json.loads(each)["key"] for each in data.decode().split("\n")[:-1]]
    assert keys == sorted(dict(entries))


def test_an_export_may_be_of_some_keys_only(cache, tmp_path):
    entries = [cache.add(*entry(draw=draw)) and entry(draw=draw) for draw in range(4)]
    assert cache.export(tmp_path / "r.jsonl", keys={entries[3][0]}) == 1
    assert [key for _, key, _, _ in recording.lines(tmp_path / "r.jsonl")] == [entries[3][0]]


@pytest.mark.slow
def test_the_shipped_recording_is_read_and_written_to_the_same_bytes(tmp_path):
    shipped = Path(__file__).parents[2] / "cache" / "recordings" / "demo.jsonl.zst"
    entries = [(key, entry) for _, key, entry, _ in recording.lines(shipped)]
    assert recording.write(tmp_path / "r.jsonl", entries) == len(entries) > 10_000
    data = b"".join(recording.line(key, entry) for key, entry in sorted(entries))
    assert (tmp_path / "r.jsonl").read_bytes() == data
    packed = zstandard.ZstdDecompressor().stream_reader(shipped.read_bytes()).read()
    assert packed == data


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


@pytest.mark.process
@pytest.mark.slow
def test_what_two_processes_recorded_merges_in_either_order_to_the_same_bytes(tmp_path):
    code = """
cache = ResponseCache(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    key, body = key_and_body(question(number))
    cache.record(key, body, 0, reply(f"Reply {number}."), {"host": sys.argv[4]})
print(*(cache.export(f"{sys.argv[1]}.jsonl{end}") for end in ("", ".gz", ".zst")))
"""
    runs = [
        child(code, tmp_path / "one", 0, 20, "a.example"),
        child(code, tmp_path / "two", 10, 30, "b.example"),
    ]
    assert [output(run) for run in runs] == ["20 20 20\n"] * 2
    results = []
    for end in ("", ".gz", ".zst"):
        paths = [tmp_path / f"{name}.jsonl{end}" for name in ("one", "two")]
        for number, order in enumerate((paths, paths[::-1], paths * 2)):
            results.append(merged(tmp_path / f"{number}{end}", order))
    rows, conflicts = results[0]
    assert results == [(rows, set())] * 9
    assert rows.count(b"\n") == 30 and not conflicts
    hosts = {json.loads(row)["source"]["host"] for row in rows.splitlines()}
    assert hosts == {"a.example", "b.example"}


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(["a.example", "b.example"]), st.booleans())
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_recordings_without_a_conflict_merge_to_the_same_bytes_in_every_order_and_format(
    tmp_path_factory, recordings, data
):
    folder, paths = tmp_path_factory.mktemp("merge"), []
    for number, drawn in enumerate(recordings):
        paths.append(
            folder / f"{number}{data.draw(st.sampled_from(['.jsonl', '.jsonl.gz', '.jsonl.zst']))}"
        )
        entries = {}
        for draw, host, is_sealed in drawn:
            name, made = entry(f"It is {draw}.", draw, host)
            entries[name] = recording.sealed(name, made) if is_sealed else made
        recording.write(paths[-1], sorted(entries.items()))
    (one, conflicts), (other, _) = (
        merged(folder / "one", paths),
        merged(folder / "other", data.draw(st.permutations(paths))),
    )
    assert (
        one == other
        and not conflicts
        and one.count(b"\n") == len({draw for drawn in recordings for draw, _, _ in drawn})
    )


# Sealed recordings


@pytest.fixture
def sealed(tmp_path):
    """The path of a sealed recording of three replies."""
    with closing(ResponseCache(tmp_path / "recorded")) as cache:
        for draw in range(3):
            cache.add(*entry(f"It is {draw}.", draw))
        assert cache.export(tmp_path / "sealed.jsonl", sealed=True) == 3
    return tmp_path / "sealed.jsonl"


def test_a_sealed_recording_holds_nothing_of_a_request_and_replays_for_whoever_sends_it(
    cache, sealed
):
    text = sealed.read_text()
    assert "2 + 2" not in text and "Solve it" not in text and "messages" not in text
    assert cache.load(sealed) == (3, [], []) and cache.load(sealed) == (0, [], [])
    assert lookup(cache, 2) == reply("It is 2.") and lookup(cache, 3) is None
    name = entry(draw=1)[0]
    assert cache.get(name) == recording.sealed(name, entry("It is 1.", 1)[1])
    assert record(cache, "Another.", 1) == reply("It is 1.")
    miss = cache.miss(entry(draw=3)[1]["request"], 3)
    assert miss.nearest is None and "no reply to this request (draw 3)" in str(miss)
    assert "is recorded: a reply of m-1" in cache.explain(entry()[1]["request"], 1)


def test_a_sealed_recording_replays_through_a_model(script, tmp_path):
    async def chats(llm):
        return [(await llm.chat([{"role": "user", "content": text}])).text for text in "ab"]

    with closing(ResponseCache(tmp_path / "one")) as one:
        live = asyncio.run(chats(script(["One.", "Two."]).llm(cache=one)))
        one.export(tmp_path / "sealed.jsonl.zst", sealed=True)
    with closing(ResponseCache(tmp_path / "two", "replay")) as two:
        two.load(tmp_path / "sealed.jsonl.zst")
        silent = script("Another.")
        assert asyncio.run(chats(silent.llm(cache=two))) == live and not silent.asked


def test_a_sealed_entry_is_exported_as_it_is_and_a_full_one_of_the_same_reply_fills_it_in(
    cache, sealed, tmp_path
):
    cache.load(sealed)
    for path, is_sealed in ((tmp_path / "one.jsonl", False), (tmp_path / "two.jsonl", True)):
        cache.export(path, sealed=is_sealed)
        assert path.read_bytes() == sealed.read_bytes()
    name, full = entry("It is 0.")
    assert cache.add(name, full) == full == cache.get(name)  # whatever its host
    (tmp_path / "full.jsonl").write_text(
        line(*entry("It is 1.", 1, "b.example")) + line(*entry("Another.", 2))
    )
    assert cache.load(tmp_path / "full.jsonl") == (0, [entry(draw=2)[0]], [])
    assert "request" in cache.get(entry(draw=1)[0]) and "sealed" in cache.get(entry(draw=2)[0])
    assert cache.load(sealed) == (0, [], []) and cache.get(name) == full
    assert [lookup(cache, draw)["text"] for draw in range(3)] == [
        "It is 0.",
        "It is 1.",
        "It is 2.",
    ]


@pytest.mark.parametrize(
    "old, new",
    [
        ("It is", "It was"),
        ('"key":"', '"key":"0'),
        ('"draw":', '"draw":1'),
        ("example.org", "example.com"),
        ('"sealed":"', '"sealed":"0'),
        ('"sealed":"', '"seal":"'),
        ('"sealed":"', '"request":{},"sealed":"'),
        ('"stop"', '"length"'),
    ],
)
def test_a_sealed_line_that_was_altered_is_refused(cache, sealed, old, new):
    sealed.write_text(sealed.read_text().replace(old, new))
    with pytest.raises(CacheError, match="sealed.jsonl, line 1"):
        cache.load(sealed)
    loaded = cache.load(sealed, skip=True)
    assert loaded.new == len(cache) == 0 and len(loaded.refused) == 3


@pytest.mark.parametrize("name", ["recordings", "format", "x" * 64, entry()[0].upper(), 7, None])
def test_a_sealed_line_can_have_no_other_key_than_a_hash(cache, tmp_path, name):
    made = recording.sealed(name, entry()[1])
    (tmp_path / "r.jsonl").write_bytes(recording.line(name, made))
    with pytest.raises(CacheError, match="line 1: "):
        cache.load(tmp_path / "r.jsonl")
    assert len(cache) == 0


@pytest.mark.slow
@settings(max_examples=15)
@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_of_two_different_replies_the_first_stays_and_the_conflict_is_the_same_in_either_order(
    tmp_path_factory, a, b, other
):
    folder = tmp_path_factory.mktemp("conflict")
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    said = [
        dict(entry("Four.", draw) for draw in a),
        dict(entry("Five." if draw in other else "Four.", draw) for draw in b),
    ]
    for path, entries in zip(paths, said):
        recording.write(path, sorted(entries.items()))
    (first, conflicts), (second, again) = (
        merged(folder / "1", paths),
        merged(folder / "2", paths[::-1]),
    )
    assert conflicts == again == {entry(draw=draw)[0] for draw in a & b & other}
    rows = [
        {(data := json.loads(row)).pop("key"): data for row in text.splitlines()}
        for text in (first, second)
    ]
    assert rows == [said[1] | said[0], said[0] | said[1]]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 99_999,
        '{"key":"\ud800"}',
        line(*entry()).replace("Four.", "\\ud800"),
        line(*entry()).replace('"draw":0', '"draw":' + "9" * 5000),
        "null",
        "7",
    ],
    ids=lambda text: text[:12],
)
def test_a_line_that_would_break_a_reader_is_refused_by_its_number_and_the_others_come_in(
    cache, tmp_path, text
):
    path = tmp_path / "r.jsonl"
    path.write_bytes(
        (line(*entry("Good.", 1)) + text.strip() + "\n").encode("utf-8", "backslashreplace")
    )
    with pytest.raises(CacheError, match="r.jsonl, line 2: .*nothing was read"):
        cache.load(path)
    assert len(cache) == 0
    loaded = cache.load(path, skip=True)
    assert loaded.new == len(loaded.refused) == len(cache) == 1 and loaded.refused[0].startswith(
        "line 2: "
    )


def test_a_line_that_is_no_text_is_named_and_may_be_passed_over(cache, tmp_path):
    (path := tmp_path / "r.jsonl").write_bytes(
        line(*entry()).encode() + b"\xff\n" + line(*entry("Two.", 1)).encode()
    )
    with pytest.raises(CacheError, match="line 2: "):
        cache.load(path)
    assert cache.load(path, skip=True).new == 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_packed_recording_that_is_cut_or_altered_anywhere_is_refused(cache, tmp_path, ending):
    path = tmp_path / f"r.jsonl{ending}"
    recording.write(path, [entry(f"It is {draw}, since {draw}.", draw) for draw in range(40)])
    packed = path.read_bytes()
    damaged = [packed[:size] for size in (*range(0, len(packed), 7), len(packed) - 1)]
    for place in range(20, len(packed), 5):
        flipped = packed[place] ^ 1 << place % 8
        damaged.append(packed[:place] + bytes([flipped]) + packed[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(CacheError, match=f"r.jsonl{ending}"):
            for number, _, _, wrong in recording.lines(path):
                if wrong:
                    raise CacheError(f"{path}, line {number}: {wrong}")
    with pytest.raises(CacheError, match=f"r.jsonl{ending}"):
        cache.load(path)
    assert len(cache) == 0
    path.write_bytes(packed + packed)
    assert cache.load(path).new == 40


def test_two_that_write_one_recording_at_one_time_leave_a_whole_one(tmp_path):
    path, entries = tmp_path / "r.jsonl", [entry(draw=draw) for draw in range(20)]

    def begins(entries, other):
        for number, each in enumerate(entries):
            if number == 10:
                other()
            yield each

    recording.write(path, begins(entries, lambda: recording.write(path, entries[:5])))
    assert len(list(recording.lines(path))) == 20 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "file/x.jsonl",
        "/proc/x/y.jsonl",
        "x" * 300 + ".jsonl",
        "nul\0.jsonl",
        "\ud800.jsonl",
        "~nobody.here/x.jsonl",
        ".",
    ],
)
def test_a_recording_that_cannot_be_written_or_read_is_one_clear_error(
    cache, tmp_path, path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be written"):
        cache.export(path)
    with pytest.raises(CacheError, match="cannot be read"):
        cache.load(path)


def test_a_path_of_ones_home_or_with_a_variable_is_that_path_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "here")
    monkeypatch.setenv("SEMBACK_CACHE_DIR", "~/$PLACE")
    with closing(ResponseCache()) as cache:
        cache.add(*entry())
        cache.export("~/r.jsonl")
        cache.copy("~/copy")
        assert cache.folder == tmp_path / "here"
    assert (tmp_path / "here" / "responses" / "cache.db").is_file()
    with closing(ResponseCache("~/copy")) as copy:
        assert len(copy) == 1 and copy.load("~/$PLACE/../r.jsonl").new == 0


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 10**6])
def test_a_line_that_is_too_long_is_refused_as_one_and_the_next_has_its_number(
    cache, tmp_path, monkeypatch, length
):
    monkeypatch.setattr(recording, "LONGEST", 10_000)
    data = b"x" * length + b"\n" + line(*entry()).encode() + b"y"
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(data))
    loaded = cache.load(tmp_path / "r.jsonl.gz", skip=True)
    assert loaded.new == 1 and [each[:8] for each in loaded.refused] == ["line 1: ", "line 3: "]


def test_a_line_of_brackets_is_refused_before_it_fills_the_memory_and_a_long_text_is_not(
    cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(recording, "LONGEST", 10_000)
    name, made = entry('[{"\\' * 900)
    bloated = {**made, "reply": {**made["reply"], "more": [[]] * 2000}}
    (tmp_path / "r.jsonl").write_text(line(name, made) + line(name, bloated))
    assert cache.load(tmp_path / "r.jsonl", skip=True) == (
        1,
        [],
        ["line 2: it is not a recorded reply"],
    )


def test_of_many_bad_lines_the_first_are_shown_and_the_rest_counted(cache, tmp_path):
    bad = line(*entry()).replace("2 + 2", "2 + 3")
    twice = line(*entry("Another.", 1)) * 2
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress((line(*entry("One.", 1)) + bad * 30_000 + twice).encode()))
    new, conflicts, refused = cache.load(path, skip=True)
    assert (new, conflicts) == (1, [entry(draw=1)[0]])
    assert len(refused) == 21 and refused[0].startswith("line 2: its key")
    assert refused[-1] == "29,980 more lines"
