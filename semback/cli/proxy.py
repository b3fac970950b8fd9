"""The commands `semback proxy` and `semback run-with`: record and replay any program."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from ..cache import MODES, ResponseCache
from .cache import echo, options

if TYPE_CHECKING:
    from ..proxy import Proxy

POSITIVE = click.FloatRange(0, min_open=True)
OPTIONS = (  # of both commands
    click.option("--base-url", help="The endpoint.  [default: OPENAI_BASE_URL, or OpenAI's]"),
    click.option("--cache", "folder", help="The cache folder.  [default: SEMBACK_CACHE_DIR]"),
    click.option("--mode", type=click.Choice(MODES), help="[default: auto]"),
    click.option("--in-flight", type=click.IntRange(1), default=64, help="Requests at a time."),
    click.option("--requests-per-minute", type=POSITIVE, help="Limit for all clients together."),
    click.option("--tokens-per-minute", type=POSITIVE, help="Limit for all clients together."),
    click.option("--dollars", type=POSITIVE, help="Budget of all clients together."),
    click.option("--tokens", type=click.IntRange(1), help="The same, in tokens."),
    click.option("--calls", type=click.IntRange(1), help="The same, in requests that are sent."),
    click.option("--timeout", type=POSITIVE, default=300.0, help="Seconds for each try."),
)


@click.command()
@options(OPTIONS)
@click.option("--host", default="127.0.0.1", help="Any other host requires a token.")
@click.option("--port", default=8910)
@click.option("--token", envvar="SEMBACK_PROXY_TOKEN", help="[default: SEMBACK_PROXY_TOKEN]")
def proxy(host: str, port: int, **settings: Any) -> None:
    """Serve recorded replies to any program, and record new ones, until Ctrl-C.

    It is an OpenAI-compatible server for chat completions: OPENAI_BASE_URL=http://127.0.0.1:8910/v1
    for the program. At http://127.0.0.1:8910/s/NAME/v1 each repeat of a request gets a reply of its
    own, and DELETE /s/NAME starts the count again for a rerun.
    """
    from ..proxy import serve

    server = _proxy(**settings)
    asyncio.run(serve(server, host, port, lambda url: echo(f"{url}/v1", error=True)))
    _show(server)


@click.command("run-with", context_settings={"allow_interspersed_args": False})
@options(OPTIONS)
@click.option("--session", default="run", help="Repeats of a request are counted within it.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_with(session: str, command: tuple[str, ...], **settings: Any) -> None:
    """Run COMMAND, and record and replay its requests to an OpenAI-compatible endpoint.

    The command finds a proxy in OPENAI_BASE_URL. Its exit code is passed on.
    """
    from ..proxy import run_with

    server = _proxy(**settings)
    code = asyncio.run(run_with(server, session, command))
    _show(server)
    sys.exit(code)


def _proxy(folder, mode, dollars, tokens, calls, token=None, **settings) -> "Proxy":
    """The proxy that the options describe."""
    from ..llm import Budget
    from ..llm.chat import all_headers
    from ..llm.client import Endpoint
    from ..proxy import Proxy

    budget = Budget(dollars, tokens, calls)
    endpoint = Endpoint(headers=all_headers(None), budget=budget, **settings)
    return Proxy(ResponseCache(folder, mode), endpoint, token)


def _show(proxy: "Proxy") -> None:
    """Print what each client used; on stderr, since stdout is the command's."""
    rows, sent = proxy.rows(), proxy.endpoint.budget
    if not rows and not sent.spent["calls"]:
        echo("no reply passed through the proxy: does the program use OPENAI_BASE_URL?", error=True)
        return
    for row in rows:
        calls, live = row["calls"], row["live"]
        tokens, cost = row["prompt_tokens"] + row["completion_tokens"], "price unknown"
        if row["cost"] is not None:
            cost = f"{row['cost']:.4f} dollars, {row['live_cost'] or 0:.4f} of them live"
        counts = f"{calls:,} calls, {calls - live:,} recorded, {live:,} live, {tokens:,} tokens"
        echo(f"{row['phase']}, {row['model']}: {counts}, {cost}", error=True)
    echo(f"sent, including for clients that disconnected: {sent}", error=True)
