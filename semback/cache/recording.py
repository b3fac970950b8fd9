"""Recordings: replies as JSON text, one line each, in files that people exchange.

An *entry* is a request with its reply. Its *key* is a hash of everything that decides the reply: a
line or row whose key is not that of its request was altered and is refused. `nearest` compares
a request that has no entry with the one most like it.
"""

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import zstandard

from ..errors import CacheError
from ..paths import replacing

Entry = dict[str, Any]  # {"request": …, "draw": …, "reply": …, "source": …}
Entries = Iterable[tuple[str, Entry]]  # with their keys

LONGEST = 2**26  # bytes of a line, so that memory stays bounded whatever a file holds
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
_DECODER = json.JSONDecoder()


def canonical(data: object) -> str:
    """JSON text in which equal data is equal text. ValueError where it is not JSON, as NaN."""
    return _CANONICAL.encode(data)


def key(request: dict, draw: int = 0) -> str:
    """The key of an entry: SHA-256 over everything that decides the reply.

    In: the version of this rule; the whole request body, since any field of it may change the
    reply; the draw, so that repeated samples of one request are different entries. Out: the API
    key, which decides who is billed; and the host, so that a recording made through a proxy or
    with another account still serves.
    """
    return key_and_body(request, draw)[0]


def key_and_body(request: dict, draw: int = 0) -> tuple[str, str]:
    """The key of a request, and the canonical JSON text of the request, which it is a hash of."""
    body = canonical(request)
    return hashlib.sha256(f'["semback-1",{body},{draw:d}]'.encode()).hexdigest(), body


def entry_text(body: str, draw: int, reply: dict, source: dict) -> str:
    """The canonical text of an entry; `body` is that of its request."""
    reply_text, source_text = canonical(reply), canonical(source)
    return f'{{"draw":{draw:d},"reply":{reply_text},"request":{body},"source":{source_text}}}'


def reply_in(text: str, body: str, draw: int) -> dict | None:
    """The reply in the canonical text of an entry, or None where it is not that of this request.

    Only the reply is parsed, which makes a replay twice as fast.
    """
    start = f'{{"draw":{draw:d},"reply":'
    if not text.startswith(start):
        return None
    try:
        reply, end = _DECODER.raw_decode(text, len(start))
    except (ValueError, RecursionError):
        return None
    same_request = text.startswith(f',"request":{body},"source":{{', end)
    return reply if same_request and _is_reply(reply) else None


