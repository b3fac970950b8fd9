"""The cache is safe and loses nothing: rights, planted rows and settings, full disks, locks, kills, network folders."""

import asyncio
import json
import os
import pickle
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import Script
from test_cache import Planted, as_text, entry, line, plant

from semback import CacheMiss, ResponseCache
from semback.cache import recording, table
from semback.errors import CacheError

HERE = Path(__file__).parents[1]
CHILD = """
import asyncio, json, os, resource, sys
sys.path.insert(0, {here!r})
from conftest import Script
from semback import LLM, ResponseCache
from test_cache import as_text, entry

def asked(i):
    return [{{"role": "user", "content": f"Question {{i}}?"}}]

"""


def child(code, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(here=str(HERE)) + code, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **settings,
    )


def output(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def database(cache):
    return closing(sqlite3.connect(cache.folder / "responses" / "cache.db", isolation_level=None))


@contextmanager
def nobody():
    """Somebody with no rights to the files of others: root has all."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def shared():
    """A cache folder with one response in its table and one in a recording, that only its owner may write."""
    top = Path(tempfile.mkdtemp())
    with closing(ResponseCache(top / "cache")) as cache:
        cache.add(*entry("Live."))
        (top / "cache" / "recordings").mkdir()
        (top / "cache" / "recordings" / "shipped.jsonl").write_text(line(*entry("Shipped.", 1)))
    for path in (top, *top.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with nobody():
        yield top / "cache"
    for path in (top, *top.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(top)


# Rights


def test_every_file_of_the_cache_is_for_its_owner_only_whatever_the_umask_and_whoever_made_it(
    tmp_path,
):
    old = os.umask(0)
    try:
        for _ in range(2):
            with closing(ResponseCache(tmp_path / "new" / "cache")) as cache:
                cache.add(*entry())
                assert cache.claim(entry()[0])
                paths = [cache.folder, *cache.folder.rglob("*")]
                assert {"cache.db", "cache.db-wal", "cache.db-shm", "asking"} <= {
                    path.name for path in paths
                }
                assert not [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
            for path in (cache.folder / "responses", cache.folder / "responses" / "cache.db"):
                path.chmod(0o777)  # as an older semback made them
    finally:
        os.umask(old)


# What lies in the table


@pytest.mark.parametrize(
    "name, value",
    [
        ("get", "x"),
        ("_disk", "x"),
        ("disk_fetch", "x"),
        ("disk_evil", 1),
        ("sqlite_journal_mode", "off"),
        ("sqlite_synchronous", 0),
        ("sqlite_writable_schema", 1),
        ("cull_limit", 10),
        ("count", "many"),
        ("eviction_policy", b"pickle"),
        (b"blob", 1),
        (7, 7),
    ],
    ids=str,
)
def test_a_planted_setting_never_runs_and_is_a_cache_error_that_names_the_file(
    cache, tmp_path, name, value
):
    cache.close()
    value = pickle.dumps(Planted(tmp_path / "it ran")) if value == b"pickle" else value
    with database(cache) as db:
        db.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, value))
    with pytest.raises(CacheError, match="cache.db was altered"):
        ResponseCache(cache.folder)
    with pytest.raises(
        CacheError, match="cache.db was altered"
    ):  # a replay does not go on with a copy of it
        ResponseCache(cache.folder, mode="replay")
    assert not (tmp_path / "it ran").exists()


def test_a_cache_that_an_older_semback_made_with_other_settings_of_sqlite_is_used_with_ours(cache):
    cache.add(*entry())
    cache.close()
    with database(cache) as db:
        db.executemany(
            "UPDATE Settings SET value = ? WHERE key = ?",
            [(2**13, "sqlite_cache_size"), (2**26, "sqlite_mmap_size")],
        )
    with closing(ResponseCache(cache.folder)) as again:
        assert again.get(entry()[0]) == entry()[1]
    with database(cache) as db:
        assert dict(db.execute("SELECT key, value FROM Settings"))["sqlite_mmap_size"] == 0


@pytest.mark.parametrize(
    "row",
    [
        {"raw": 0, "value": "{}"},
        {"key": 7, "value": "{}"},
        {"key": None, "value": "{}"},
        {"key": "x", "value": "{}"},
        {"key": entry()[0], "value": "null"},
        {"key": entry()[0], "value": "[" * 9999},
        {"key": entry()[0], "value": json.dumps(entry("Other.", 2)[1])},
    ],
    ids=lambda row: str(row)[:40],
)
def test_a_planted_row_is_listed_and_named_and_can_be_taken_out_while_the_others_work(
    cache, tmp_path, row
):
    good, late = entry("Good.", 1), entry("Late.", 3)
    cache.add(*good)
    plant(cache.folder, **{"key": pickle.dumps(Planted(tmp_path / "it ran"))} | row)
    assert cache.get(good[0]) == good[1] == cache.add(*good) and cache.add(*late) == late[1]
    assert {name for name, kept, wrong in cache.rows() if kept} == {good[0], late[0]} and len(
        cache
    ) == 3
    ((bad, _, wrong),) = [each for each in cache.rows() if each[2]]
    with pytest.raises(CacheError, match=f"entry {bad[:12]} .* drop {bad[:12]}"):
        cache.export(tmp_path / "r.jsonl")
    assert (
        not (tmp_path / "r.jsonl").exists() and cache.export(tmp_path / "r.jsonl", {good[0]}) == 1
    )
    assert isinstance(cache.miss(entry()[1]["request"], 9), CacheMiss) or bad == entry()[0]
    assert (
        cache.drop(bad[:12]) == 1
        and dict(cache.entries()) == dict([good, late])
        and not (tmp_path / "it ran").exists()
    )


def test_a_cache_of_a_newer_semback_is_refused_and_left_alone(cache):
    cache.add(*entry())
    cache.close()
    with database(cache) as db:
        db.execute("UPDATE Cache SET value = '2' WHERE key = 'format'")
        before = (
            db.execute("SELECT * FROM Settings").fetchall(),
            db.execute("SELECT * FROM Cache").fetchall(),
        )
        with pytest.raises(CacheError, match="newer semback.*format 2.*Update semback"):
            ResponseCache(cache.folder)
        assert before == (
            db.execute("SELECT * FROM Settings").fetchall(),
            db.execute("SELECT * FROM Cache").fetchall(),
        )


def test_a_cache_from_before_there_were_formats_is_used_as_it_is(cache):
    cache.add(*entry())
    cache.close()
    with database(cache) as db:
        db.execute("DELETE FROM Cache WHERE key = 'format'")
    with closing(ResponseCache(cache.folder)) as again:
        assert again.get(entry()[0]) == entry()[1]


def test_a_damaged_table_is_a_cache_error_that_says_so(cache):
    cache.close()
    (cache.folder / "responses" / "cache.db").write_bytes(
        b"not a database, but long enough to be looked at" * 99
    )
    with pytest.raises(CacheError, match="cache.db is damaged"):
        ResponseCache(cache.folder)


# Nothing is lost


def test_a_folder_that_cannot_be_made_is_a_cache_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="file/cache could not be opened.*SEMBACK_CACHE_DIR"):
        ResponseCache(tmp_path / "file" / "cache")


def test_a_read_only_folder_is_replayed_from_a_copy_and_refused_for_recording(shared):
    with pytest.raises(CacheError, match="could not be opened.*SEMBACK_CACHE_DIR"):
        ResponseCache(shared)
    with pytest.warns(UserWarning, match="temporary copy"):
        replay = ResponseCache(shared, mode="replay")
    assert [replay.get(entry(draw=draw)[0])["reply"]["text"] for draw in (0, 1)] == [
        "Live.",
        "Shipped.",
    ]
    copy = Path(replay._disk.directory)
    replay.close()
    del replay
    assert not copy.exists()


def test_a_full_disk_is_a_cache_error_and_what_was_there_stays_and_there_it_goes_on(tmp_path):
    code = """
cache = ResponseCache(sys.argv[1])
cache.add(*entry("Small."))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for i in range(1, 99):
        cache.add(*entry("Large. " * 5000, i))
except Exception as error:
    print(type(error).__name__, error)
kept = len(cache)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
cache.add(*entry("Large. " * 5000, i))
print(i, kept, len(cache), cache.get(entry()[0])["reply"]["text"])
"""
    said, counts = output(child(code, tmp_path / "cache")).splitlines()
    failed, kept, after, text = counts.split()
    assert said.startswith("CacheError") and "make room" in said and str(tmp_path / "cache") in said
    assert 1 < int(failed) == int(kept) == int(after) - 1 and text == "Small."


def test_what_is_answered_when_the_disk_is_full_is_written_elsewhere(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    add = cache._disk.add

    def add_five(key, text):
        if len(cache) >= 5:
            raise sqlite3.OperationalError("database or disk is full")
        return add(key, text)

    monkeypatch.setattr(cache._disk, "add", add_five)
    llm = Script(lambda body: f"To {body['messages'][0]['content']}: “yes”.\n").llm(cache=cache)

    async def ask():
        return await asyncio.gather(
            *(llm.chat([{"role": "user", "content": str(i)}]) for i in range(9)),
            return_exceptions=True,
        )

    told = [str(each) for each in asyncio.run(ask()) if isinstance(each, CacheError)]
    (path,) = {each.partition("semback cache import ")[2].strip("`.") for each in told}
    assert (
        len(told) == 4
        and len(cache) == 5
        and Path(path).parent == tmp_path
        and Path(path).stat().st_mode & 0o777 == 0o600
    )
    monkeypatch.undo()
    assert cache.load(path).new == 4 and len(cache) == 9


def test_of_entries_that_are_written_together_each_that_fits_on_the_disk_is_kept_and_the_others_have_their_error(
    tmp_path,
):
    code = """
import asyncio
cache = ResponseCache(sys.argv[1])
cache.add(*entry("Small."))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
sizes = [5000, 99_000, 4000, 99_000, 3000]
async def keep_all():
    return await asyncio.gather(*(cache.keep(*as_text("Large. " * size, i)) for i, size in enumerate(sizes, 1)), return_exceptions=True)
done = asyncio.run(keep_all())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(*[type(each).__name__ if each else "kept" for each in done])
print(*[i for i in range(6) if cache.get(entry("", i)[0])])
print(*[bool(each) for each in asyncio.run(keep_all())], len(cache))
"""
    said, there, after = output(child(code, tmp_path / "cache")).splitlines()
    assert (
        said == "kept CacheError kept CacheError kept"
        and there == "0 1 3 5"
        and after == "True False True False True 6"
    )


async def all_kept(cache, draws):
    return await asyncio.gather(
        *(cache.keep(*as_text("Kept.", draw)) for draw in draws), return_exceptions=True
    )


def test_a_table_that_stays_locked_is_a_cache_error_for_writers_and_none_for_readers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(table, "PATIENCE", 0.05)
    with closing(ResponseCache(tmp_path)) as cache, database(cache) as db:
        cache.add(*entry())
        db.execute("BEGIN IMMEDIATE")
        for attempt in (
            lambda: cache.add(*entry("Two.", 1)),
            lambda: cache.drop("a"),
            lambda: ResponseCache(tmp_path),
        ):
            with pytest.raises(CacheError, match="locked.*Another process"):
                attempt()
        assert cache.get(entry()[0]) == entry()[1]
        errors = asyncio.run(
            all_kept(cache, range(1, 9))
        )  # one error, since waiting for the table once is enough
        assert isinstance(errors[0], CacheError) and len({id(error) for error in errors}) == 1
        db.execute("ROLLBACK")
        assert not any(asyncio.run(all_kept(cache, range(2, 9))))
        assert [cache.get(entry("", i)[0]) for i in range(2, 9)] == [
            entry("Kept.", i)[1] for i in range(2, 9)
        ]
        assert cache.add(*entry("Two.", 1)) == entry("Two.", 1)[1]


RECORD = """
def answer(body):
    question = body["messages"][0]["content"]
    os.write(asked_for, (question + "\\n").encode())
    return question[::-1]

asked_for = os.open(sys.argv[3] if len(sys.argv) > 3 else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
llm = Script(answer).llm(cache=ResponseCache(sys.argv[1]))

async def one(i):
    reply = await llm.chat(asked(i))
    os.write(1, f"{reply.key} {int(reply.recorded)}\\n".encode())

async def main():
    await asyncio.gather(*map(one, range(int(sys.argv[2]))))

asyncio.run(main())
"""
KILLS, SEED = int(os.environ.get("SEMBACK_KILLS", 8)), int(os.environ.get("SEMBACK_SEED", 0))


def sound(folder):
    """{key: entry} of a cache whose process was killed; SQLite finds no fault in its file, and no entry is altered."""
    with closing(ResponseCache(folder)) as cache, database(cache) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return dict(cache.entries())


def test_a_recording_run_killed_at_random_moments_keeps_every_response_that_was_seen_and_asks_for_none_of_them_again(
    tmp_path,
):
    moments, folder, log = random.Random(SEED), tmp_path / "cache", tmp_path / "asked"
    kept, paid = {}, 0
    for kill in range(1, 1 + KILLS):
        run = child(RECORD, folder, kill * 60, log)
        lines = [run.stdout.readline() for _ in range(moments.randrange(kill * 60))]
        os.kill(run.pid, signal.SIGKILL)
        lines += (
            run.stdout.readlines()
        )  # not by communicate(), which loses what readline() has read ahead
        run.communicate()
        reported = dict(each.split() for each in lines if each.endswith("\n"))
        before, kept = kept, sound(folder)
        assert before.items() <= kept.items() and reported.keys() <= kept.keys()
        assert all(reported[name] == "1" for name in reported.keys() & before.keys())
        asked = log.read_text().split("\n")[:-1] if log.exists() else []
        questions = {
            name: entry["request"]["messages"][0]["content"] for name, entry in kept.items()
        }
        assert all(
            kept[name]["reply"]["text"] == question[::-1] for name, question in questions.items()
        )
        assert not {questions[name] for name in before} & set(asked[paid:]), (
            "the model was asked again for what is recorded"
        )
        paid = len(asked)
    rerun = dict(
        each.split() for each in output(child(RECORD, folder, kill * 60, log)).splitlines()
    )
    assert len(rerun) == kill * 60 and {name for name in rerun if rerun[name] == "1"} == set(kept)
    assert len(log.read_text().split("\n")[paid:-1]) == kill * 60 - len(kept), (
        "the model was asked for more than what is missing"
    )


def test_an_import_killed_at_random_moments_has_brought_in_everything_or_nothing(tmp_path):
    code = "cache = ResponseCache(sys.argv[1]); print('ready', flush=True); cache.load(sys.argv[2]); print('done', flush=True)"
    moments, entries = random.Random(SEED), [entry(f"It is {i}.", i) for i in range(3000)]
    recording.write(tmp_path / "r.jsonl", entries)

    def start(number):
        run = child(code, tmp_path / f"cache{number}", tmp_path / "r.jsonl")
        assert run.stdout.readline() == "ready\n"
        return run, time.monotonic()

    run, started = start(0)
    assert run.stdout.readline() == "done\n"
    whole = time.monotonic() - started  # seconds
    output(run)
    for kill in range(1, 1 + KILLS):
        run, _ = start(kill)
        time.sleep(moments.uniform(0, 1.2) * whole)
        run.kill()
        done = run.communicate()[0] == "done\n"
        kept = sound(tmp_path / f"cache{kill}")
        assert kept == dict(entries) if done else len(kept) in (0, 3000)
    run, _ = start(1)
    assert output(run) == "done\n" and sound(tmp_path / "cache1") == sound(
        tmp_path / "cache0"
    ) == dict(entries)


def test_two_processes_of_64_tasks_on_one_cache_make_one_call_for_each_request(tmp_path):
    code = RECORD.replace(
        "asyncio.run(main())",
        "print('ready', flush=True); sys.stdin.readline(); asyncio.run(main())",
    )
    runs = [child(code, tmp_path / "cache", 64, stdin=subprocess.PIPE) for _ in range(2)]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 2
    for run in runs:
        run.stdin.write("\n"), run.stdin.flush()
    said = [dict(each.split() for each in output(run).splitlines()) for run in runs]
    assert said[0].keys() == said[1].keys() and len(said[0]) == 64
    assert all({said[0][name], said[1][name]} == {"0", "1"} for name in said[0])


# Claims


def test_a_claim_keeps_other_processes_out_and_ends_with_its_process_however_that_ends(cache):
    claim = "cache = ResponseCache(sys.argv[1]); print(cache.claim(sys.argv[2]), flush=True); sys.stdin.readline()"
    one, name = child(claim, cache.folder, entry()[0], stdin=subprocess.PIPE), entry()[0]
    assert one.stdout.readline() == "True\n" and not cache.claim(name)
    one.kill()
    one.communicate()
    assert cache.claim(name) and not cache.claim(name)
    assert output(child(claim, cache.folder, name, stdin=subprocess.DEVNULL)) == "False\n"
    cache.release(name)
    assert output(child(claim, cache.folder, name, stdin=subprocess.DEVNULL)) == "True\n"


# Network folders


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre"])
def test_a_folder_on_a_network_file_system_is_refused_with_the_reason_unless_told_otherwise(
    tmp_path, monkeypatch, kind
):
    place = tmp_path / "a folder"
    at = str(place).replace(" ", "\\040")
    mounts = [
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw",
        f"2 1 0:9 / {at} rw - {kind} server:/ rw",
    ]
    (tmp_path / "mounts").write_text("\n".join(mounts) + "\n")
    monkeypatch.setattr(table, "_MOUNTS", str(tmp_path / "mounts"))
    with pytest.raises(CacheError, match=f"network file system .{kind}.*SEMBACK_CACHE_ON_NETWORK"):
        ResponseCache(place / "cache")
    with pytest.warns(UserWarning, match="temporary copy"):
        ResponseCache(place / "cache", mode="replay").close()
    ResponseCache(tmp_path / "local").close()
    monkeypatch.setenv("SEMBACK_CACHE_ON_NETWORK", "1")
    with closing(ResponseCache(place / "cache")) as cache:
        assert cache.add(*entry()) == entry()[1]
