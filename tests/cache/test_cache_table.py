"""The table is safe and loses nothing: rights, planted schemas and settings, full disks, kills."""

import asyncio
import os
import pickle
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from cache_helpers import Planted, child, database, entry, line, lookup, output, record, reply

from semback import ParameterError, ResponseCache
from semback.cache import recording, table
from semback.errors import CacheError

KILLS, SEED = int(os.environ.get("SEMBACK_KILLS", 8)), int(os.environ.get("SEMBACK_SEED", 0))


@contextmanager
def nobody():
    """Somebody with no rights to other people's files; root has them all."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def shared():
    """A cache that only its owner may write: one reply in its table and one in a recording."""
    top = Path(tempfile.mkdtemp())
    with closing(ResponseCache(top / "cache")) as cache:
        record(cache, "Live.")
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


def test_every_file_is_for_its_owner_only_whatever_the_umask_and_whoever_made_it(tmp_path):
    old = os.umask(0)
    try:
        for _ in range(2):
            with closing(ResponseCache(tmp_path / "new" / "cache")) as cache:
                record(cache)
                files = table_files(cache)
                assert {"cache.db", "cache.db-wal", "cache.db-shm", "locks"} <= files.keys()
                assert not [name for name, mode in files.items() if mode & 0o077]
            for path in (cache.folder / "responses", cache.folder / "responses" / "cache.db"):
                path.chmod(0o777)  # as somebody may have copied it
    finally:
        os.umask(old)


def table_files(cache):
    """{name: rights} of all files and folders of a cache, while a request is held."""

    async def main():
        async with cache.single_flight(entry()[0]):
            paths = [cache.folder, *cache.folder.rglob("*")]
            return {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}

    return asyncio.run(main())


def test_the_rights_of_what_a_link_leads_to_are_left_alone(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "real" / "real.db").touch(0o644)
    (tmp_path / "real" / "cache.db").symlink_to("real.db")
    (tmp_path / "cache" / "responses").symlink_to(tmp_path / "real")
    with closing(ResponseCache(tmp_path / "cache")) as cache:
        assert record(cache)
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "real" / "real.db").stat().st_mode) == 0o644


# What is in the table


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
    if value == b"pickle":
        value = pickle.dumps(Planted(tmp_path / "it ran"))
    with database(cache) as db:
        db.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, value))
    for mode in ("auto", "replay"):  # which does not continue with a copy
        with pytest.raises(CacheError, match="cache.db was altered: setting"):
            ResponseCache(cache.folder, mode)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER Cache AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
        "CREATE TRIGGER t BEFORE INSERT ON Cache BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (x)",
        "CREATE INDEX i ON Cache(value)",
        "DROP TRIGGER Settings_count_insert; CREATE TRIGGER Settings_count_insert "
        "AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
        "ALTER TABLE Settings RENAME TO S; CREATE VIEW Settings AS SELECT key, value FROM S",
        "ALTER TABLE Cache ADD COLUMN y GENERATED ALWAYS AS (abs(rowid))",
    ],
    ids=lambda statement: statement[:40],
)
def test_a_planted_trigger_view_or_table_is_a_cache_error_that_names_the_file(cache, statement):
    record(cache)
    cache.close()
    with database(cache) as db:
        db.executescript(statement)
    with pytest.raises(CacheError, match="cache.db was altered: .* in its schema"):
        ResponseCache(cache.folder)


def test_a_table_that_was_half_made_when_its_process_was_killed_is_completed(cache):
    record(cache)
    cache.close()
    with database(cache) as db:
        db.executescript("DROP TRIGGER Settings_size_delete; DROP INDEX Cache_expire_time")
    with closing(ResponseCache(cache.folder)) as again:
        assert lookup(again) == reply()


def test_a_table_of_the_first_release_is_used_as_it_is(cache):
    record(cache)
    cache.close()
    with database(cache) as db:  # which also marked its format
        db.execute(
            "INSERT INTO Cache (key, raw, store_time, access_time, mode, value) "
            "VALUES ('format', 1, 1.5, 1.5, 1, '1')"
        )
    with closing(ResponseCache(cache.folder)) as again:
        assert lookup(again) == reply() and len(again) == 1 == len(list(again.rows()))


def test_a_damaged_table_is_a_cache_error_with_advice(cache):
    cache.close()
    data = b"not a database, but long enough to be looked at" * 99
    (cache.folder / "responses" / "cache.db").write_bytes(data)
    with pytest.raises(CacheError, match="cache.db is damaged: move it away"):
        ResponseCache(cache.folder)


# Where the table is


@pytest.mark.parametrize(
    "file, folder",
    [("c", "c"), ("c", "c/cache"), ("c/responses", "c"), ("c/recordings", "c")],
)
def test_a_file_where_a_folder_should_be_is_a_cache_error_that_names_it(tmp_path, file, folder):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    for mode in ("auto", "replay"):
        with pytest.raises(CacheError, match=f"{folder} could not be opened.*SEMBACK_CACHE_DIR"):
            ResponseCache(tmp_path / folder, mode)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_a_table_that_is_no_file_is_a_cache_error(tmp_path, kind):
    path = tmp_path / "responses" / "cache.db"
    path.parent.mkdir()
    make = {"folder": Path.mkdir, "fifo": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero")}
    make[kind](path)
    for mode in ("auto", "replay"):  # which does not continue with a copy
        with pytest.raises(CacheError, match="cache.db'. Move it away"):
            ResponseCache(tmp_path, mode)


@pytest.mark.parametrize("folder", ["~nobody.here/x", "a\0b", "\ud800", 7, Path("a\0b")])
def test_a_folder_that_there_cannot_be_is_a_parameter_error_that_names_it(monkeypatch, folder):
    with pytest.raises(ParameterError) as error:
        ResponseCache(folder)
    assert f"{folder!r} cannot be a path" in str(error.value)
    if isinstance(folder, str) and folder.isprintable():  # else no variable can hold it
        monkeypatch.setenv("SEMBACK_CACHE_DIR", folder)
        with pytest.raises(ParameterError, match="cannot be a path"):
            ResponseCache()


@pytest.mark.process
def test_too_few_open_files_are_one_cache_error_that_says_so(tmp_path):
    code = """
