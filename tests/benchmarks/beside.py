"""The work W by other libraries and by semback, each in a process of its own, in turn.

`make bench PEERS=1` makes the peers' interpreter, `.venv-peers`, from peers/requirements.lock.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import work
from .endpoint import EndpointProcess
from .measure import TESTS, Measurement, environment

PYTHON = TESTS.parent / ".venv-bench" / "bin" / "python"
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


def by_peers(
    endpoint: EndpointProcess, rounds: int, python: Path = PYTHON
) -> Iterator[Measurement]:
    """W by each in turn, and again: seconds, also of its parts and of the import, and requests.

    PeerFailed, after the measurements of the others, names those that failed.
    """
    runs: dict[str, list[dict]] = {who: [] for who in PROGRAMS}
    failed = {}
    for _ in range(rounds):
        for who, program in PROGRAMS.items():
            interpreter = Path(sys.executable) if program == "by_semback" else python
            try:
                runs[who].append(by_peer(endpoint, program, interpreter))
            except PeerFailed as error:
                failed[who] = str(error)
    bounds = work.bounds(work.task())
    limits = {"W": sum(bounds.values()), "evaluate": bounds["evaluate"]}
    for what in ("W", "evaluate", "step", "requests", "import"):
        group = "work W, beside peers" if what == "W" else f"work W, beside peers: {what}"
        unit = "requests" if what == "requests" else "s"
        for who, times in runs.items():
            if len(times) < rounds:
                continue
            target = work.TARGET if what == "W" and PROGRAMS[who] == "by_semback" else None
            values = [each[what] for each in times]
            yield Measurement(group, who, unit, values, limits.get(what), target)
    if failed:
        raise PeerFailed("; ".join(f"{who}: {why}" for who, why in failed.items()))


def by_peer(endpoint: EndpointProcess, program: str, python: Path) -> dict:
    """What a peer's program prints of its W, with its number of requests.

    Its home is empty, so no cache helps it.
    """
    examples = work.questions(work.QUESTIONS + 1)
    questions = [{"question": each.question, "answer": each.answer} for each in examples]
    endpoint.configure(latency=work.LATENCY)
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as home:
        settings = {"HOME": home, "XDG_CACHE_HOME": home, "OPENAI_API_KEY": "none"}
        settings["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        try:
            done = subprocess.run(
                [python, FOLDER / "program.py", program, endpoint.url],
                cwd=home,
                env=environment(**settings),
                input=json.dumps(questions),
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            printed = json.loads(done.stdout.splitlines()[-1])
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["it printed no reason"]
            raise PeerFailed(lines[-1]) from error
        except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise PeerFailed(f"{type(error).__name__}: {error}") from error
    for part in ("evaluate", "evaluate again"):
        number = printed["requests"][part]
        if number < work.CALLS:
            raise PeerFailed(f"{number} requests in {part}, and W takes {work.CALLS}")
    return {**printed, "requests": sum(printed["requests"].values())}
