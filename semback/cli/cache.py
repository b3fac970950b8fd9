"""The `semback cache` commands: recordings in and out, and a look at what is recorded."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..cache import ResponseCache
from ..cache.recording import Entry, canonical, is_request, lines
from ..errors import CacheError, DataError, ParameterError


def echo(text: object, error: bool = False) -> None:
    """Print text; on stderr if it is an error.

    Text from files and servers may hold control characters, which a terminal would obey (move the
    cursor, fill the clipboard). All but newlines are printed as escapes, and so is what the stream
    cannot encode, which on Windows (cp1252) is most of the world's letters.
    """
    unsafe = {char for char in str(text) if not char.isprintable()} - {"\n"}
    escapes = {ord(char): char.encode("unicode_escape").decode() for char in unsafe}
    encoding = (sys.stderr if error else sys.stdout).encoding or "utf-8"
    data = str(text).translate(escapes).encode(encoding, "backslashreplace")
    click.echo(data.decode(encoding), err=error)


def options(added: Sequence[Callable]) -> Callable:
    """A decorator that adds options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed(added):
            command = option(command)
        return command

    return decorate


@click.group()
def cache() -> None:
    """Recorded replies, which make reruns exact."""


@cache.command()
@click.argument("path")
@click.option("--run", "name", help="Only the replies that the batch runs/NAME rests on.")
@click.option(
    "--sealed", is_flag=True, help="Leave out the requests, if their data must not be shared."
)
def export(path: str, name: str | None, sealed: bool) -> None:
    """Write all replies to a recording, PATH.jsonl, PATH.jsonl.gz or PATH.jsonl.zst.

    A sealed recording holds keys and replies only: those who have the data, and so send the same
    requests, can replay it. Replies may quote the data.
    """
    from ..report import results

    keys = None
    if name is not None:
        keys = {key for run in results.responses(name).values() for key in run}
        if not keys:
            raise DataError(f"runs/{name} names no replies; `semback run` writes their keys there")
    count = ResponseCache().export(path, keys, sealed)
    echo(f"{count:,} replies are in {path}")
    if keys is not None and count < len(keys):
        raise CacheError(f"only {count:,} of the {len(keys):,} replies of runs/{name} are recorded")


@cache.command("import")
@click.argument("path")
@click.option("--skip", is_flag=True, help="Skip lines that cannot be trusted.")
def import_(path: str, skip: bool) -> None:
    """Read a recording into the cache. Replies that are already there are not replaced."""
    new, conflicts, refused = ResponseCache().load(path, skip)
    echo(f"{new:,} new replies")
    for key in conflicts:
        echo(f"{key[:12]} has another reply in {path}; the cache keeps its own")
    for line in refused:
        echo(f"refused {line}")


@cache.command("verify")
@click.argument("path")
def verify(path: str) -> None:
    """Check every line of a recording. Exit code 1 if one cannot be trusted."""
    counts = Counter()
    for number, _, entry, problem in lines(path):
        counts["refused" if problem else "intact"] += 1
        counts["sealed"] += entry is not None and "sealed" in entry
        if problem:
            echo(f"refused line {number}: {problem}")
    echo(f"{counts['intact']:,} replies are intact, {counts['refused']:,} are not")
    if counts["sealed"]:
        echo(f"{counts['sealed']:,} are sealed: their keys can only be checked with the requests")
    sys.exit(1 if counts["refused"] else 0)


@cache.command()
@click.argument("key", default="")
@click.option("--empty", is_flag=True, help="Only replies without a text.")
@click.option("--cut", is_flag=True, help="Only replies that ended at the token limit.")
@click.option("--refused", is_flag=True, help="Only replies that the model or a filter refused.")
def drop(key: str, **faults: bool) -> None:
    """Remove the replies whose key starts with KEY from the cache.

    With options, only replies to which one of them applies; then KEY may be left out.
    """
    chosen = [fault for fault, given in faults.items() if given]
    if not key and not chosen:
        raise click.UsageError("give a KEY, --empty, --cut or --refused")
    echo(f"{ResponseCache().drop(key, chosen):,} replies removed")


@cache.command()
@click.argument("request", metavar="REQUEST.json|KEY")
@click.option("--draw", default=0, show_default=True, help="The draw of the request in the file.")
def explain(request: str, draw: int) -> None:
    """Tell whether a request is recorded, which other recording is nearest, and what differs.

    REQUEST.json holds the body of a request, or a line of a recording. KEY is the start of a key.
    """
    responses = ResponseCache()
    if os.path.isfile(request):
        echo(responses.explain(*_request(request, draw)))
        return
    key, entry = _find(responses, request)
    if "sealed" in entry:
        echo(f"{key[:12]}… is recorded, but sealed: it has no request to compare with others")
    else:
        echo(responses.explain(entry["request"], entry["draw"]))


@cache.command()
@click.argument("key")
def show(key: str) -> None:
    """Show a recorded reply and its request: messages, text, usage, time and source.

    KEY is the start of a key.
    """
    key, entry = _find(ResponseCache(), key)
    request, reply = entry.get("request", {"sealed": entry.get("sealed")}), entry["reply"]
    facts = {"key": key, "draw": entry["draw"], "source": entry["source"]}
    facts |= {f"request {name}": value for name, value in request.items() if name != "messages"}
    facts |= {f"reply {name}": value for name, value in reply.items() if name != "text"}
    for name, value in facts.items():
        echo(f"{name:24}{value if isinstance(value, str) else canonical(value)}")
    for message in request.get("messages", []):
        echo(f"\n--- {message.get('role')}\n{message.get('content')}")
    echo(f"\n--- reply\n{reply['text']}")


@cache.command()
def ls() -> None:
    """List the replies: key, model, draw, and the beginning of the text."""
    for key, entry, problem in ResponseCache().rows():
        line = f"altered: {problem}"
        if entry:
            request, reply = entry.get("request"), entry["reply"]
            model = request["model"] if request else f"{reply['model']} (sealed)"  # that answered
            line = f"{model}  {entry['draw']}  {' '.join(reply['text'].split())[:80]}"
        echo(f"{key[:12]}  {line}")


def _find(responses: ResponseCache, start: str) -> tuple[str, Entry]:
    """The first entry whose key starts like this."""
    for key in responses.keys():
        if key.startswith(start) and (entry := responses.get(key)):
            return key, entry
    raise ParameterError(f"{start} is neither a file nor the start of a key in the cache")


def _request(path: str, draw: int) -> tuple[dict, int]:
    """The request in a file, and its draw."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if "request" in data:
            data, draw = data["request"], data.get("draw", draw)
        if not is_request(data):
            raise ValueError("it has no messages or no model; a sealed line has none")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{path} is not a request: {error}") from None
    return data, draw