ResponseCache(sys.argv[1]).close()  # imports all that it needs
used, limits = len(os.listdir("/proc/self/fd")) - 1, resource.getrlimit(resource.RLIMIT_NOFILE)
for left in range(8):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, limits[1]))
    try:
        ResponseCache(sys.argv[1]).close()
    except Exception as error:
        print(type(error).__name__, error)
"""
    errors = output(child(code, tmp_path)).splitlines()
    assert errors
    for error in errors:
        assert error.startswith(f"CacheError the cache in {tmp_path}") and "ulimit -n" in error


def test_a_read_only_folder_is_replayed_from_a_copy_and_refused_for_recording(shared):
    with pytest.raises(CacheError, match="could not be opened.*SEMBACK_CACHE_DIR"):
        ResponseCache(shared)
    with pytest.warns(UserWarning, match="temporary copy"):
        replay = ResponseCache(shared, mode="replay")
    assert [lookup(replay, draw)["text"] for draw in (0, 1)] == ["Live.", "Shipped."]
    copy = Path(replay._table.directory)
    replay.close()
    del replay
    assert not copy.exists()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre"])
def test_a_folder_on_a_network_file_system_is_refused_with_the_reason_unless_it_is_allowed(
    tmp_path, monkeypatch, kind
):
    place = tmp_path / "a folder"
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(place), fstype=kind),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    with pytest.raises(
        CacheError, match=f"on a network file system .{kind}.*SEMBACK_CACHE_ON_NETWORK"
    ):
        ResponseCache(place / "cache")
    with pytest.warns(UserWarning, match="temporary copy"):
        ResponseCache(place / "cache", mode="replay").close()
    ResponseCache(tmp_path / "local").close()
    monkeypatch.setenv("SEMBACK_CACHE_ON_NETWORK", "1")
    with closing(ResponseCache(place / "cache")) as cache:
        assert record(cache) == reply()


def test_a_table_that_is_moved_away_while_it_is_open_is_made_anew_with_a_warning(cache, tmp_path):
    record(cache, "Before.")
    (cache.folder / "responses").rename(tmp_path / "away")
    with pytest.warns(UserWarning, match="moved away.*recording goes on"):
        record(cache, "After.", 1)
    assert record(cache, "Later.", 2) == reply("Later.") and len(cache) == 2
    with closing(ResponseCache(cache.folder)) as again:
        assert lookup(again, 1) == reply("After.") and lookup(again) is None


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("way", ["shutil.copytree(*sys.argv[1:])", "cache.copy(sys.argv[2])"])
def test_a_copy_of_the_folder_in_the_recording_process_loses_no_reply(tmp_path, way):
    """Closing a file of the table gives up SQLite's POSIX locks, and others remove its log."""
    code = f"""
import shutil
cache = ResponseCache(sys.argv[1])
for draw in range(5):
    record(cache, draw=draw)
{way}
print("copied", flush=True)
sys.stdin.readline()
for draw in range(5, 10):
    record(cache, draw=draw)
print("recorded", flush=True)
sys.stdin.readline()
"""
    folder = tmp_path / "cache"
    run = child(code, folder, tmp_path / "copy", stdin=subprocess.PIPE)
    assert run.stdout.readline() == "copied\n"
    assert output(child("ResponseCache(sys.argv[1]).close()", folder)) == ""
    run.stdin.write("\n"), run.stdin.flush()
    assert run.stdout.readline() == "recorded\n"
    run.kill()
    assert ("its log was removed" in run.communicate()[1]) == way.startswith("shutil")
    assert sound(folder).keys() == {entry(draw=draw)[0] for draw in range(10)}
    with closing(ResponseCache(tmp_path / "copy")) as copy:
        assert len(copy) in (5, 10)


