"""`make bench`: everything is measured in one run; results, a table and a figure go to runs/bench/.

Medians of three to nine; a spread is from the lowest to the highest value. A bound is computed from
the graph, the requests in flight and the latency of the endpoint, and no program can beat it.
`--long` goes on to 100,000 questions and 1,000,000 cache entries; `--peers` runs other libraries
too. For Linux.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from . import beside, figure, growth, live, replay, start
from .endpoint import EndpointProcess
from .measure import TESTS, Measurement

QUICK, LONG = 3, 5  # times that each thing is measured
LIVE = ("work", "test-set", "graphs", "limits")  # the endpoint has a core for itself
UNUSUAL = ("growth", "peers")  # parts that have to be asked for


def parts(rounds: int, folder: str) -> dict[str, Callable[[EndpointProcess], Iterable]]:
    """The parts of a run, in order; test-set leaves recordings in `folder` for the replay."""
    return {
        "work": lambda endpoint: chain(
            live.the_work(endpoint, rounds), live.slow_work(endpoint, rounds)
        ),
        "test-set": lambda endpoint: live.whole_test_set(endpoint, rounds, folder),
        "replay": lambda _: replay.whole(folder, rounds + 2),
        "graphs": lambda endpoint: live.deep_graphs(endpoint, rounds),
        "limits": lambda endpoint: limits(endpoint, rounds),
        "start": lambda _: start.importing(),
        "growth": lambda _: chain(growth.of_replay(), growth.of_entries()),
        "peers": lambda endpoint: beside.by_peers(endpoint, rounds),
    }


def limits(endpoint: EndpointProcess, rounds: int) -> Iterator[Measurement]:
    """Endpoints with a cap: below and at the number that may be in flight."""
    for cap, in_flight in ((4, 64), (16, 64), (64, 64), (64, 256)):
        yield from live.limited(endpoint, rounds, 64, cap, in_flight)


def machine() -> dict:
    """What the numbers were measured with."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(": ")[2].strip()
    packages = {name: version(name) for name in ("openai", "aiohttp", "httpx2", "diskcache")}
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def commit() -> str | None:
    """The commit that is checked out, with a + where files differ; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty=+"]
    with suppress(OSError):
        done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
        return done.stdout.strip() or None
    return None


def table(results: dict) -> str:
    """The results as a Markdown table."""
    on, load = results["machine"], results["load"]
    where = f"{on['cores']} cores ({on['cpu']}), Python {on['python']}, openai {on['openai']}"
    lines = [
        f"Measured on {results['when'][:10]} at {results['commit']} on {where}; load average "
        f"{load[0]} before, {load[1]} after. Medians; spread: lowest to highest.",
        "",
        "| | | median | spread | times | bound | x bound | target | |",
        "|---|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(cells(row))} |" for row in results["measurements"]),
    ]
    lines += [f"\n{name} failed: {error}" for name, error in results["failed"].items()]
    return "\n".join(lines) + "\n"


def cells(row: dict) -> list[str]:
    """The cells of a measurement."""
    bound, ratio, target = (number(row[name]) for name in ("bound", "ratio", "target"))
    spread, times = f"{number(row['low'])} to {number(row['high'])}", str(len(row["values"]))
    if row["quoted"]:
        spread, times = f"quoted from {row['quoted']}", ""
    if target:
        target = f"{'≥' if row['at_least'] else '≤'} {target}"
    met = {None: "", True: "met", False: "**missed**"}[row["met"]]
    median = f"{number(row['median'])} {row['unit']}"
    return [row["group"], row["name"], median, spread, times, bound, ratio, target, met]


def number(value: float | None) -> str:
    """Three digits, as people write them; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measured(
    wanted: list[str], rounds: int, endpoint: EndpointProcess, folder: str
) -> tuple[list[dict], dict[str, str]]:
    """The rows of the parts that are wanted, and {part: error} of those that failed."""
    begin, rows, failed = time.time(), [], {}
    for name, part in parts(rounds, folder).items():
        if name not in wanted:
            continue
        try:
            with endpoint.apart() if name in LIVE else nullcontext():
                for measurement in part(endpoint):
                    row = measurement.row()
                    rows.append(row)
                    text = f"{row['group']}: {row['name']}: {number(row['median'])} {row['unit']}"
                    print(f"{time.time() - begin:4.0f} s  {text}", file=sys.stderr)
        except Exception as error:  # the other parts are measured all the same
            failed[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    return rows, failed


def options() -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = list(parts(0, ""))
    only = "only this part (replay needs test-set before it)"
    parser.add_argument("--only", action="append", choices=names, help=only)
    parser.add_argument("--long", action="store_true", help="more rounds, and the part growth")
    peers = "the part peers too: other libraries, from .venv-bench"
    parser.add_argument("--peers", action="store_true", help=peers)
    out = TESTS.parent / "runs" / "bench"
    parser.add_argument("--out", type=Path, default=out, help="where the results go")
    chosen = parser.parse_args()
    if not chosen.only:
        extra = {"growth": chosen.long, "peers": chosen.peers}
        chosen.only = [name for name in names if name not in UNUSUAL or extra[name]]
    return chosen


def main() -> None:
    """Measure, print the table, and leave the results in files."""
    chosen, begin, load = options(), time.time(), os.getloadavg()[0]
    os.environ["SEMBACK_PROGRESS"] = "off"
    for name in ("SEMBACK_CACHE_MODE", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
        with EndpointProcess() as endpoint:
            rounds = LONG if chosen.long else QUICK
            rows, failed = measured(chosen.only, rounds, endpoint, folder)
    results = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin)),
        "commit": commit(),
        "machine": machine(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "seconds": round(time.time() - begin),
        "measurements": rows,
        "failed": failed,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    (chosen.out / "results.json").write_text(text, encoding="utf-8")
    (chosen.out / "table.md").write_text(table(results), encoding="utf-8")
    figure.draw(results, chosen.out / "speed.png")
    print(table(results))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
