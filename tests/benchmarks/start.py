"""What a user waits for first: `python -m benchmarks.start` measures the import."""

import json
import time
from collections.abc import Iterator

from .measure import Measurement, in_process, memory


def importing(rounds: int = 9) -> Iterator[Measurement]:
    """The import in new processes, with modules that an earlier one has compiled."""
    runs = [in_process("start") for _ in range(rounds + 1)][1:]
    yield Measurement("start", "import semback", "s", [run["import"] for run in runs], target=0.15)
    yield Measurement("start", "import semback, CPU", "s", [run["CPU"] for run in runs])
    yield Measurement("start", "import semback, peak memory", "MB", [run["MB"] for run in runs])


if __name__ == "__main__":
    start, cpu = time.perf_counter(), time.process_time()
    import semback  # noqa: F401

    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"import": seconds, "CPU": cpu, "MB": memory()}))