def test_a_copy_holds_what_is_recorded_for_its_owner_only_and_never_replaces_another(
    cache, tmp_path
):
    record(cache)
    with closing(ResponseCache(cache.folder)) as other, database(cache) as db:
        db.execute("BEGIN IMMEDIATE")  # another process writes
        other.copy(tmp_path / "new" / "copy")
    record(cache, "Later.", 1)
    folder = tmp_path / "new" / "copy" / "responses"
    assert [path.name for path in folder.iterdir()] == ["cache.db"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "cache.db").stat().st_mode) == 0o600
    assert sound(tmp_path / "new" / "copy") == dict([entry()])
    with pytest.raises(CacheError, match="could not be copied: .*one already.*Move it away"):
        cache.copy(tmp_path / "new" / "copy")
    assert len(sound(tmp_path / "new" / "copy")) == 1 and record(cache, "Last.", 2)


@pytest.mark.process
def test_a_copy_that_fails_leaves_nothing_and_can_be_made_later(tmp_path):
    code = """
cache = ResponseCache(sys.argv[1])
for draw in range(20):
    record(cache, "Large. " * 5000, draw)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    cache.copy(sys.argv[2])
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(sys.argv[2] + "/responses"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
cache.copy(sys.argv[2])
"""
    error, left = output(child(code, tmp_path / "cache", tmp_path / "copy")).splitlines()
    assert error.startswith("CacheError") and "make room" in error and left == "[]"
    assert len(sound(tmp_path / "copy")) == 20


# Full disks and locked tables


def full(*arguments):
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.process
@pytest.mark.slow
def test_on_a_full_disk_what_was_recorded_stays_and_later_recording_goes_on(tmp_path):
    code = """
cache = ResponseCache(sys.argv[1])
record(cache, "Small.")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for draw in range(1, 99):
        record(cache, "Large. " * 5000, draw)
except Exception as error:
    print(type(error).__name__, error)
count = len(cache)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
record(cache, "Large. " * 5000, draw)
print(draw, count, len(cache), lookup(cache)["text"])
"""
    error, counts = output(child(code, tmp_path / "cache")).splitlines()
    failed, before, after, text = counts.split()
    assert error.startswith("CacheError") and "make room" in error
    assert str(tmp_path / "cache") in error
    assert 1 < int(failed) == int(before) == int(after) - 1 and text == "Small."
    Path(error.rpartition("semback cache import ")[2].strip("`.")).unlink()


