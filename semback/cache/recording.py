"""Recordings: replies as JSON text, one line each, in files that people exchange.

An *entry* is a request with its reply. Its *key* is a hash of everything that decides the reply: a
line or row whose key is not that of its request was altered and is refused. A *sealed* entry comes
without the request, for recordings of data that may not be published: anyone who has the data can
send the same request, which has the same key, and gets the recorded reply.
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from ..errors import CacheError
from ..paths import replacing, user_path
from ..replies import without_thoughts

Entry = dict[str, Any]  # {"request": …, "draw": …, "reply": …, "source": …}; see `sealed`
Entries = Iterable[tuple[str, Entry]]  # with their keys

LONGEST = 2**26  # bytes of a line, so that memory stays bounded whatever a file holds
_ERRORS = (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'  # in JSON
_FIELDS = {"draw", "reply", "source"}
REFUSED = "request_refused"  # a finish reason: the endpoint answered HTTP 400, 413 or 422
_FAULTS = {"length": "cut", "refusal": "refused", "content_filter": "refused", REFUSED: "refused"}


def canonical(data: object) -> str:
    """JSON text in which equal data is equal text. ValueError for data that is not JSON, as NaN."""
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def key(request: dict, draw: int = 0) -> str:
    """The key of an entry: SHA-256 over everything that decides the reply.

    In: the version of this rule; the whole request body, since any field of it may change the
    reply; the draw, so that repeated samples of one request are different entries. Out: the API
    key, which decides who is billed; and the host, so that a recording made through a proxy or
    with another account still serves.
    """
    return key_and_body(request, draw)[0]


def key_and_body(request: dict, draw: int = 0) -> tuple[str, str]:
    """The key of a request, and its canonical JSON text, of which the key is a hash."""
    body = canonical(request)
    return hashlib.sha256(f'["semback-1",{body},{draw:d}]'.encode()).hexdigest(), body


def sealed(name: str, entry: Entry) -> Entry:
    """An entry without its request, which the key stands for.

    In its place is "sealed", a SHA-256 of the canonical text of the key, draw, reply and source, so
    that any change to these is noticed. Only somebody who has the request can check whether the key
    is its key.
    """
    content = {field: entry[field] for field in _FIELDS}
    text = canonical({"key": name, **content})
    return {**content, "sealed": hashlib.sha256(text.encode()).hexdigest()}


def entry_text(body: str, draw: int, reply: dict, source: dict) -> str:
    """The canonical text of an entry; `body` is that of its request."""
    reply_text, source_text = canonical(reply), canonical(source)
    return f'{{"draw":{draw:d},"reply":{reply_text},"request":{body},"source":{source_text}}}'


def reply_in(text: str, name: str, body: str, draw: int) -> dict | None:
    """The reply in the canonical text of an entry, or None if it is not that of this request.

    If the text contains the request, only the reply is parsed, which makes a replay twice as fast.
    """
    start = f'{{"draw":{draw:d},"reply":'
    head, same_request, _ = text.partition(f',"request":{body},"source":{{')
    if same_request and head.startswith(start):
        reply = parsed(head[len(start) :])
        return reply if _is_reply(reply) else None
    entry = parsed(text)
    if alteration(name, entry) or "sealed" not in entry or entry["draw"] != draw:
        return None
    return entry["reply"]


def parsed(text: str | bytes) -> Any:
    """The data of a JSON text, or None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def alteration(name: object, entry: object) -> str | None:
    """What shows that this is not the entry recorded under this key, or None."""
    shapes = _FIELDS | {"request"}, _FIELDS | {"sealed"}
    if not isinstance(entry, dict) or entry.keys() not in shapes:
        return "it is not a recorded reply"
    has_request = "sealed" in entry or is_request(entry["request"])
    if not has_request or type(entry["draw"]) is not int or not _is_reply(entry["reply"]):
        return "its request or its reply is malformed"
    try:
        canonical(entry).encode()
        if _is_key_of(name, entry):
            return None
    except (RecursionError, ValueError):
        return "it contains something that is not text"
    content = "reply" if "sealed" in entry else "request"
    return f"its key {str(name)[:12]}… is not that of its {content}, so one of them was altered"


def has_fault(reply: dict, faults: Collection[str]) -> bool:
    """Whether a reply has one of these faults, out of {"empty", "cut", "refused"}."""
    if "empty" in faults and not without_thoughts(reply["text"]):
        return True
    return _FAULTS.get(reply["finish_reason"]) in faults


def line(name: str, entry: Entry) -> bytes:
    """The line of a recording that holds an entry."""
    return (canonical({"key": name, **entry}) + "\n").encode()


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str, Entry | None, str | None]]:
    """(line number, key, entry, None) for every line of a recording.

    For a line that cannot be trusted, (line number, key, None, what is wrong with it).

    Raises
    ------
    CacheError
        The file cannot be read, or it is compressed and was cut or altered.
    """
    with _reporting(path, "read"):
        plain = user_path(path)
        with open(plain, "rb") as file, _unpacked(file, plain.suffix) as unpacked:
            for number, data in enumerate(_bounded_lines(unpacked), 1):
                if not data.isspace():
                    entry = None if _is_bloated(data) else parsed(data)
                    name = entry.pop("key", None) if isinstance(entry, dict) else None
                    wrong = alteration(name, entry)
                    yield number, str(name), None if wrong else entry, wrong


