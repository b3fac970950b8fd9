"""The work W by other libraries and by semback in turn, in the same way: each in a process of its own, against the same endpoint.

`make bench PEERS=1` makes the peers' interpreter, `.venv-peers`, from peers/requirements.lock.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import work
from .endpoint import Endpoint
from .measure import TESTS, Measurement, with_tests_in_path

PYTHON = TESTS.parent / ".venv-peers" / "bin" / "python"
FOLDER = Path(__file__).parent / "peers"
PROGRAMS = {
    "semback, a new process": "by_semback",
    "TextGrad, 32 threads": "by_textgrad",
    "DSPy GEPA, 64 threads": "by_dspy",
    "Trace OptoPrime, async": "by_trace",
    "gepa, 32 threads": "by_gepa",
    "AdalFlow, 64 workers": "by_adalflow",
}


class PeerFailed(Exception):
    """A peer's program failed, or did less than the work W."""


def by_peers(endpoint: Endpoint, rounds: int, python: Path = PYTHON) -> Iterator[Measurement]:
    """W by each in turn, and again: seconds, also of its parts, requests and import. An error after the rows tells those that failed."""
    seen, failed = {}, {}
    for _ in range(rounds):
        for who, name in PROGRAMS.items():
            try:
                seen.setdefault(who, []).append(
                    by_peer(
                        endpoint, name, Path(sys.executable) if name == "by_semback" else python
                    )
                )
            except PeerFailed as error:
                failed[who] = str(error)
    limits = work.bounds(work.task())
    whole = {who: times for who, times in seen.items() if len(times) == rounds}
    for what, unit, limit in (
        ("W", "s", sum(limits.values())),
        ("evaluate", "s", limits["evaluate"]),
        ("step", "s", None),
        ("requests", "requests", None),
        ("import", "s", None),
    ):
        group = "work W, beside peers" + (f": {what}" if what != "W" else "")
        for who, times in whole.items():
            target = work.TARGET if what == "W" and PROGRAMS[who] == "by_semback" else None
            yield Measurement(group, who, unit, [each[what] for each in times], limit, target)
    if failed:
        raise PeerFailed("; ".join(f"{who}: {why}" for who, why in failed.items()))


def by_peer(endpoint: Endpoint, name: str, python: Path) -> dict:
    """What a peer's program says of its W, and how many requests it took; with an empty home, so that no cache helps it."""
    asked = json.dumps(
        [
            {"question": each.question, "answer": each.answer}
            for each in work.questions(work.QUESTIONS + 1)
        ]
    )
    endpoint.set(latency=work.LATENCY)
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as home:
        settings = {
            "HOME": home,
            "XDG_CACHE_HOME": home,
            "OPENAI_API_KEY": "none",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        try:
            done = subprocess.run(
                [python, FOLDER / "program.py", name, endpoint.url],
                cwd=home,
                env=with_tests_in_path(**settings),
                input=asked,
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            told = json.loads(done.stdout.splitlines()[-1])
        except subprocess.CalledProcessError as error:
            raise PeerFailed(
                (error.stderr.strip().splitlines() or ["no word of why"])[-1]
            ) from error
        except (
            OSError,
            subprocess.TimeoutExpired,
            ValueError,
            IndexError,
        ) as error:  # the last two: its last line is no JSON
            raise PeerFailed(f"{type(error).__name__}: {error}") from error
    for part in ("evaluate", "evaluate again"):
        if told["requests"][part] < work.CALLS:
            raise PeerFailed(
                f"{told['requests'][part]} requests in {part}, and W takes {work.CALLS}"
            )
    return {**told, "requests": sum(told["requests"].values())}
