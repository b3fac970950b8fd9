"""Responses as text, and nothing but text: the lines of a recording, which people exchange.

An *entry* is one request and what came back. Its *key* is a hash of everything that decides the response; a line or row whose
key is not that of its request was altered and is refused. `nearest` and `difference` explain a request that has no entry.
"""

import gzip
import hashlib
import io
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import CacheError
from ..paths import replacing

_LONGEST = (
    2**26
)  # characters of a line; what is longer is read in pieces, none of which is a response: memory stays bounded
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
_DECODER = json.JSONDecoder()


def canonical(data) -> str:
    """JSON text in which equal data is equal text. ValueError where it is not JSON, as NaN is not."""
    return _CANONICAL.encode(data)


def key(request: dict, draw: int = 0) -> str:
    """The name of an entry: sha256 over everything that decides the response.

    In: the version of this rule; the whole request body, since any field of it may change the response; the draw, so
    that repeated samples of one request are different entries. Out: the API key, which decides who pays and not what
    is said; and the host, so that a recording made through a proxy or a second account still serves.
    """
    return named(request, draw)[0]


def named(request: dict, draw: int = 0) -> tuple[str, str]:
    """The key of a request, and its JSON text, which the key is a hash of."""
    body = canonical(request)
    return hashlib.sha256(f'["semback-1",{body},{draw:d}]'.encode()).hexdigest(), body


def problem(entry) -> str | None:
    """What is wrong with the shape of an entry, in words; None where nothing is."""
    if not isinstance(entry, dict) or entry.keys() != {"request", "draw", "reply", "source"}:
        return "it is not a recorded response"
    return _request_problem(entry["request"], entry["draw"]) or _reply_problem(entry["reply"])


def _request_problem(request, draw) -> str | None:
    if (
        not isinstance(request, dict)
        or not isinstance(request.get("model"), str)
        or type(draw) is not int
    ):
        return "its request is not one"
    fine = isinstance(request.get("messages"), list) and all(
        [isinstance(message, dict) for message in request["messages"]]
    )
    return None if fine else "its messages are not a list of them"


def _reply_problem(reply) -> str | None:
    if not isinstance(reply, dict) or {str} != {
        type(reply.get("text")),
        type(reply.get("finish_reason")),
        type(reply.get("model")),
    }:
        return "its reply is not one"
    fine = isinstance(usage := reply.get("usage"), dict) and {int}.issuperset(
        map(type, usage.values())
    )
    return None if fine else "its token counts are not numbers"


def reply_in(text, body: str, draw: int) -> dict | None:
    """The reply in the JSON text of the entry for a request (`body` is the request's), or None where the text is not, as `canonical`
    writes it, that of such an entry."""
    start = f'{{"draw":{draw:d},"reply":'
    if not isinstance(text, str) or not text.startswith(start):
        return None
    try:
        reply, end = _DECODER.raw_decode(text, len(start))
    except (ValueError, RecursionError):
        return None
    whole = text.startswith(f',"request":{body},"source":{{', end) and text.endswith("}}")
    return reply if whole and not _reply_problem(reply) else None


def text_of(body: str, draw: int, reply: dict, source: dict) -> str:
    """What `canonical` writes of the entry for a request, whose own text is `body`."""
    return f'{{"draw":{draw:d},"reply":{canonical(reply)},"request":{body},"source":{canonical(source)}}}'


def alteration(name: str, entry) -> str | None:
    """What shows that an entry is not what was once recorded under this key, in words; None where nothing does."""
    try:
        if wrong := problem(entry):
            return wrong
        canonical(entry).encode()
        if name != key(entry["request"], entry["draw"]):
            return (
                f"its key {str(name)[:12]}… is not that of its request, so one of them was altered"
            )
    except (RecursionError, ValueError):
        return "it holds what is not text"
    return None


def line(name: str, entry: dict) -> bytes:
    """The line of a recording that holds an entry."""
    return (canonical({"key": name, **entry}) + "\n").encode()


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str, dict | None, str | None]]:
    """(line number, key, entry, None) of every line of a recording; of a line that cannot be trusted (number, "", None, why).

    CacheError where the file cannot be read (to its end).
    """
    try:
        with _open(Path(path), "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                if line.strip():
                    yield number, *_entry(line)
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        zlib.error,
    ) as error:  # among them what is no path
        raise CacheError(f"the recording {path} cannot be read: {error}") from None


def write(path: str | os.PathLike, entries: Iterable[tuple[str, dict]]) -> int:
    """Write (key, entry) pairs, in their order, to a recording: gzip if `path` ends in .gz, zstd if in .zst, else plain text.

    The same entries give the same bytes. The file appears whole or not at all. Returns the number of entries.
    """
    count = 0
    try:
        with replacing(Path(path)) as part, _open(part, "wb", Path(path).suffix) as file:
            for name, entry in entries:
                file.write(line(name, entry))
                count += 1
    except (OSError, ValueError, TypeError) as error:
        raise CacheError(f"the recording {path} cannot be written: {error}") from None
    return count


