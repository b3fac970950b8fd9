"""The `semback cache` commands: recordings out and in, and a look at what is recorded."""

import json
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import click

from ..cache import recording
from ..cache.responses import ResponseCache
from ..errors import CacheError, DataError, ParameterError


@click.group()
def cache() -> None:
    """Recorded responses: what makes reruns exact."""


@cache.command()
@click.argument("path")
@click.option("--run", "name", help="Only the responses that the batch runs/NAME rests on.")
def export(path: str, name: str | None) -> None:
    """Write all responses to a recording, PATH.jsonl, PATH.jsonl.gz or PATH.jsonl.zst."""
    keys = None
    if name is not None:
        from ..report import results

        keys = {key for run in results.responses(name).values() for key in run}
        if not keys:
            place = results.folder(name) / "responses"
            raise DataError(f"{place} names no responses; a run of that name puts them there")
    with closing(ResponseCache()) as responses:
        count = responses.export(path, keys)
    click.echo(f"{count:,} responses are in {path}")
    if keys is not None and count < len(keys):
        missing = f"{len(keys) - count:,} of the {len(keys):,} responses of runs/{name}"
        raise CacheError(
            f"{missing} are not in the cache, so {path} is not complete; "
            "the same run again asks for them"
        )


@cache.command("import")
@click.argument("path")
@click.option(
    "--skip",
    is_flag=True,
    help="Pass over lines that cannot be trusted, instead of refusing the file.",
)
def import_(path: str, skip: bool) -> None:
    """Read a recording into the cache; responses that are there stay as they are."""
    with closing(ResponseCache()) as responses:
        new, conflicts, refused = responses.load(path, skip)
    click.echo(f"{new:,} new responses")
    for name in conflicts:
        click.echo(f"kept what was there: {name[:12]} says something else in {path}")
    for line in refused:
        click.echo(f"refused {line}")


@cache.command("verify")
@click.argument("path")
def verify_recording(path: str) -> None:
    """Check every line of a recording without reading it into the cache.

    The exit code is 1 if one cannot be trusted.
    """
    good = bad = 0
    for number, _, entry, wrong in recording.lines(path):
        good, bad = good + bool(entry), bad + bool(wrong)
        if wrong:
            click.echo(f"refused line {number}: {wrong}")
    whole = f"{good:,} responses are whole and stand under the keys of their requests"
    click.echo(f"{whole}, {bad:,} lines do not")
    sys.exit(bool(bad))


@cache.command()
@click.argument("key")
def drop(key: str) -> None:
    """Take the responses whose key begins with KEY out of the cache."""
    with closing(ResponseCache()) as responses:
        click.echo(f"{responses.drop(key):,} responses taken out")


@cache.command()
@click.argument("request", metavar="REQUEST.json|KEY")
@click.option("--draw", type=int, default=0, show_default=True, help="Of the request in the file.")
def explain(request: str, draw: int) -> None:
    """Say whether a request is recorded, which other recording is nearest, and what differs.

    REQUEST.json holds the body of a request, or a line of a recording. KEY is the start of a
    recorded response's key.
    """
    with closing(ResponseCache()) as responses:
        found = _request(request, draw)
        if found is None:
            for key, entry, _ in responses.rows():
                if entry and key.startswith(request):
                    found = entry["request"], entry["draw"]
                    break
            else:
                problem = f"{request} is neither a file nor the start of a recorded response's key"
                raise ParameterError(problem)
        click.echo(responses.explain(*found))


def _request(path: str, draw: int) -> tuple[dict, int] | None:
    """(request, draw) of a file with the body of a request or a line of a recording.

    None where there is no such file.
    """
    try:
        if not Path(path).is_file():
            return None
        request = json.loads(Path(path).read_text(encoding="utf-8"))
        if "request" in request:
            request, draw = request["request"], request.get("draw", draw)
        if not recording.is_request(request, draw):
            raise ValueError("it has no model, or no list of messages")
        recording.key(request, draw)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CacheError(f"{path[:80]} is not a request: {error}") from None
    return request, draw


@cache.command()
def ls() -> None:
    """List the responses: key, model, draw, and the start of the reply."""
    with closing(ResponseCache()) as responses:
        for key, entry, wrong in responses.rows():
            if entry is None:
                click.echo(f"{key[:12]}  altered: {wrong}")
                continue
            start = " ".join(entry["reply"]["text"].split())[:80]
            click.echo(f"{key[:12]}  {entry['request']['model']}  {entry['draw']}  {start}")


@cache.command()
def stats() -> None:
    """Count the responses and their tokens, by model."""
    with closing(ResponseCache()) as responses:
        counts = Counter(
            entry["request"]["model"] if entry else "altered: see `semback cache ls`"
            for _, entry, _ in responses.rows()
        )
        for model, count in sorted(counts.items()):
            click.echo(f"{count:9,}  {model}")
        click.echo(f"{len(responses):9,}  in {responses.folder}, mode {responses.mode}")
