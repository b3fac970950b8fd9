"""Recordings: replies as JSON text, one line each, in files that people exchange.

An *entry* is a request with its reply. Its *key* is a hash of everything that decides the reply: a
line or row whose key is not that of its request was altered and is refused. `nearest` compares
a request that has no entry with the one most like it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CacheError
from ..paths import replacing

Entry = dict[str, Any]  # {"request": …, "draw": …, "reply": …, "source": …}
Entries = Iterable[tuple[str, Entry]]  # with their keys

LONGEST = 2**26  # bytes of a line, so that memory stays bounded whatever a file holds
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


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
    head, same_request, _ = text.partition(f',"request":{body},"source":{{')
    if not same_request or not head.startswith(start):
        return None
    reply = parsed(head[len(start) :])
    return reply if _is_reply(reply) else None


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
    request, draw = entry["request"], entry["draw"]
    if not is_request(request) or type(draw) is not int or not _is_reply(entry["reply"]):
        return "its request or its reply is not one"
    try:
        canonical(entry).encode()
        if name == key(request, draw):
            return None
    except (RecursionError, ValueError):
        return "it holds something that is not text"
    return f"its key {str(name)[:12]}… is not that of its request, so one of them was altered"


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
    from . import packing

    try:
        with open(path, "rb") as file, packing.unpacked(file, Path(path).suffix) as unpacked:
            for number, data in enumerate(_bounded_lines(unpacked), 1):
                if not data.isspace():
                    entry = parsed(data)
                    name = entry.pop("key", None) if isinstance(entry, dict) else None
                    wrong = alteration(name, entry)
                    yield number, str(name), None if wrong else entry, wrong
    except packing.ERRORS as error:
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
    from . import packing

    path, count = Path(path), 0
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            with packing.packed(file, path.suffix) as packed:
                for name, entry in entries:
                    packed.write(line(name, entry))
                    count += 1
    except packing.ERRORS as error:
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
    key, best, best_score = None, {}, -1.0
    for name, entry in entries:
        score = fuzz.ratio(text, canonical(entry["request"]), score_cutoff=best_score)
        if score > best_score:
            key, best, best_score = name, entry, score
    if key is None:
        return None, []
    return key, [f"The nearest is {key[:12]}…. It differs in:", *_difference(request, draw, best)]


def _difference(request: dict, draw: int, entry: Entry) -> list[str]:
    """The fields that differ, with both values, and the start of a diff of the messages."""
    import difflib

    requested, recorded = {**request, "draw": draw}, {**entry["request"], "draw": entry["draw"]}
    fields = []
    for field in sorted(requested | recorded):
        one, two = requested.get(field), recorded.get(field)
        if one != two and field != "messages":
            fields.append(f"  {field}: requested {one!r}, recorded {two!r}")
    prompts = _prompt(recorded), _prompt(requested)
    diff = difflib.unified_diff(*prompts, "recorded", "requested", lineterm="", n=0)
    changes = ["  " + change[:200] for change in diff if not change.startswith("@@")]
    return fields + changes[:12]


def _prompt(request: dict) -> list[str]:
    messages = [f"{each.get('role')}: {each.get('content')}" for each in request["messages"]]
    return "\n".join(messages).split("\n")


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. Of one that is longer than an entry may be, the beginning."""
    while data := file.readline(LONGEST):
        yield data
        while len(data) == LONGEST and not data.endswith(b"\n"):  # pass over the rest
            data = file.readline(LONGEST)


def is_request(request: object) -> bool:
    """Whether this is the body of a request."""
    match request:
        case {"model": str(), "messages": list(messages)}:
            return all(isinstance(message, dict) for message in messages)
    return False


def _is_reply(reply: object) -> bool:
    if not isinstance(reply, dict) or not isinstance(usage := reply.get("usage"), dict):
        return False
    texts = reply.get("text"), reply.get("finish_reason"), reply.get("model")
    return all(type(text) is str for text in texts) and set(map(type, usage.values())) <= {int}
