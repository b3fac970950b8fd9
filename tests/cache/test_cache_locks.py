"""Single-flight: one holder for a request, over tasks, threads, caches, processes and forks."""

import asyncio
import os
import shutil
import subprocess
import threading
import warnings
from contextlib import closing

import pytest
from cache_helpers import child, entry, output, record

from semback import ResponseCache
from semback.cache import locks, responses
from semback.errors import CacheError

KEY = entry()[0]
HOLD = """
cache = ResponseCache(sys.argv[1])

async def main():
    async with cache.single_flight(sys.argv[2]):
        print("held", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


def held(cache, key=KEY):
    """Whether anybody holds this request."""
    with locks.attempt(str(cache.folder / "responses" / "locks" / key)) as free:
        return not free


async def overlap(*caches):
    """The most tasks that held one request at the same time, over some tasks for each cache."""
    now, most = 0, 0

    async def one(cache):
        nonlocal now, most
        async with cache.single_flight(KEY):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(one(cache) for cache in caches for _ in range(4)))
    return most


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(responses, "_POLL", 0.001)


def test_one_task_at_a_time_holds_a_request_over_all_caches_on_a_folder(cache, quick):
    with closing(ResponseCache(cache.folder)) as other:
        assert asyncio.run(overlap(cache, other)) == 1
        assert not held(cache)


def test_different_requests_are_held_at_the_same_time_and_their_files_removed(cache):
    async def main():
        async with cache.single_flight("a" * 64), cache.single_flight("b" * 64):
            assert held(cache, "a" * 64) and held(cache, "b" * 64) and not held(cache)

    asyncio.run(main())
    assert list((cache.folder / "responses" / "locks").iterdir()) == []


def test_threads_with_event_loops_of_their_own_exclude_each_other(cache, quick):
    inside, most = [], []

    async def hold():
        for _ in range(20):
            async with cache.single_flight(KEY):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=asyncio.run, args=(hold(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60 and set(most) == {1}


def test_an_error_or_a_cancellation_frees_the_request(cache, quick):
    async def fail():
        async with cache.single_flight(KEY):
            raise ConnectionError("of the network, not of the cache")

    async def main():
        with pytest.raises(ConnectionError):
            await fail()
        holding = asyncio.Event()

        async def hold():
            async with cache.single_flight(KEY):
                holding.set()
                await asyncio.sleep(60)

        first = asyncio.create_task(hold())
        await holding.wait()
        second = asyncio.create_task(hold())
        await asyncio.sleep(0.01)
        for task in (second, first):
            task.cancel()
            await asyncio.wait([task])
        assert not held(cache)

    asyncio.run(main())


def test_whoever_waits_for_long_is_warned_once(cache, monkeypatch):
    monkeypatch.setattr(responses, "_POLL", 0.001)
    monkeypatch.setattr(responses, "_POLLS_BEFORE_WARNING", 3)

    async def main():
        async with cache.single_flight(KEY):
            waiting = asyncio.create_task(hold())
            await asyncio.sleep(0.05)
        await waiting

    async def hold():
        async with cache.single_flight(KEY):
            pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [KEY[:12] in str(each.message) for each in caught] == [True]


@pytest.mark.process
@pytest.mark.slow
def test_a_request_is_held_over_processes_and_a_killed_process_holds_nothing(cache):
    one = child(HOLD, cache.folder, KEY, stdin=subprocess.PIPE)
    assert one.stdout.readline() == "held\n" and held(cache)
    one.kill()
    one.communicate()
    assert not held(cache)
    two = child(HOLD, cache.folder, KEY, stdin=subprocess.PIPE)
    assert two.stdout.readline() == "held\n" and held(cache)
    two.communicate("\n")
    assert not held(cache)


@pytest.mark.process
def test_a_copy_of_the_folder_in_the_same_process_frees_nothing(cache, tmp_path):
    async def main():
        async with cache.single_flight(KEY):
            shutil.copytree(cache.folder, tmp_path / "copy")
            (cache.folder / "responses" / "locks" / KEY).read_bytes()
            assert held(cache)
            attempt = "print(held(ResponseCache(sys.argv[1])))"
            code = f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
            code += f"from test_cache_locks import held\n{attempt}"
            assert output(child(code, cache.folder)) == "True\n"

    asyncio.run(main())


def in_fork(work):
    """What a forked child finds: its exit code is 0 if this is true."""
    process = os.fork()
    if process == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_neither_has_nor_frees_what_its_parent_holds(cache):
    async def main():
        flight = cache.single_flight(KEY)
        await flight.__aenter__()

        def leave():
            """The end of the block in the child, as when it unwinds its copy of the stack."""
            with pytest.raises(StopIteration):
                flight.__aexit__(None, None, None).send(None)
            return held(cache)

        assert in_fork(lambda: held(cache)) == 0
        assert in_fork(leave) == 0
        assert held(cache)
        await flight.__aexit__(None, None, None)
        assert not held(cache)

    asyncio.run(main())


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_that_lives_on_does_not_keep_what_its_killed_parent_held(cache):
    code = """
cache = ResponseCache(sys.argv[1])

async def main():
    async with cache.single_flight(sys.argv[2]):
        if not os.fork():
            print("held", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""
    parent = child(code, cache.folder, KEY, stdin=subprocess.PIPE)
    assert parent.stdout.readline() == "held\n" and held(cache)
    parent.kill()
    parent.wait()
    assert not held(cache)  # while the child, which has the same pipe, waits for a line
    parent.communicate("\n")


def test_a_folder_that_was_moved_away_and_made_anew_holds_requests_again(cache, tmp_path):
    async def main():
        async with cache.single_flight(KEY):
            (cache.folder / "responses").rename(tmp_path / "away")
            async with cache.single_flight(KEY):  # another folder, another lock
                assert held(cache)
            async with cache.single_flight("b" * 64):
                pass
        assert not held(cache)

    asyncio.run(main())
    with pytest.warns(UserWarning, match="moved away"):
        record(cache)
    assert len(cache) == 1


def test_a_folder_where_no_lock_can_be_made_is_a_cache_error(cache):
    (cache.folder / "responses" / "locks").write_text("")

    async def main():
        async with cache.single_flight(KEY):
            raise AssertionError

    with pytest.raises(CacheError, match="could not be locked"):
        asyncio.run(main())