def test_replies_that_the_table_does_not_take_are_rescued_to_a_private_file(
    cache, monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    record(cache)
    monkeypatch.setattr(cache._table, "add", full)
    errors = []
    for draw in range(1, 4):
        with pytest.raises(CacheError) as error:
            record(cache, f"“{draw}”\n", draw)
        errors.append(str(error.value))
    (path,) = {error.partition("semback cache import ")[2].strip("`.") for error in errors}
    assert Path(path).parent == tmp_path and Path(path).stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    assert cache.load(path).new == 3 and lookup(cache, 2) == reply("“2”\n")


def test_a_reply_that_can_be_rescued_nowhere_is_one_cache_error_that_names_it(cache, monkeypatch):
    def nowhere(*arguments):
        raise FileNotFoundError("no usable temporary folder")

    monkeypatch.setattr(cache._table, "add", full)
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    name, made = entry()
    for attempt in (lambda: record(cache), lambda: cache.add(name, made)):
        with pytest.raises(CacheError, match=f"{name} is lost: no usable") as error:
            attempt()
        assert error.value.key == name


def test_after_half_a_line_was_rescued_the_next_goes_to_another_file(cache, monkeypatch, tmp_path):
    """A full disk takes only part of a line."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache._table, "add", full)
    with pytest.raises(CacheError):
        record(cache, draw=0)
    (first,) = tmp_path.glob("*.jsonl")
    first.unlink(), first.mkdir()  # the next line cannot be written
    with pytest.raises(CacheError, match="is lost"):
        record(cache, draw=1)
    with pytest.raises(CacheError, match="semback cache import"):
        record(cache, draw=2)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_a_table_that_stays_locked_is_a_cache_error_for_writers_and_none_for_readers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(table, "PATIENCE", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(ResponseCache(tmp_path)) as cache, database(cache) as db:
        record(cache)
        db.execute("BEGIN IMMEDIATE")
        for attempt in (
            lambda: cache.add(*entry("Two.", 1)),
            lambda: cache.drop("a" * 8),
            lambda: ResponseCache(tmp_path),
        ):
            with pytest.raises(CacheError, match="locked.*Another process"):
                attempt()
        assert lookup(cache) == reply()
        db.execute("ROLLBACK")
        assert record(cache, "Two.", 1) == reply("Two.")


# Killed processes

RECORD = """
cache = ResponseCache(sys.argv[1])
log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def chat(number):
    request = question(number)
    key, body = key_and_body(request)
    async with cache.single_flight(key):
        recorded = cache.lookup(key, body, 0) is not None
        if not recorded:
            os.write(log, f"{key}\\n".encode())
            await asyncio.sleep(0.001 * (number % 5))
            cache.record(key, body, 0, reply(f"Reply {number}."), SOURCE)
    os.write(1, f"{key} {int(recorded)}\\n".encode())

async def main():
    await asyncio.gather(*map(chat, range(int(sys.argv[2]))))

print("ready", flush=True)
if len(sys.argv) > 4:
    sys.stdin.readline()
asyncio.run(main())
"""


def sound(folder):
    """{key: entry} of a cache whose process was killed; nothing in it is damaged or altered."""
    with closing(ResponseCache(folder)) as cache, database(cache) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return dict(cache.entries())


@pytest.mark.process
@pytest.mark.slow
def test_a_process_killed_at_random_moments_loses_no_reply_that_was_seen_and_repeats_no_request(
    tmp_path,
):
    moments, folder, log = random.Random(SEED), tmp_path / "cache", tmp_path / "requested"
    recorded, requested = {}, 0
    for kill in range(1, 1 + KILLS):
        run = child(RECORD, folder, kill * 60, log)
        lines = [run.stdout.readline() for _ in range(1 + moments.randrange(kill * 60))]
        os.kill(run.pid, signal.SIGKILL)
        lines += run.stdout.readlines()  # communicate() loses what readline() has read ahead
        run.communicate()
        seen = dict(each.split() for each in lines[1:] if each.endswith("\n"))
        before, recorded = recorded, sound(folder)
        assert before.items() <= recorded.items() and seen.keys() <= recorded.keys()
        assert all(seen[key] == "1" for key in seen.keys() & before.keys())
        requests = log.read_text().split("\n")[:-1]
        assert not before.keys() & set(requests[requested:]), "a recorded reply was requested again"
        requested = len(requests)
    run = output(child(RECORD, folder, kill * 60, log)).splitlines()[1:]
    rerun = dict(each.split() for each in run)
    assert len(rerun) == kill * 60
    assert {key for key in rerun if rerun[key] == "1"} == recorded.keys()
    assert len(log.read_text().split("\n")[requested:-1]) == kill * 60 - len(recorded)


@pytest.mark.process
@pytest.mark.slow
def test_two_processes_of_64_tasks_on_one_cache_make_one_call_for_each_request(tmp_path):
    arguments = tmp_path / "cache", 64, tmp_path / "requested", "wait"
    runs = [child(RECORD, *arguments, stdin=subprocess.PIPE) for _ in range(2)]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 2
    for run in runs:
        run.stdin.write("\n"), run.stdin.flush()
    one, two = (dict(each.split() for each in output(run).splitlines()) for run in runs)
    requests = (tmp_path / "requested").read_text().split()
    assert one.keys() == two.keys() == set(requests) and len(requests) == 64
    assert all({one[key], two[key]} == {"0", "1"} for key in one)


@pytest.mark.process
@pytest.mark.slow
def test_an_import_killed_at_random_moments_has_brought_in_everything_or_nothing(tmp_path):
    code = """
cache = ResponseCache(sys.argv[1])
print("ready", flush=True)
cache.load(sys.argv[2])
print("done", flush=True)
"""
    moments, entries = random.Random(SEED), [entry(f"It is {i}.", i) for i in range(1000)]
    recording.write(tmp_path / "r.jsonl", entries)

    def start(number):
        run = child(code, tmp_path / f"cache{number}", tmp_path / "r.jsonl")
        assert run.stdout.readline() == "ready\n"
        return run, time.monotonic()

    run, started = start(0)
    assert run.stdout.readline() == "done\n"
    whole = time.monotonic() - started  # seconds
    output(run)
    for kill in range(1, 1 + KILLS // 2):
        run, _ = start(kill)
        time.sleep(moments.uniform(0, 1.2) * whole)
        run.kill()
        done = run.communicate()[0] == "done\n"
        found = sound(tmp_path / f"cache{kill}")
        assert found == dict(entries) if done else len(found) in (0, len(entries))
    run, _ = start(1)
    assert output(run) == "done\n" and sound(tmp_path / "cache1") == dict(entries)