def parsed(text: str | bytes) -> Any:
    """The data of a JSON text, or None where it is not one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def alteration(name: object, entry: object) -> str | None:
    """What shows that this is not the entry recorded under this key; None where nothing does."""
    if not isinstance(entry, dict) or entry.keys() != {"request", "draw", "reply", "source"}:
        return "it is not a recorded reply"
    if not is_request(entry["request"], entry["draw"]) or not _is_reply(entry["reply"]):
        return "its request or its reply is not one"
    try:
        canonical(entry).encode()
        matches = name == key(entry["request"], entry["draw"])
    except (RecursionError, ValueError):
        return "it holds something that is not text"
    if matches:
        return None
    return f"its key {str(name)[:12]}… is not that of its request, so one of them was altered"


def is_request(request: object, draw: object) -> bool:
    """Whether this is the body of a request, and a draw."""
    match request:
        case {"model": str(), "messages": list(messages)}:
            return type(draw) is int and all(isinstance(message, dict) for message in messages)
    return False


def line(name: str, entry: Entry) -> bytes:
    """The line of a recording that holds an entry."""
    return (canonical({"key": name, **entry}) + "\n").encode()


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str, Entry | None, str | None]]:
    """(line number, key, entry, None) of every line of a recording.

    Of a line that cannot be trusted (line number, key, None, what is wrong with it).

    Raises
    ------
    CacheError
        The file cannot be read, or it is a packed one that was cut or altered.
    """
    try:
        with open(path, "rb") as file, _unpacked(file, Path(path).suffix) as unpacked:
            # A longer line is read in pieces, none of which is an entry.
            for number, data in enumerate(iter(lambda: unpacked.readline(LONGEST), b""), 1):
                if not data.isspace():
                    entry = parsed(data)
                    name = entry.pop("key", None) if isinstance(entry, dict) else None
                    wrong = alteration(name, entry)
                    yield number, str(name), None if wrong else entry, wrong
    except (OSError, EOFError, ValueError, TypeError, zlib.error, zstandard.ZstdError) as error:
        raise CacheError(f"the recording {path} cannot be read: {error}") from None


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
    try:
        path = Path(path)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            with _packed(file, path.suffix) as packed:
                for name, entry in entries:
                    packed.write(line(name, entry))
                    count += 1
    except (OSError, ValueError, TypeError) as error:
        raise CacheError(f"the recording {path} cannot be written: {error}") from None
    return count


def digests(folder: Path) -> dict[str, str]:
    """{file name: SHA-256} of the recordings in a folder. CacheError for what is no plain file."""
    found = {}
    for path in sorted(folder.glob("[!.]*")):
        if path.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
            if path.is_symlink() or not path.is_file():
                raise CacheError(f"{path} is not a plain file; replace it by one")
            with open(path, "rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def nearest(request: dict, draw: int, entries: Entries) -> tuple[str | None, list[str]]:
    """The key of the entry whose request is most like this one, and how they differ, in lines.

    None, and no lines, where there are no entries.
    """
    from rapidfuzz import fuzz

    text = canonical(request)
    key, best, best_score = None, {}, 0.0
    for name, entry in entries:
        score = fuzz.ratio(text, canonical(entry["request"]), score_cutoff=best_score)
        if key is None or score > best_score:
            key, best, best_score = name, entry, score
    if key is None:
        return None, []
    return key, [f"The nearest is {key[:12]}…", *_difference(request, draw, best)]


def _is_reply(reply: object) -> bool:
    match reply:
        case {"text": str(), "finish_reason": str(), "model": str(), "usage": dict(usage)}:
            return all(type(count) is int for count in usage.values())
    return False


def _unpacked(file, suffix: str):
    """A file to read the lines of a recording from. EOFError where a packed one has no end."""
    if suffix in (".gz", ".zst") and not file.peek(1):
        raise EOFError("it is empty")
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if suffix == ".zst":
        _check_end(file)
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(frames)
    return file


def _check_end(file) -> None:
    """EOFError where the last zstd frame has no end, which zstandard's reader does not notice."""
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


def _packed(file, suffix: str):
    """A file to write the lines of a recording to, which packs them always in the same way."""
    if suffix == ".gz":
        return gzip.GzipFile("", "wb", 9, file, mtime=0)
    if suffix == ".zst":  # a window of 32 MiB finds what lines that are far apart have in common
        options = {"window_log": 25, "enable_ldm": True, "write_checksum": True}
        parameters = zstandard.ZstdCompressionParameters.from_level(19, **options)
        return zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file)
    return nullcontext(file)


def _difference(request: dict, draw: int, entry: Entry) -> list[str]:
    """The fields that differ, their values, and the start of a diff of the prompts."""
    import difflib

    recorded = entry["request"]
    fields, values = [], []
    for field in sorted(request | recorded):
        if request.get(field) != recorded.get(field):
            fields.append(field)
            if field != "messages":
                pair = f"requested {request.get(field)!r}, recorded {recorded.get(field)!r}"
                values.append(f"  {field}: {pair}")
    if draw != entry["draw"]:
        fields.append("draw")
    prompts = _prompt(recorded), _prompt(request)
    diff = difflib.unified_diff(*prompts, "recorded", "requested", lineterm="", n=0)
    changes = ["  " + change[:200] for change in diff if not change.startswith("@@")]
    return [f"it differs in: {', '.join(fields)}", *values, *changes[:12]]


def _prompt(request: dict) -> list[str]:
    messages = [f"{each.get('role')}: {each.get('content')}" for each in request["messages"]]
    return "\n".join(messages).split("\n")
