"""The `semback cache` commands: recordings in and out, and a look at what is recorded."""

import json
import sys
from collections import Counter
from pathlib import Path

import click

from ..cache import ResponseCache
from ..cache.recording import is_request, lines
from ..errors import CacheError, DataError, ParameterError


def echo(text: object, error: bool = False) -> None:
    """Print text; on stderr if it is an error.

    Text from files and servers may hold control characters, with which a terminal would do as they
    say (move the cursor, fill the clipboard). All but newlines are printed as escapes.
    """
    unsafe = {char for char in str(text) if not char.isprintable()} - {"\n"}
    escapes = {ord(char): char.encode("unicode_escape").decode() for char in unsafe}
    click.echo(str(text).translate(escapes), err=error)


@click.group()
def cache() -> None:
    """Recorded replies, which make reruns exact."""


@cache.command()
@click.argument("path")
@click.option("--run", "name", help="Only the replies on which the batch runs/NAME rests.")
def export(path: str, name: str | None) -> None:
    """Write all replies to a recording, PATH.jsonl, PATH.jsonl.gz or PATH.jsonl.zst."""
    from ..report import results

    keys = None
    if name is not None:
        keys = {key for run in results.responses(name).values() for key in run}
        if not keys:
            raise DataError(f"runs/{name} names no replies; `semback run` writes their keys there")
    count = ResponseCache().export(path, keys)
    echo(f"{count:,} replies are in {path}")
    if keys is not None and count < len(keys):
        raise CacheError(f"only {count:,} of the {len(keys):,} replies of runs/{name} are recorded")


@cache.command("import")
@click.argument("path")
@click.option("--skip", is_flag=True, help="Skip lines that cannot be trusted.")
def import_(path: str, skip: bool) -> None:
    """Read a recording into the cache. Replies that are there already stay as they are."""
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
    for number, _, _, problem in lines(path):
        counts["refused" if problem else "intact"] += 1
        if problem:
            echo(f"refused line {number}: {problem}")
    echo(f"{counts['intact']:,} replies are intact, {counts['refused']:,} are not")
    sys.exit(1 if counts["refused"] else 0)


@cache.command()
@click.argument("key")
def drop(key: str) -> None:
    """Remove the replies whose key begins with KEY from the cache."""
    echo(f"{ResponseCache().drop(key):,} replies removed")


@cache.command()
@click.argument("request", metavar="REQUEST.json|KEY")
@click.option("--draw", default=0, show_default=True, help="Of the request in the file.")
def explain(request: str, draw: int) -> None:
    """Tell whether a request is recorded, which other recording is nearest, and what differs.

    REQUEST.json holds the body of a request, or a line of a recording. KEY is the start of a key.
    """
    responses = ResponseCache()
    if Path(request).is_file():
        echo(responses.explain(*_request(request, draw)))
        return
    for key, entry, _ in responses.rows():
        if entry and key.startswith(request):
            echo(responses.explain(entry["request"], entry["draw"]))
            return
    raise ParameterError(f"{request} is neither a file nor the start of a key in the cache")


@cache.command()
def ls() -> None:
    """List the replies: key, model, draw, and how the reply begins."""
    for key, entry, problem in ResponseCache().rows():
        line = f"altered: {problem}"
        if entry:
            text = " ".join(entry["reply"]["text"].split())[:80]
            line = f"{entry['request']['model']}  {entry['draw']}  {text}"
        echo(f"{key[:12]}  {line}")


@cache.command()
def stats() -> None:
    """Count the replies by model."""
    responses, counts = ResponseCache(), Counter()
    for _, entry, _ in responses.rows():
        counts[entry["request"]["model"] if entry else "altered: see `semback cache ls`"] += 1
    for model, count in sorted(counts.items()):
        echo(f"{count:9,}  {model}")
    echo(f"{len(responses):9,}  in {responses.folder}, mode {responses.mode}")


def _request(path: str, draw: int) -> tuple[dict, int]:
    """The request in a file, and its draw."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if "request" in data:
            data, draw = data["request"], data.get("draw", draw)
        if not is_request(data):
            raise ValueError("it has no messages or no model")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{path} is not a request: {error}") from None
    return data, draw
