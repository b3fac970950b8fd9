"""`make bench`: everything measured in one run, side by side; the results, a table and a figure in runs/bench/.

Medians of three to nine; a table's spread is from the lowest to the highest. A bound is computed from the graph, the number in flight
and the latency of the endpoint, and no program can beat it. `--long` goes on to 100,000 questions and 1,000,000 entries; `--peers`
runs other libraries too. For Linux.
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

from semback.errors import DataError
from semback.report.plot import save

from . import beside, growth, live, replay, start
from .endpoint import Endpoint
from .figure import speed
from .measure import TESTS, Measurement

QUICK, LONG = 3, 5  # times that each thing is measured
LIVE = (
    "work",
    "test-set",
    "graphs",
    "limits",
)  # parts in which the endpoint has a core of its own; peers use threads


def parts(long: bool, folder: str) -> dict[str, Callable[[Endpoint], Iterable[Measurement]]]:
    """The parts of a run, in the order in which they are done; `folder` is where one leaves a cache to the next."""
    rounds = LONG if long else QUICK
    return {
        "work": lambda endpoint: live.the_work(endpoint, rounds),
        "test-set": lambda endpoint: live.whole_test_set(endpoint, rounds, folder),
        "replay": lambda _: chain(replay.whole(folder, rounds + 2), replay.parts(folder, rounds)),
        "graphs": lambda endpoint: live.deep_graphs(endpoint, rounds),
        "limits": lambda endpoint: limits(endpoint, rounds, long),
        "start": lambda _: chain(start.importing(), start.notebooks(rounds)),
        "growth": lambda _: chain(
            growth.of_calls(rounds, long), growth.of_entries(rounds, long), growth.of_nodes(rounds)
        ),
        **({"memory": lambda _: growth.of_memory()} if long else {}),
        "peers": lambda endpoint: beside.by_peers(endpoint, rounds),
    }


def limits(endpoint: Endpoint, rounds: int, long: bool) -> Iterator[Measurement]:
    """Endpoints with a limit: caps below, at and above what may be in flight, short runs and longer ones."""
    for cap, in_flight in ((4, 64), (16, 64), (64, 64), (64, 256)):
        yield from live.limited(endpoint, rounds, 64, cap, in_flight)
    yield from live.limited(endpoint, rounds, 64, 16, retry_after=0.2)
    for cap, in_flight in ((4, 64), (16, 64), (64, 256)) if long else ((16, 64), (64, 256)):
        yield from live.limited(endpoint, 1, 333, cap, in_flight)
    yield from live.slowed(endpoint, rounds, 64, 16)


def machine() -> dict:
    """What the numbers were measured with."""
    cpu = next(
        (
            line.partition(": ")[2].strip()
            for line in open("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    names = ("openai", "aiohttp", "httpx2", "diskcache")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def commit() -> str | None:
    """The commit that is checked out, with a + where files differ from it; None outside a checkout, and without git."""
    with suppress(OSError):
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=TESTS, capture_output=True, text=True
        )
        return said.stdout.strip() if not said.returncode else None
    return None


def table(results: dict) -> str:
    """The results as a Markdown table; a series is one line of it."""
    on = results["machine"]
    where = f"{on['cores']} cores ({on['cpu']}), Python {on['python']}, openai {on['openai']}"
    load = f"load average {results['load'][0]} before, {results['load'][1]} after"
    lines = [
        f"Measured on {results['when'][:10]} at {results['commit']} on {where}; {load}. Medians; spread: lowest to highest.",
        "",
        "| | | median | spread | times | bound | x bound | target | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    series = {}
    for row in results["measurements"]:
        series.setdefault((row["group"], row["name"]), []).append(row)
    for (group, name), rows in series.items():
        first, met = rows[0], {None: "", True: "met", False: "**missed**"}
        bound, ratio, target = (
            "" if first[each] is None else number(first[each])
            for each in ("bound", "ratio", "target")
        )
        target = target and ("≥ " if first["more"] else "≤ ") + target
        cells = [
            group,
            name,
            f"{number(first['median'])} {first['unit']}",
            f"{number(first['low'])} to {number(first['high'])}",
            str(len(first["values"])),
            bound,
            ratio,
            target,
            met[first["met"]],
        ]
        if first["quoted"]:
            cells[3:5] = f"quoted from {first['quoted']}", ""
        if first["size"] is not None:
            cells[2:5] = (
                "; ".join(f"{row['size']:,}: {number(row['median'])}" for row in rows)
                + f" {first['unit']}",
                "",
                "",
            )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{name} failed: {error}" for name, error in results["failed"].items()]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three digits, as people write them."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main():
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--long", action="store_true", help="the long series too")
    options.add_argument(
        "--only",
        action="append",
        choices=list(parts(True, "")),
        help="only this part (replay needs test-set before it)",
    )
    options.add_argument(
        "--peers", action="store_true", help="the part peers too: other libraries, from .venv-peers"
    )
    options.add_argument(
        "--out", type=Path, default=TESTS.parent / "runs" / "bench", help="where the results go"
    )
    chosen = options.parse_args()
    os.environ.update(SEMBACK_PROGRESS="off")
    for name in ("SEMBACK_CACHE_MODE", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        os.environ.pop(name, None)
    begun, load, rows, failed = time.time(), [round(os.getloadavg()[0], 1)], [], {}
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder, Endpoint() as endpoint:
        for name, part in parts(chosen.long, folder).items():
            wanted = name in chosen.only if chosen.only else name != "peers" or chosen.peers
            try:
                with endpoint.apart() if name in LIVE else nullcontext():
                    for measurement in part(endpoint) if wanted else ():
                        rows.append(row := measurement.row())
                        said = (
                            f"{row['group']}: {row['name']}: {number(row['median'])} {row['unit']}"
                        )
                        print(f"{time.time() - begun:4.0f} s  {said}", file=sys.stderr)
            except Exception as error:  # the other parts are measured all the same
                failed[name] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
    results = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "commit": commit(),
        "machine": machine(),
        "load": [*load, round(os.getloadavg()[0], 1)],
        "seconds": round(time.time() - begun),
        "measurements": rows,
        "failed": failed,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.json").write_text(
        json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (chosen.out / "table.md").write_text(said := table(results), encoding="utf-8")
    print(said)
    with suppress(DataError):  # some parts alone have nothing to draw
        save(speed(results), chosen.out / "speed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
