"""Every reply recorded: a diskcache underneath, portable recordings on top.

`ResponseCache` holds one entry for each request (see `recording`), shared safely by the processes
of one computer. When it is opened it reads the recordings in its folder, so that a fresh clone can
replay those that ship with it.
"""

import asyncio
import itertools
import os
import re
import warnings
import weakref
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CacheError, CacheMiss, ParameterError, known
from ..paths import home, user_path
from . import locks, recording
from .recording import Entry

if TYPE_CHECKING:
    from . import table  # imported at its first use, since diskcache takes time to load

MODES = ("auto", "replay", "refresh", "off")
_POLL = 0.05  # seconds between two attempts to hold a request
_POLLS_BEFORE_WARNING = 200
_SHOWN = 20  # refused lines that are listed; a file may have any number of them


class Loaded(NamedTuple):
    """The outcome of reading a recording.

    Attributes
    ----------
    new : int
        The number of new entries.
    conflicts : list of str
        The keys with a different reply in the cache, which stays.
    refused : list of str
        The first 20 lines that were refused, and why; then how many more there are.
    """

    new: int
    conflicts: list[str]
    refused: list[str]


class ResponseCache:
    """Replies on disk, shared safely by many processes of one computer.

    Every method raises CacheError if the folder cannot be written, the disk is full, the table is
    locked for a minute, or what is in it cannot be trusted.

    Parameters
    ----------
    folder : path, optional
        Holds `responses/` (the live table, for its owner only) and `recordings/` (text files, read
        at opening). It is created if necessary. `~`, `~name` and `$NAME` are expanded, as in the
        paths of recordings. Default: the environment's SEMBACK_CACHE_DIR, or else the `cache`
        folder of the checkout.
    mode : {"auto", "replay", "refresh", "off"}, optional
        The environment's SEMBACK_CACHE_MODE takes precedence. "auto", the default, replays what is
        recorded, and requests and records the rest. "replay" requests nothing: what is not
        recorded is a CacheMiss. "refresh" requests everything anew, once in a batch. "off" neither
        reads nor records.

    Attributes
    ----------
    folder : Path
    mode : str

    Raises
    ------
    ParameterError
        The mode does not exist, or the folder cannot be a path.
    CacheError
        As above. In mode "replay" a folder that cannot be written is replayed from a temporary
        copy, with a warning.
    """

    def __init__(self, folder: str | os.PathLike | None = None, mode: str | None = None):
        self.mode: str = os.environ.get("SEMBACK_CACHE_MODE") or mode or "auto"
        known("mode", self.mode, MODES)
        # Mode "refresh" marks its recordings with it, to send each request only once (in a batch,
        # once for all its processes); otherwise a rerun could not repeat the run.
        self._round = os.path.basename(os.environ.get("SEMBACK_BATCH", "")) or os.urandom(8).hex()
        place = folder or os.environ.get("SEMBACK_CACHE_DIR") or home() / "cache"
        self.folder: Path = user_path(place)
        self._rescue_path: str | None = None
        with self._reporting("opened"):
            self._table: table.Table = self._open()
            self._read_recordings()

    def lookup(self, key: str, body: str, draw: int) -> dict | None:
        """The recorded reply to a request, or None.

        In mode "refresh", only what was recorded in this round.

        Parameters
        ----------
        key, body : str
            Of the request, from `recording.key_and_body`.
        draw : int

        Returns
        -------
        dict or None
            {"text": …, "finish_reason": …, "usage": …, "model": …, …}

        Raises
        ------
        CacheError
            What is recorded under this key is not the entry of this request.
        """
        with self._reporting("read"):
            text, tag = self._table.get(key, tag=True)
        if text is None or (self.mode == "refresh" and tag != self._round):
            return None
        reply = recording.reply_in(text, key, body, draw)
        if reply is None:
            raise self._altered(key, "it is not a recorded reply to this request")
        return reply

    def record(self, key: str, body: str, draw: int, reply: dict, source: dict) -> dict:
        """Record a reply, unless there is one already (in mode "refresh": in any case).

        Parameters
        ----------
        key, body : str
            Of the request, from `recording.key_and_body`.
        draw : int
        reply : dict
            {"text": …, "finish_reason": …, "usage": …, "model": …, …}
        source : dict
            Where the reply comes from.

        Returns
        -------
        dict
            The reply that counts from now on.

        Raises
        ------
        CacheError
            The reply cannot be recorded. On a full disk and the like, the message names a temporary
            file that holds it; a reply that is too long for any recording is lost.
        """
        entry = self._insert(key, recording.entry_text(body, draw, reply, source), reply)
        return entry["reply"] if entry else reply

    @asynccontextmanager
    async def single_flight(self, key: str) -> AsyncIterator[None]:
        """Hold a request: at most one holder over all tasks, threads, caches and processes.

        Waits for another holder, with a warning after 10 s. A process that is killed holds nothing.
        Each holder has a file open, so hold only as many requests as are in flight.
        """
        path = os.path.join(self._table.directory, "locks", key)
        for polls in itertools.count():
            with ExitStack() as stack:
                with self._reporting("locked"):
                    held = stack.enter_context(locks.attempt(path))
                if held:
                    yield
                    return
            if polls == _POLLS_BEFORE_WARNING:
                problem = f"waiting for 10 s for the reply to request {key[:12]}…"
                advice = "another task or process has sent it; if that process hangs, end it"
                warnings.warn(f"{problem}: {advice}", stacklevel=1)
            await asyncio.sleep(_POLL)

    def miss(self, request: dict, draw: int) -> CacheMiss:
        """The error for a request that is not recorded; reading it looks for the nearest."""
        return CacheMiss(recording.key(request, draw), lambda: self._explained(request, draw))

    def get(self, key: str) -> Entry | None:
        """The entry with this key, or None. CacheError if it cannot be trusted."""
        entry, wrong = self._read(key)
        if wrong:
            raise self._altered(key, wrong)
        return entry

    def add(self, key: str, entry: Entry) -> Entry:
        """Record an entry, unless there is one already (in mode "refresh": in any case).

        Returns
        -------
        Entry
            The one that counts from now on.

        Raises
        ------
        CacheError
            It is not an entry, or this is not its key; or it cannot be recorded (see `record`).
        """
        if wrong := recording.alteration(key, entry):
            raise CacheError(f"{str(key)[:12]} cannot be recorded: {wrong}")
        return self._insert(key, recording.canonical(entry), entry["reply"]) or entry

    def keys(self) -> list[str]:
        """The keys of all rows, sorted; "row:NUMBER" for one that cannot be an entry."""
        with self._reporting("read"):
            return self._table.names()

    def __len__(self) -> int:
        return len(self.keys())

    def rows(self) -> Iterator[tuple[str, Entry | None, str | None]]:
        """(key, entry, None) for every row, sorted by key.

        For one that cannot be trusted, (key or "row:NUMBER", None, what is wrong with it).
        """
        for name in self.keys():
            entry, wrong = self._read(name)
            if entry or wrong:  # else it was dropped in the meantime
                yield name, entry, wrong

    def entries(self, keys: set[str] | None = None) -> Iterator[tuple[str, Entry]]:
        """All (key, entry), or only those with these keys, sorted by key.

        CacheError at one that cannot be trusted.
        """
        for name in self.keys():
            if keys is None or name in keys:
                if entry := self.get(name):  # else it was dropped in the meantime
                    yield name, entry

    def export(
        self, path: str | os.PathLike, keys: set[str] | None = None, sealed: bool = False
    ) -> int:
        """Write entries to a recording.

        Parameters
        ----------
        path : path
            Packed with gzip if it ends in .gz, with zstd if in .zst.
        keys : set of str, optional
            Of the entries to write. Default: all.
        sealed : bool
            Whether to leave out the requests, so that a recording can be published even if its data
            may not. It replays for anyone who sends the same requests. Replies may quote them.

        Returns
        -------
        int
            The number of entries.
        """
        entries = self.entries(keys)
        if sealed:
            entries = ((name, recording.sealed(name, entry)) for name, entry in entries)
        return recording.write(path, entries)

    def copy(self, folder: str | os.PathLike) -> None:
        """Copy what is recorded into a new cache folder, while recording goes on.

        Use this, or `export`, in a program that has the cache open. If it copied, packed or hashed
        the files of `responses/` itself, it would give up SQLite's locks on them: a process loses
        its POSIX locks on a file as soon as it closes any descriptor of that file. Another process
        could then remove the log that holds the latest replies. Here SQLite makes the copy (VACUUM
        INTO), as of one moment. It includes the recordings that were read, but not their files in
        `recordings/`.

        Parameters
        ----------
        folder : path
            It is created, for its owner only; it must not hold a cache yet.
        """
        with self._reporting("copied"):
            self._table.copy(user_path(folder) / "responses")

    def load(self, path: str | os.PathLike, skip: bool = False) -> Loaded:
        """Read a recording into the cache. A recorded reply stays as it is.

        Of two entries with the same reply the one whose text sorts first is kept, so that
        recordings made on different machines give the same cache in whatever order they are read.
        Two different replies are a conflict, which is listed; what was there stays.

        Parameters
        ----------
        path : path
        skip : bool
            Whether to skip lines that cannot be trusted, being no entry or having a key that is not
            that of the request. Otherwise one such line is a CacheError, and nothing is read.

        Returns
        -------
        Loaded
        """
        new, bad, refused, conflicts = 0, 0, [], set()
        with self._writing():
            for number, name, entry, wrong in recording.lines(path):
                if entry is None:
                    if not skip:
                        raise CacheError(f"{path}, line {number}: {wrong}; nothing was read")
                    bad += 1
                    if bad <= _SHOWN:
                        refused.append(f"line {number}: {wrong}")
                    continue
                there = self._add(name, recording.canonical(entry), entry["reply"])
                if there is None:
                    new += 1
                elif there["reply"] != entry["reply"]:
                    conflicts.add(name)
        if bad > _SHOWN:
            refused.append(f"{bad - _SHOWN:,} more lines")
        return Loaded(new, sorted(conflicts), refused)

    def drop(self, start: str = "", faults: Collection[str] = ()) -> int:
        """Remove the entries whose key begins with `start`, trusted or not.

        Parameters
        ----------
        start : str
            At least 8 characters of a key; or the whole "row:NUMBER" of a row that has none. If
            there are faults it may be "", for any key.
        faults : collection of {"empty", "cut", "refused"}
            Remove only replies with one of these faults: no text (apart from thoughts), cut at the
            token limit, refused by the model or a filter.

        Returns
        -------
        int
            The number of entries removed.
        """
        for fault in faults:
            known("fault", fault, ("empty", "cut", "refused"))
        if not re.fullmatch("[0-9a-f]{8,}|row:[0-9]+", start) and (start or not faults):
            takes = "at least 8 characters of a key, a whole row:NUMBER, or faults"
            raise ParameterError(f"{start!r} names no entries to remove; it takes {takes}")
        with self._writing():
            if not faults:
                return self._table.delete_names(start)
            count = 0
            for name, entry, _ in self.rows():
                if entry and name.startswith(start) and recording.has_fault(entry["reply"], faults):
                    count += self._table.delete(name)
            return count

    def explain(self, request: dict, draw: int = 0) -> str:
        """Whether a request is recorded, which other recorded one is nearest, and what differs."""
        return self._explained(request, draw)[1]

    def close(self) -> None:
        """Close the files. A closed cache opens again when it is used."""
        self._table.close()

    def _open(self) -> "table.Table":
        from . import table

        folder = self.folder / "responses"
        try:
            opened = table.open_table(folder)
        except table.ERRORS as error:
            if self.mode != "replay" or table.error_name(error) in ("BUSY", "EEXIST", "ENOTDIR"):
                raise
            opened = table.open_copy(folder)
            problem = f"{self.folder} cannot be written ({error})"
            warnings.warn(f"{problem}; replaying from a temporary copy", stacklevel=3)
        weakref.finalize(self, opened.close)  # Python warns of a connection that nobody closed
        return opened

    def _read(self, name: str) -> tuple[Entry | None, str | None]:
        """(entry, None); (None, what is wrong with it); or (None, None) if there is none."""
        if name.startswith("row:"):
            return None, "it is not a recorded reply"
        with self._reporting(f"read (entry {name[:12]})"):
            text = self._table.get(name)
        if text is None:
            return None, None
        entry = recording.parsed(text)
        wrong = recording.alteration(name, entry)
        return None if wrong else entry, wrong

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: either all or nothing of what is written in it stays."""
        with self._reporting("written"):
            if self._table.replaced():
                problem = f"the table in {self.folder} was moved away, or its log was removed"
                warnings.warn(f"{problem}; recording goes on in what is there", stacklevel=4)
                self._table.close()
                self._table = self._open()
            with self._table.transact():
                yield

    def _insert(self, key: str, text: str, reply: dict) -> Entry | None:
        """Record the text of an entry, or return the entry that is there already."""
        if len(text.encode()) + 200 > recording.LONGEST:  # of its line, with a key and a seal
            limit = f"longer than {recording.LONGEST:,} bytes, which no recording may hold"
            raise CacheError(f"the reply to {key[:12]}… cannot be recorded: it is {limit}", key=key)
        try:
            with self._writing():
                if self.mode != "refresh":
                    return self._add(key, text, reply)
                self._table.set(key, text, tag=self._round)
        except CacheError as error:
            raise CacheError(f"{error} {self._rescue(key, text)}", key=key) from error

    def _add(self, key: str, text: str, reply: dict) -> Entry | None:
        """Add an entry in a transaction, or return the one that counts from now on.

        Of two texts with the same reply the one that sorts first stays. So the order of recordings
        does not matter, and a full entry replaces a sealed one: "request" < "sealed". A reply
        replaces a refusal, as when the server has been given a larger window.
        """
        if self._table.add(key, text):
            return None
        entry = self.get(key)
        refused = entry and entry["reply"]["finish_reason"] == recording.REFUSED
        same = entry and entry["reply"] == reply and text < recording.canonical(entry)
        if same or (refused and reply["finish_reason"] != recording.REFUSED):
            self._table.set(key, text)
            return recording.parsed(text)
        return entry

    def _read_recordings(self) -> None:
        """Read the recordings in the folder that are new; one of many processes does it."""
        folder = self.folder / "recordings"
        digests = recording.digests(folder)
        if digests.items() <= self._recordings_read().items():
            return  # nearly always; so opening does not wait for another process that writes
        with self._writing():
            read = self._recordings_read()  # another process may have read them in the meantime
            for name in digests:
                if digests[name] != read.get(name):
                    self.load(folder / name)
            self._table.set("recordings", recording.canonical(read | digests))

    def _recordings_read(self) -> dict[str, str]:
        digests = recording.parsed(self._table.get("recordings", "{}"))
        return digests if isinstance(digests, dict) else {}

    def _explained(self, request: dict, draw: int) -> tuple[str | None, str]:
        """The key of the nearest recorded request, and a text about both requests."""
        key = recording.key(request, draw)
        if entry := self.get(key):
            source = recording.canonical(entry["source"])
            text = f"{key[:12]}… is recorded: a reply of {entry['reply']['model']}, {source}."
        else:
            problem = f"no reply to this request (draw {draw}) is recorded in {self.folder}"
            text = f"{problem}; mode auto requests and records it."
        others = ((name, other) for name, other, _ in self.rows() if other and name != key)
        nearest, difference = recording.nearest(request, draw, others)
        return nearest, "\n".join([text, *difference])

    def _rescue(self, key: str, text: str) -> str:
        """Write an entry to a recording among the temporary files. Returns a message about it."""
        import tempfile

        try:
            if self._rescue_path is None:
                file, self._rescue_path = tempfile.mkstemp(".jsonl", "semback-")
                os.close(file)
            with open(self._rescue_path, "a", encoding="utf-8", newline="\n") as file:
                file.write(f'{text[:-1]},"key":"{key}"}}\n')
        except OSError as error:
            self._rescue_path = None  # its last line may be incomplete
            return f"The reply to the request {key} is lost: {error}."
        path = self._rescue_path
        return f"The reply is in {path}; later, run `semback cache import {path}`."

    @contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        """Errors of the disk and of SQLite, explained."""
        from . import table

        try:
            yield
        except table.ERRORS as error:
            if hasattr(self, "_table"):
                self._table.close()  # an unfinished transaction ends with it
            raise table.explained(self.folder, action, error) from error

    def _altered(self, name: str, wrong: str | None) -> CacheError:
        problem = f"entry {name[:12]} in {self.folder} was altered: {wrong}"
        return CacheError(f"{problem}. `semback cache drop {name[:12]}` removes it", key=name)
