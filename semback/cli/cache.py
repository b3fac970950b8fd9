"""The `semback cache` commands: recordings in and out, and a look at what is recorded."""

import json
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import click

from ..cache import ResponseCache
from ..cache.recording import is_request, lines
from ..errors import CacheError, DataError, ParameterError
from .terminal import echo


@click.group()
def cache() -> None:
    """Recorded replies, which make reruns exact."""


@cache.command()
@click.argument("path")
@click.option("--run", "name", help="Only the replies on which the batch runs/NAME rests.")
def export(path: str, name: str | None) -> None:
    """Write all replies to a recording, PATH.jsonl, PATH.jsonl.gz or PATH.jsonl.zst."""
    keys = _keys(name) if name is not None else None
    with closing(ResponseCache()) as responses:
        count = responses.export(path, keys)
    echo(f"{count:,} replies are in {path}")
    if keys is not None and count < len(keys):
        raise CacheError(
            f"{len(keys) - count:,} of the {len(keys):,} replies of runs/{name} are not in the "
            f"cache, so {path} is incomplete; the same run again requests them"
        )


@cache.command("import")
@click.argument("path")
@click.option(
    "--skip", is_flag=True, help="Skip lines that cannot be trusted; else they are errors."
)
def import_(path: str, skip: bool) -> None:
    """Read a recording into the cache. Replies that are there already stay as they are."""
    with closing(ResponseCache()) as responses:
        new, conflicts, refused = responses.load(path, skip)
    echo(f"{new:,} new replies")
    for key in conflicts:
        echo(f"{key[:12]} has another reply in {path}; the cache keeps its own")
    for line in refused:
        echo(f"refused {line}")


@cache.command("verify")
@click.argument("path")
def verify(path: str) -> None:
    """Check every line of a recording. Exit code 1 if one cannot be trusted."""
    count = bad = 0
    for number, _, _, problem in lines(path):
        count += 1
        if problem:
            bad += 1
            echo(f"refused line {number}: {problem}")
    echo(f"{count - bad:,} replies are intact and have the keys of their requests; {bad:,} are not")
    sys.exit(1 if bad else 0)


@cache.command()
@click.argument("key")
def drop(key: str) -> None:
    """Remove the replies whose key begins with KEY from the cache."""
    with closing(ResponseCache()) as responses:
        echo(f"{responses.drop(key):,} replies removed")


@cache.command()
@click.argument("request", metavar="REQUEST.json|KEY")
@click.option("--draw", type=int, default=0, show_default=True, help="Of the request in the file.")
def explain(request: str, draw: int) -> None:
    """Tell whether a request is recorded, which other recording is nearest, and what differs.

    REQUEST.json holds the body of a request, or a line of a recording. KEY is the start of a key.
    """
    with closing(ResponseCache()) as responses:
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
    with closing(ResponseCache()) as responses:
        for key, entry, problem in responses.rows():
            if entry is None:
                echo(f"{key[:12]}  altered: {problem}")
                continue
            text = " ".join(entry["reply"]["text"].split())[:80]
            echo(f"{key[:12]}  {entry['request']['model']}  {entry['draw']}  {text}")


@cache.command()
def stats() -> None:
    """Count the replies by model."""
    with closing(ResponseCache()) as responses:
        counts: Counter[str] = Counter()
        for _, entry, _ in responses.rows():
            counts[entry["request"]["model"] if entry else "altered: see `semback cache ls`"] += 1
        for model, count in sorted(counts.items()):
            echo(f"{count:9,}  {model}")
        echo(f"{len(responses):9,}  in {responses.folder}, mode {responses.mode}")


def _keys(name: str) -> set[str]:
    """The keys of the replies on which a batch rests."""
    from ..report import results

    keys = {key for run in results.responses(name).values() for key in run}
    if not keys:
        folder = results.folder(name) / "responses"
        raise DataError(f"{folder} names no replies; `semback run --name {name}` writes them there")
    return keys


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
