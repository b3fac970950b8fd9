"""Shared by the tests of the cache: made-up entries, planted rows, processes that use a cache."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from semback.cache.recording import canonical, key, key_and_body

MESSAGES = [
    {"role": "system", "content": "Solve it."},
    {"role": "user", "content": "What is\n2 + 2?"},
]
SOURCE = {"host": "example.org"}
CHILD = f"""
import asyncio, os, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from cache_helpers import *
from semback import ResponseCache

"""


def reply(text="Four."):
    """A made-up reply."""
    return {
        "text": text,
        "finish_reason": "stop",
        "usage": {},
        "model": "m-1",
        "fingerprint": None,
    }


def entry(text="Four.", draw=0, host="example.org", **request):
    """(key, entry) of a made-up reply."""
    request = {"model": "m", "messages": MESSAGES, **request}
    made = {"request": request, "draw": draw, "reply": reply(text), "source": {"host": host}}
    return key(request, draw), made


def question(number):
    """The body of a request, one for each number."""
    content = f"Question {number}?"
    return {"model": "m", "messages": [{"role": "user", "content": content}], "temperature": 0}


def record(cache, text="Four.", draw=0):
    """Record a made-up reply as LLM does. Returns the reply that counts."""
    name, body = key_and_body(entry()[1]["request"], draw)
    return cache.record(name, body, draw, reply(text), SOURCE)


def lookup(cache, draw=0):
    """The recorded reply to the made-up request, as LLM looks it up."""
    return cache.lookup(*key_and_body(entry()[1]["request"], draw), draw)


def line(name, made):
    """The line of a recording."""
    return canonical({"key": name, **made}) + "\n"


def database(cache):
    """The cache's table, opened behind its back; closed at the end of a `with`."""
    path = cache.folder / "responses" / "cache.db"
    return closing(sqlite3.connect(path, isolation_level=None))


def plant(cache, **columns):
    """Put a row into the table behind the cache's back."""
    columns = {"raw": 1, "store_time": 0, "access_time": 0, "mode": 1, **columns}
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    with database(cache) as db:
        db.execute(f"INSERT INTO Cache ({names}) VALUES ({marks})", tuple(columns.values()))


class Planted:
    """Unpickling one of these makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def child(code, *arguments, **settings):
    """A process that runs this code with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **settings,
    )


def output(process):
    """What the process prints until it ends, which it does without an error."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out
