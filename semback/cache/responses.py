"""Every model response, kept: a diskcache underneath, portable recordings on top.

`ResponseCache` keeps one entry for each request (see `recording`), shared safely by the processes of one computer. Recordings that
lie in the cache's folder are read when it is opened, so that a fresh clone can replay what it ships.
"""

import hashlib
import os
import shutil
import sqlite3
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import CacheBusy, CacheError, CacheMiss, ParameterError
from ..paths import home
from . import recording, table
from .claims import Claims
from .turn import Turn

MODES = ("auto", "replay", "refresh", "off")


class Loaded(NamedTuple):
    """Of reading a recording: how many entries were new, the keys of conflicts (the cache keeps its reply), the refused lines and why."""

    new: int
    conflicts: list[str]
    refused: list[str]


class ResponseCache:
    """Responses on disk, shared safely by many processes of one computer.

    Parameters
    ----------
    folder: holds `responses/` (the live diskcache, for its owner only) and `recordings/` (text, read at opening); made if it is not
        there. Without it, SEMBACK_CACHE_DIR or else the `cache` folder of the checkout.
    mode: "auto" reads, else calls and records; "replay" only reads: a request that is not there is a CacheMiss;
        "refresh" calls and overwrites; "off" neither reads nor writes. The environment's SEMBACK_CACHE_MODE goes first.

    Errors
    ------
    ParameterError: an unknown mode. CacheError, here and in every method: the folder cannot be written (in mode "replay" a temporary
    copy takes its place, with a warning), the disk is full, the table is locked for a minute, what lies there cannot be trusted.
    """

    def __init__(self, folder: str | os.PathLike | None = None, mode: str | None = None):
        import diskcache

        self.mode = os.environ.get("SEMBACK_CACHE_MODE") or mode or "auto"
        if self.mode not in MODES:
            raise ParameterError(
                f"the cache mode is {self.mode!r}; it is one of {', '.join(MODES)}"
            )
        # What mode "refresh" has asked for anew bears this name: once a request, in a batch too, or a rerun could not repeat the run.
        self._round = os.path.basename(os.environ.get("SEMBACK_BATCH", "")) or os.urandom(8).hex()
        self.folder = Path(
            folder or os.environ.get("SEMBACK_CACHE_DIR") or home() / "cache"
        ).expanduser()
        self._errors, self._disk = (sqlite3.Error, OSError, diskcache.Timeout), None
        self._claims = None
        self._turn = Turn()
        with self._told("opened"):
            try:
                self._disk = table.opened(self.folder / "responses")
            except (sqlite3.Error, OSError) as error:
                if self.mode != "replay" or getattr(error, "sqlite_errorname", "")[:15] not in (
                    "",
                    "SQLITE_READONLY",
                    "SQLITE_CANTOPEN",
                ):
                    raise
                self._disk = table.opened(copy := table.copied(self.folder / "responses"))
                weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
                warnings.warn(
                    f"{self.folder} cannot be written ({error}); replaying from a temporary copy",
                    stacklevel=2,
                )
            self._place = table.number(self._disk)
            weakref.finalize(
                self, self._disk.close
            )  # a connection that is only forgotten is a warning from Python 3.13 on
            self._read_recordings()

    def get(self, key: str) -> dict | None:
        """The entry with this key, or None. CacheError where what is there is no entry."""
        with self._told(f"read (entry {key[:12]})"):
            entry = self._disk.get(key)
        if entry is not None and (wrong := recording.problem(entry)):
            raise self._altered(key, wrong)
        return entry

    def replies(self, asked: Sequence[tuple[str, str, int]]) -> list[dict | None]:
        """For each of several requests the reply that needs no call, or None; in mode "refresh", only what was asked anew meanwhile.

        asked: key and body, which are what `recording.named` says of a request, and draw; at most 999 of them. A row must answer its
        own request, or it is a CacheError. Of one that is as it was written only the reply is parsed: this, and one query in place of
        diskcache's `get` for each, make a replay half as long.
        """
        keys, any_time = {key for key, _, _ in asked}, self.mode != "refresh"
        query = f"SELECT key, tag, value, mode, filename FROM Cache WHERE raw = 1 AND key IN ({','.join('?' * len(keys))})"
        with self._told("read"):
            rows = {
                key: row
                for key, tag, *row in self._disk._sql(query, tuple(keys))
                if any_time or tag == self._round
            }
        return [
            self._reply(key, body, draw, rows[key]) if key in rows else None
            for key, body, draw in asked
        ]

    def add(self, key: str, entry: dict) -> dict:
        """Keep an entry, which is one and has this key, unless there is one already (in mode "refresh": in any case). Returns the one that
        counts from now on."""
        if wrong := recording.alteration(key, entry):
            raise CacheError(f"{str(key)[:12]} cannot be kept: {wrong}")
        return self._add_all([(key, recording.canonical(entry))])[0] or entry

    async def keep(self, key: str, text: str) -> dict | None:
        """`add`, for tasks that have the text of the entry (see `recording.text_of`). Returns the entry that counts in its place, if there
        is one. What the tasks of one event loop keep in one turn of it is one transaction, which takes half as long."""
        return await self._turn.done((key, text), self._add_all, final=CacheBusy)

    def claim(self, key: str) -> bool:
        """Whether the caller may ask for the response with this key: False while another caller or process is asking for it."""
        with self._told("claimed"):
            self._claims = self._claims or Claims.of(Path(self._disk.directory))
            return self._claims.claim(key)

    def release(self, key: str) -> None:
        """Give a claim back, when the response is there or will not come."""
        if self._claims:
            self._claims.release(key)

    def rows(self) -> Iterator[tuple[str, dict | None, str | None]]:
        """(key, entry, None) of every row, sorted by key; (key or "row:NUMBER", None, why) of one that cannot be trusted."""
        with self._told("read"):
            names = sorted(name for name, _ in self._disk._sql(table.NAMES))
        for name in names:
            with self._told(f"read (entry {name[:12]})"):
                entry = False if ":" in name else self._disk.get(name)
            if entry is not None:  # None: it was taken out in the meantime
                wrong = recording.alteration(name, entry)
                yield name, None if wrong else entry, wrong

    def entries(self, keys: set[str] | None = None) -> Iterator[tuple[str, dict]]:
        """All (key, entry), or only those with these keys, sorted by key. CacheError at one that cannot be trusted."""
        for name, entry, wrong in self.rows():
            if keys is None or name in keys:
                if wrong:
                    raise self._altered(name, wrong)
                yield name, entry

    def __len__(self):
        with self._told("read"):
            return self._disk._sql("SELECT COUNT(*) " + table.ENTRIES).fetchone()[0]

    def export(self, path: str | os.PathLike, keys: set[str] | None = None) -> int:
        """Write the entries, or only those with these keys, to a recording (see `recording.write`). Returns how many."""
        return recording.write(path, self.entries(keys))

    def load(self, path: str | os.PathLike, skip: bool = False) -> Loaded:
        """Read a recording into the cache. A reply that is there already stays as it is.

        Of two entries with one reply the one whose text sorts first is kept, so that recordings made on different machines give
        the same cache in whatever order they come. Two different replies are a conflict: listed, and what was there stays.

        path: of the recording. skip: whether to pass over lines that cannot be trusted (they are no entry, or the key is not that of
        the request); else one such line is a CacheError, and nothing of the file is kept.
        """
        new, conflicts, refused = 0, [], []
        with self._writing(), closing(recording.lines(path)) as lines:
            for number, name, entry, wrong in lines:
                if wrong and not skip:
                    raise CacheError(
                        f"{path}, line {number}: {wrong}; nothing of this file was read"
                    )
                if wrong:
                    refused.append(f"line {number}: {wrong}")
                elif self._disk.add(name, text := recording.canonical(entry)):
                    new += 1
                elif (kept := self.get(name))["reply"] != entry["reply"]:
                    conflicts.append(name)
                elif text < recording.canonical(kept):
                    self._disk.set(name, text)
        return Loaded(new, conflicts, refused)

    def drop(self, start: str) -> int:
        """Take out the entries whose key (or "row:NUMBER") begins with `start`, trusted or not. Returns how many."""
        if not start:
            raise ParameterError("say which entries to take out: by their key or its start")
        with self._writing():
            rows = [
                (row,)
                for name, row in self._disk._sql(table.NAMES)
                if (name == start if ":" in start else name.startswith(start))
            ]
            self._disk._con.executemany("DELETE FROM Cache WHERE rowid = ?", rows)
        return len(rows)

    def explain(self, request: dict, draw: int = 0) -> str:
        """Whether a request is recorded, which other recording is nearest, and what differs."""
        name = recording.key(request, draw)
        others = ((each, other) for each, other, wrong in self.rows() if not wrong and each != name)
        return recording.explained(request, draw, self.get(name), others, self.folder)

    def miss(self, request: dict, draw: int) -> CacheMiss:
        """The error for a request that no recording holds; it names the nearest entry and what differs."""
        advice = "To ask the model and record the answer, use mode auto."
        return CacheMiss(
            recording.key(request, draw),
            lambda: (None, f"replay: {self.explain(request, draw)}\n{advice}"),
        )

    def close(self):
        """Close the files. A closed cache opens again when it is used."""
        self._disk.close()

    def _reply(self, key: str, body: str, draw: int, row: list) -> dict | None:
        value, mode, filename = row
        if mode == 1 and filename is None and (reply := recording.reply_in(value, body, draw)):
            return reply
        if (entry := self.get(key)) and (wrong := recording.alteration(key, entry)):
            raise self._altered(key, wrong)
        return entry and entry["reply"]

    def _add_all(self, entries: list[tuple[str, str]]) -> list[dict | None]:
        """Keep the texts of entries. Returns for each the entry that counts in its place, or None."""
        kept, anew = [], self.mode == "refresh"
        with self._writing():
            for key, text in entries:
                if anew:
                    self._disk.set(key, text, tag=self._round)
                kept.append(None if anew or self._disk.add(key, text) else self.get(key))
        return kept

    @contextmanager
    def _writing(self):
        """A transaction: all that is written, or nothing of it; in a new table, where somebody has moved the folder away."""
        if table.number(self._disk) != self._place:
            warnings.warn(
                f"the table in {self.folder} was moved away while it was open; what comes is recorded in a new one",
                stacklevel=1,
            )
            with self._told("opened"):
                self._disk, self._claims = table.opened(self.folder / "responses"), None
            self._place = table.number(self._disk)
        with self._told("written"), self._disk.transact():
            yield

    def _read_recordings(self):  # which ones were read is kept in the table, {file name: sha256}
        known, found = known if isinstance(known := self._disk.get("recordings"), dict) else {}, {}
        for path in sorted((self.folder / "recordings").glob("[!.]*")):
            if path.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
                with open(path, "rb") as file:
                    found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
                if known.get(path.name) != found[path.name]:
                    self.load(path)
        if known | found != known:
            self._disk.set("recordings", recording.canonical(known | found))

    @contextmanager
    def _told(self, doing: str):
        """What the disk refuses, told for people."""
        try:
            yield
        except self._errors as error:
            if self._disk is not None:  # it has a length, which would be looked up
                self._disk.close()  # an unfinished transaction ends with it
            raise table.refused(self.folder, doing, error) from error

    def _altered(self, name: str, wrong: str) -> CacheError:
        return CacheError(
            f"entry {name[:12]} in {self.folder} was altered: {wrong}. `semback cache drop {name[:12]}` takes it out"
        )
