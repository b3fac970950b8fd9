"""Where the data comes from: a small sample of our own that ships with the package, or the full data sets.

The full data is read from `SEMBACK_DATA_DIR` if that is set, and else downloaded once into the user's cache, from a pinned
commit of each upstream repository. Either way every file must have the SHA-256 that `registry.txt` pins.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from ..errors import DataError, known

HERE = Path(__file__).parent
HOST = "https://raw.githubusercontent.com"


@cache
def registry() -> dict[str, tuple[str, str]]:
    """Path of each of the 32 files -> (SHA-256, upstream as ``owner/repo@commit:path``)."""
    rows = (
        line.split(" ")
        for line in (HERE / "registry.txt").read_text().split("\n")
        if line and line[0] != "#"
    )
    return {path: (sha256, upstream) for path, sha256, upstream in rows}


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
        raise DataError(
            f'the sample data has no {path}, only {", ".join(there)}; data="full" has all of it'
        )
    return file.read_bytes().decode("utf-8")


def lines(path: str, data: str) -> list[str]:
    """The lines of a data file. Only a line feed ends one: str.splitlines would also cut at U+2028, which GSM8K contains."""
    return text(path, data).removesuffix("\n").split("\n")


def locate(path: str) -> Path:
    """A file of the full data, verified; downloaded first if need be. DataError as in `text`."""
    sha256, upstream = registry()[path]
    if folder := os.environ.get("SEMBACK_DATA_DIR"):
        if (state := _state(file := Path(folder, path), sha256)) != "ok":
            raise DataError(
                f"{file} is {state}: SEMBACK_DATA_DIR={folder} should hold {upstream} there, with SHA-256 {sha256}. "
                "Put that file there, or unset SEMBACK_DATA_DIR to have it downloaded"
            )
        return file
    import pooch

    url = f"{HOST}/{upstream.replace('@', '/', 1).replace(':', '/', 1)}"
    folder = pooch.os_cache("semback")
    try:
        return Path(
            pooch.create(folder, "", registry={path: sha256}, urls={path: url}).fetch(
                path, progressbar=True
            )
        )
    except (
        OSError,
        ValueError,
    ) as error:  # no network (requests raises an OSError), a folder that cannot be written, a wrong checksum
        raise DataError(
            f"{path} could not be downloaded from {url} to {folder}, and nothing was kept: {error} ({type(error).__name__}). "
            "Check the network, or set SEMBACK_DATA_DIR to a folder that holds the data"
        ) from None


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
    return [
        {"path": path, "state": _state(Path(folder, path), sha256), "upstream": upstream}
        for path, (sha256, upstream) in registry().items()
    ]


def _state(file: Path, sha256: str) -> str:
    if not file.is_file():
        return "missing"
    return "ok" if hashlib.sha256(file.read_bytes()).hexdigest() == sha256 else "altered"