def write(path: str | os.PathLike, entries: Entries) -> int:
    """Write entries to a recording: gzip if its name ends in .gz, zstd if in .zst, else text.

    The same entries in the same order give the same bytes. The file appears whole or not at all.

    Parameters
    ----------
    path : path
    entries : iterable of (key, entry)

    Returns
    -------
    int
        The number of entries.

    Raises
    ------
    CacheError
        The file cannot be written.
    """
    count = 0
    with _reporting(path, "written"), replacing(plain := user_path(path)) as temporary:
        with open(temporary, "wb") as file, _packed(file, plain.suffix) as packed:
            for name, entry in entries:
                packed.write(line(name, entry))
                count += 1
    return count


def digests(folder: Path) -> dict[str, str]:
    """{file name: SHA-256} of a folder's recordings. CacheError for one that is no plain file."""
    found = {}
    for path in sorted(folder.iterdir() if folder.exists() else ()):
        if re.fullmatch(r"[^.].*\.jsonl(\.gz|\.zst)?", path.name, re.DOTALL):
            if path.is_symlink() or not path.is_file():
                raise CacheError(f"{path} is not a plain file; replace it with one")
            with open(path, "rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def nearest(request: dict, draw: int, entries: Entries) -> tuple[str | None, list[str]]:
    """The key of the entry whose request is most like this one, and how they differ, in lines.

    None, and no lines, if there are no entries with a request.
    """
    import difflib

    from rapidfuzz import fuzz

    def likeness(named: tuple[str, Entry]) -> float:
        return fuzz.ratio(text, canonical(named[1]["request"]))

    text, full = canonical(request), (named for named in entries if "request" in named[1])
    best = max(full, key=likeness, default=None)
    if best is None:
        return None, []
    name, entry = best
    requested, recorded = {**request, "draw": draw}, {**entry["request"], "draw": entry["draw"]}
    prompts = _prompt(recorded.pop("messages")), _prompt(requested.pop("messages"))
    difference = [f"The nearest is {name[:12]}…. It differs in:"]
    for field in sorted(requested | recorded):
        one, two = requested.get(field), recorded.get(field)
        if one != two:
            difference.append(f"  {field}: requested {one!r}, recorded {two!r}")
    diff = difflib.unified_diff(*prompts, "recorded", "requested", lineterm="", n=0)
    changes = ["  " + change[:200] for change in diff if not change.startswith("@@")]
    return name, difference + changes[:12]


def _prompt(messages: list[dict]) -> list[str]:
    texts: list[str] = []
    for message in messages:
        texts.append(f"{message.get('role')}: {message.get('content')}")
        others = {name: message[name] for name in message.keys() - {"role", "content"}}
        texts += [canonical(others)] if others else []  # tool calls, for one
    return "\n".join(texts).split("\n")


def is_request(request: object) -> bool:
    """Whether this is the body of a request."""
    match request:
        case {"model": str(), "messages": list(messages)}:
            return all(isinstance(message, dict) for message in messages)
    return False


def _is_key_of(name: object, entry: Entry) -> bool:
    if "request" in entry:
        return name == key(entry["request"], entry["draw"])
    if not isinstance(name, str) or not re.fullmatch("[0-9a-f]{64}", name):
        return False  # such as "recordings", the key of another row of the table
    return entry == sealed(name, entry)


def _is_reply(reply: object) -> bool:
    if not isinstance(reply, dict) or not isinstance(usage := reply.get("usage"), dict):
        return False
    texts = reply.get("text"), reply.get("finish_reason"), reply.get("model")
    return all(type(text) is str for text in texts) and set(map(type, usage.values())) <= {int}


@contextmanager
def _reporting(path: str | os.PathLike, action: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise CacheError(f"the recording {path} cannot be {action}: {error}") from None


def _unpacked(file: BufferedReader, suffix: str) -> AbstractContextManager[Any]:
    """A file to read the lines of a recording from. EOFError if a compressed one has no end."""
    if suffix in (".gz", ".zst") and not file.peek(1):
        raise EOFError("it is empty")
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if suffix == ".zst":
        _check_end(file)
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return BufferedReader(frames)
    return file


def _packed(file: BufferedWriter, suffix: str) -> AbstractContextManager[Any]:
    """A file to write the lines of a recording to; it compresses them always in the same way."""
    if suffix == ".gz":
        return gzip.GzipFile("", "wb", 9, file, mtime=0)
    if suffix == ".zst":  # a window of 32 MiB finds what lines that are far apart have in common
        options = {"window_log": 25, "enable_ldm": True, "write_checksum": True}
        parameters = zstandard.ZstdCompressionParameters.from_level(19, **options)
        return zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file)
    return nullcontext(file)


def _check_end(file: BinaryIO) -> None:
    """EOFError if the last zstd frame has no end, which zstandard's reader does not notice."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    while data := file.read(2**12):  # which unpack to at most 130 MB
        while data:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            frame.decompress(data)
            data = frame.unused_data
    if not frame.eof:
        raise EOFError("its end is missing")
    file.seek(0)


def _is_bloated(data: bytes) -> bool:
    """Whether a long line is brackets and commas, which take fifty times the memory of text."""
    if len(data) < LONGEST // 8:
        return False
    text = sum(string.end() - string.start() for string in re.finditer(_STRING, data))
    return len(data) - text > LONGEST // 8


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than an entry may be, only the beginning."""
    while data := file.readline(LONGEST):
        yield data
        while len(data) == LONGEST and not data.endswith(b"\n"):  # skip the rest
            data = file.readline(LONGEST)