def rescued(name: str, text: str) -> str:
    """Write an entry that no cache takes, as `text_of` writes it, to a recording among the temporary files. Returns what to tell of it."""
    path = Path(tempfile.gettempdir(), f"semback-{os.getpid()}.jsonl")
    try:
        with open(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8"
        ) as file:
            file.write(f'{text[:-1]},"key":"{name}"}}\n')
    except OSError as error:
        return f"What is answered meanwhile is lost: {error}."
    return f"What is answered meanwhile is in {path}: then `semback cache import {path}`."


def nearest(request: dict, entries: Iterable[tuple[str, dict]]) -> tuple[str, dict] | None:
    """The (key, entry) whose request is most like this one; None where there are no entries. One at a time is in memory."""
    from rapidfuzz import fuzz, process

    def text(thing):  # the request is text already
        return thing if isinstance(thing, str) else canonical(thing[1]["request"])

    found = process.extractOne(canonical(request), entries, scorer=fuzz.ratio, processor=text)
    return found and found[0]


def asked(path: str, draw: int = 0) -> tuple[dict, int] | None:
    """(request, draw) of a file that holds the body of a request or a line of a recording; None where there is no such file."""
    try:
        if not Path(path).is_file():
            return None
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        request, draw = (
            (data["request"], data.get("draw", draw)) if "request" in data else (data, draw)
        )
        if wrong := _request_problem(request, draw):
            raise CacheError(f"{path}: {wrong}")
        key(request, draw)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CacheError(f"{path[:80]} is not a request: {error}") from None
    return request, draw


def explained(
    request: dict, draw: int, entry: dict | None, others: Iterable[tuple[str, dict]], where
) -> str:
    """Whether a request is recorded (it has an entry), which of the other (key, entry) is nearest, and what differs."""
    text = (
        f"{key(request, draw)[:12]}… is recorded: a reply of {entry['reply']['model']}, {canonical(entry['source'])}."
        if entry
        else f"no response is recorded for this request to {request['model']!r} (draw {draw}) in {where}."
    )
    if not (found := nearest(request, others)):
        return text if entry else f"no response is recorded in {where} at all"
    return "\n".join(
        [text, f"The nearest is {found[0][:12]}…", *difference(request, draw, found[1])]
    )


def difference(request: dict, draw: int, entry: dict) -> list[str]:
    """In lines of text: the fields in which a request differs from an entry's, both values, and the start of a diff of the prompts."""
    import difflib

    recorded = entry["request"]
    differs = [
        field for field in sorted(request | recorded) if request.get(field) != recorded.get(field)
    ]
    text = [f"it differs in: {', '.join(differs + ['draw'] * (draw != entry['draw']))}"]
    text += [
        f"  {field}: asked {request.get(field)!r}, recorded {recorded.get(field)!r}"
        for field in differs
        if field != "messages"
    ]
    prompts = [
        [
            line
            for message in each["messages"]
            for line in f"{message.get('role')}: {message.get('content')}".split("\n")
        ]
        for each in (recorded, request)
    ]
    lines = [
        line
        for line in difflib.unified_diff(*prompts, "recorded", "asked", lineterm="", n=0)
        if not line.startswith("@@")
    ]
    return text + ["  " + line[:200] for line in lines[:12]] + ["  …"] * (len(lines) > 12)


def _entry(line: bytes) -> tuple[str, dict | None, str | None]:
    try:
        entry = json.loads(line)
        name = entry.pop("key")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", None, "it is not a recorded response"
    wrong = alteration(name, entry)
    return ("", None, wrong) if wrong else (name, entry, None)


@contextmanager
def _open(path: Path, mode: str, ending: str = ""):
    """The bytes of a recording, compressed as its ending says (its own, unless another is given), always in the same way."""
    with ExitStack() as stack:
        file, ending = stack.enter_context(open(path, mode)), ending or path.suffix
        if ending == ".gz":
            file = stack.enter_context(gzip.GzipFile("", mode, 9, file, mtime=0))
        if ending == ".zst":
            import zstandard

            try:
                if mode == "rb":
                    yield stack.enter_context(io.BufferedReader(_Unpacked(file)))
                else:  # a window of 32 MiB finds the likeness of lines that are far apart
                    settings = zstandard.ZstdCompressionParameters.from_level(
                        19, window_log=25, enable_ldm=True, write_checksum=True
                    )
                    yield stack.enter_context(
                        zstandard.ZstdCompressor(compression_params=settings).stream_writer(file)
                    )
            except zstandard.ZstdError as error:
                raise OSError(f"it is not zstd, or was altered: {error}") from None
        else:
            yield file


class _Unpacked(io.RawIOBase):
    """What a zstd file holds, all its frames. EOFError where its end is missing, which zstandard's own reader passes over."""

    def __init__(self, file):
        self._file, self._frame, self._whole, self._data = file, None, False, memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        import zstandard

        while not self._data:
            packed = (self._frame and self._frame.unused_data) or self._file.read(2**12)
            if not packed:
                if self._whole:
                    return 0
                raise EOFError("its end is missing")
            if not self._frame or self._whole:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._data, self._whole = memoryview(self._frame.decompress(packed)), self._frame.eof
        count = min(len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count
