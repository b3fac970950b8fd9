"""Where the data comes from: a small sample of our own that ships with the package, or the full data sets.

The full data is read from `SEMBACK_DATA_DIR` if that is set, and else downloaded once into the user's cache, from a pinned
commit of each upstream repository. Either way every file must have the SHA-256 that `registry.txt` pins.
"""

import difflib
import hashlib
import os
import random
from functools import cache
from pathlib import Path

from ..errors import DataError, ParameterError

HERE = Path(__file__).parent
HOST = "https://raw.githubusercontent.com"


@cache
def registry() -> dict[str, tuple[str, str]]:
    """Path of each of the 32 files -> (SHA-256, upstream as ``owner/repo@commit:path``)."""
    rows = (line.split(" ") for line in (HERE / "registry.txt").read_text().split("\n") if line and line[0] != "#")
    return {path: (sha256, upstream) for path, sha256, upstream in rows}


def known(name: str, value, allowed) -> None:
    """ParameterError, naming what is near, unless `value` is one of `allowed`."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(allowed)}"
        raise ParameterError(f"{name}={value!r} does not exist; {hint}")


def shuffled(examples: list, train: int, seed: int, spare: int = 0) -> tuple[list, random.Random]:
    """The examples in a seeded random order, and the generator that made it. ParameterError unless `train` of them can be
    taken with `spare` left over."""
    if type(seed) is not int or seed < 0:  # random.Random does not tell -1 from 1
        raise ParameterError(f"seed={seed!r}: it is a whole number, 0 or more")
    if type(train) is not int or not 1 <= train <= len(examples) - spare:
        left = f", of which {spare} must be left to test on" if spare else ""
        raise ParameterError(f"train={train!r}: it is a whole number from 1 to {len(examples) - spare}; "
                             f"the data has {len(examples)} usable rows{left}")
    examples, rng = list(examples), random.Random(seed)
    rng.shuffle(examples)
    return examples, rng


def text(path: str, data: str) -> str:
    """The text of a data file, e.g. ``bbh/snarks.json``.

    Parameters: path as in `registry`; data is "sample" or "full".
    Errors: ParameterError for another `data`; DataError where the file is missing, altered or cannot be downloaded.
    """
    known("data", data, ("sample", "full"))
    if data == "full":
        return locate(path).read_bytes().decode("utf-8")
    file = HERE / "sample" / path
    if not file.is_file():
        there = sorted(f.stem for f in file.parent.glob("*" + file.suffix))
        raise DataError(f"the sample data has no {path}, only {', '.join(there)}; data=\"full\" has all of it")
    return file.read_bytes().decode("utf-8")


def lines(path: str, data: str) -> list[str]:
    """The lines of a data file. Only a line feed ends one: str.splitlines would also cut at U+2028, which GSM8K contains."""
    return text(path, data).removesuffix("\n").split("\n")


def locate(path: str) -> Path:
    """A file of the full data, verified; downloaded first if need be. DataError as in `text`."""
    sha256, upstream = registry()[path]
    if folder := os.environ.get("SEMBACK_DATA_DIR"):
        if (state := _state(file := Path(folder, path), sha256)) != "ok":
            raise DataError(f"{file} is {state}: SEMBACK_DATA_DIR={folder} should hold {upstream} there, with SHA-256 {sha256}. "
                            "Put that file there, or unset SEMBACK_DATA_DIR to have it downloaded")
        return file
    import pooch

    url = f"{HOST}/{upstream.replace('@', '/', 1).replace(':', '/', 1)}"
    folder = pooch.os_cache("semback")
    try:
        return Path(pooch.create(folder, "", registry={path: sha256}, urls={path: url}).fetch(path, progressbar=True))
    except (OSError, ValueError) as error:  # no network (requests raises an OSError), a folder that cannot be written, a wrong checksum
        raise DataError(f"{path} could not be downloaded from {url} to {folder}, and nothing was kept: {error} ({type(error).__name__}). "
                        "Check the network, or set SEMBACK_DATA_DIR to a folder that holds the data") from None


def fetch() -> list[Path]:
    """All files of the full data, downloaded where they are not there yet, and verified. DataError as in `text`."""
    return [locate(path) for path in registry()]


def verify(folder: str | Path | None = None) -> list[dict[str, str]]:
    """What state the full data is in, one row per file: path, state ("ok", "missing" or "altered"), upstream.

    `folder`: where it is; without it, SEMBACK_DATA_DIR, else the folder that downloads go to. Nothing is downloaded.
    """
    if not (folder := folder or os.environ.get("SEMBACK_DATA_DIR")):
        import pooch

        folder = pooch.os_cache("semback")
    return [{"path": path, "state": _state(Path(folder, path), sha256), "upstream": upstream}
            for path, (sha256, upstream) in registry().items()]


def _state(file: Path, sha256: str) -> str:
    if not file.is_file():
        return "missing"
    return "ok" if hashlib.sha256(file.read_bytes()).hexdigest() == sha256 else "altered"
