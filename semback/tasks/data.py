"""Where the data is: a small sample of our own that ships with the package, or the full data sets.

The full data is read from `SEMBACK_DATA_DIR` if that is set. Else it is downloaded once into the
user's cache folder, from a pinned commit of each upstream repository. Either way every file must
have the SHA-256 that `registry.txt` pins.
"""

import os
from functools import cache
from hashlib import sha256
from pathlib import Path

from ..errors import DataError, known

HERE = Path(__file__).parent
HOST = "https://raw.githubusercontent.com"


@cache
def registry() -> dict[str, tuple[str, str]]:
    """The 32 files: {path: (SHA-256, upstream as ``owner/repo@commit:path``)}."""
    lines = (HERE / "registry.txt").read_text().splitlines()
    rows = (line.split(" ") for line in lines if not line.startswith("#"))
    return {path: (checksum, upstream) for path, checksum, upstream in rows}


def text(path: str, data: str) -> str:
    """The text of a data file.

    Parameters
    ----------
    path : str
        As in `registry`, e.g. ``"bbh/snarks.json"``.
    data : {"sample", "full"}

    Raises
    ------
    ParameterError
        For any other `data`.
    DataError
        For a file that is missing, altered or cannot be downloaded.
    """
    known("data", data, ("sample", "full"))
    file = locate(path) if data == "full" else HERE / "sample" / path
    if not file.is_file():
        there = ", ".join(sorted(other.stem for other in file.parent.glob("*" + file.suffix)))
        problem = f'the sample data has no {path}, only {there}; data="full" has all of it'
        raise DataError(problem, file=path)
    return file.read_bytes().decode("utf-8")


def lines(path: str, data: str) -> list[str]:
    """The lines of a data file; parameters and errors as in `text`.

    Only a line feed ends a line: `str.splitlines` would also cut at U+2028, which GSM8K contains.
    """
    return text(path, data).removesuffix("\n").split("\n")


def locate(path: str) -> Path:
    """The path of a file of the full data, verified, and downloaded first if need be.

    Raises
    ------
    DataError
        For a file that is missing, altered or cannot be downloaded.
    """
    checksum, upstream = registry()[path]
    if folder := os.environ.get("SEMBACK_DATA_DIR"):
        file = Path(folder, path)
        if (state := _state(file, checksum)) != "ok":
            raise DataError(
                f"{file} is {state}: SEMBACK_DATA_DIR={folder} should hold {upstream} there, with "
                f"SHA-256 {checksum}. Put that file there, or unset SEMBACK_DATA_DIR to have it "
                "downloaded",
                file=file,
            )
        return file
    import pooch

    url = f"{HOST}/{upstream.replace('@', '/', 1).replace(':', '/', 1)}"
    store = pooch.os_cache("semback")
    try:
        return Path(pooch.retrieve(url, checksum, path, store, progressbar=True))
    except (OSError, ValueError) as error:  # no network, no permission to write, a wrong checksum
        raise DataError(
            f"{path} could not be downloaded from {url} to {store}, and nothing was kept: "
            f"{error} ({type(error).__name__}). Check the network, or set SEMBACK_DATA_DIR to a "
            "folder that holds the data",
            file=path,
        ) from None


def fetch() -> list[Path]:
    """Download what is missing of the full data; verify all of it. Errors as in `locate`."""
    return [locate(path) for path in registry()]


def verify() -> list[dict[str, str]]:
    """The state of the full data, in SEMBACK_DATA_DIR or else in the folder of downloads.

    Nothing is downloaded.

    Returns
    -------
    list of dict
        One row per file: path, state ("ok", "missing" or "altered"), upstream.
    """
    import pooch

    folder = os.environ.get("SEMBACK_DATA_DIR") or pooch.os_cache("semback")
    return [
        {"path": path, "state": _state(Path(folder, path), checksum), "upstream": upstream}
        for path, (checksum, upstream) in registry().items()
    ]


def _state(file: Path, checksum: str) -> str:
    if not file.is_file():
        return "missing"
    return "ok" if sha256(file.read_bytes()).hexdigest() == checksum else "altered"
