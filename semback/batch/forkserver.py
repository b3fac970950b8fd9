"""Kernels that start at once: forked from a process that has imported what notebooks need, which takes a second of a processor's time.

This file is that process, the fork server (`python -m semback.forkserver`), and also the `Provisioner` by which Jupyter gets its kernels
from there. Should the program that executes notebooks be killed, the fork server is left: it ends the kernels as a stopped batch does,
so that they record the answers that are on their way to them (see `paid`). They end so too, should it be killed itself.
"""

import atexit
import ctypes
import gc
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

FORKS = (
    sys.platform == "linux"
)  # elsewhere libraries do not bear it, or there is no fork; kernels start there as everywhere in Jupyter
QUIET = 60  # seconds after which a fork server that has no kernel ends
_lock = threading.Lock()
_servers: dict[tuple, "ForkServer"] = {}  # by `_made_of`: one, or none


class Provisioner(LocalProvisioner):
    """What Jupyter starts a kernel by, watches it and ends it. Its `stdout` is a file with a name."""

    async def launch_kernel(self, cmd, **launch):
        at = cmd.index("-m")
        order = {
            "arguments": cmd[at + 1 :],
            "folder": launch["cwd"],
            "environment": dict(launch["env"]),
            "log": launch["stdout"].name,
        }
        self.process = _forked(order, cmd[:at])
        self.pid = self.pgid = self.process.pid
        return self.connection_info


# Here, since an editable installation that is older than it would not know it as an entry point of the package.
KernelProvisionerFactory.provisioners["semback"] = EntryPoint(
    "semback", f"{__package__}.forkserver:Provisioner", KernelProvisionerFactory.GROUP_NAME
)


class Forked:
    """A forked kernel, as subprocess.Popen has a child."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid, self.returncode, self._ended = pid, None, threading.Event()

    def ended(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int:
        self._ended.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The fork server, as the process that started it sees it. python: the command that runs Python.

    It ends with that process, or when it has had no kernel for a while. Until then it is kept by its thread.
    """

    def __init__(self, python: list[str]):
        self._process = subprocess.Popen(
            [*python, "-P", "-m", "semback.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )  # which no Ctrl-C reaches
        self._kernels: dict[int, Forked] = {}
        self._started: queue.Queue = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def fork(self, order: dict) -> Forked | None:
        """The kernel that was ordered; None where the server has ended."""
        with suppress(OSError, ValueError):  # a broken pipe, or a closed one
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        return self._started.get()

    def _listen(self):
        with suppress(OSError), self._process:
            for line in self._process.stdout:
                pid, code = json.loads(line)
                if code is None:
                    self._started.put(self._kernels.setdefault(pid, Forked(pid)))
                else:
                    self._kernels.pop(pid).ended(code)
        for kernel in (
            self._kernels.values()
        ):  # which end by themselves, when they have recorded what is on its way
            kernel.ended(-signal.SIGKILL)
        self._started.put(None)


def _forked(order: dict, python: list[str]) -> Forked:
    with _lock:
        for _ in range(2):  # it may be about to end, having been quiet
            if (made_of := _made_of(order["environment"])) not in _servers:
                _servers.clear()
                _servers[made_of] = ForkServer(python)
            if kernel := _servers[made_of].fork(order):
                return kernel
            _servers.clear()
    raise RuntimeError(
        "the fork server does not start, from which kernels are forked; what it said is on stderr"
    )


def _made_of(environment: dict[str, str]) -> tuple:
    """What a server has taken in when it started: Python's variables, and semback's code, here the time of its last change."""
    python = sorted(
        variable for variable in environment.items() if variable[0].startswith("PYTHON")
    )
    return *python, max(path.stat().st_mtime_ns for path in Path(__file__).parent.rglob("*.py"))


# What the server does


def serve() -> dict | None:
    """Fork for each order that comes on stdin, and tell on stdout, [pid, None], and of the end, [pid, exit code].

    Returns the order in the process that is to be its kernel. Else None: at the end, when nobody can order any more, all is quiet.
    """
    kernels, open_, server = set(), True, os.getpid()
    while open_ or kernels:
        came = select.select([0] if open_ else [], [], [], 0.05 if kernels else QUIET)[0]
        if not came and not kernels:
            return None
        if came and not (line := sys.stdin.buffer.readline()):
            open_ = False
            for pid in kernels:
                os.kill(pid, signal.SIGTERM)
        elif came:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # of threads: they are NumPy's, whose BLAS is made for being forked
                pid = os.fork()
            if not pid:
                return {**json.loads(line), "server": server}
            kernels.add(pid)
            _tell(pid, None)
        while kernels and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            kernels.remove(ended[0])
            _tell(ended[0], os.waitstatus_to_exitcode(ended[1]))
    return None


def _tell(pid: int, code: int | None) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(1, f"[{pid}, {json.dumps(code)}]\n".encode())


def become(order: dict) -> None:
    """Be the kernel that was ordered: in a session of its own, with its environment, folder and file for what is said on stdout."""
    import matplotlib
    import numpy
    from ipykernel import kernelapp

    style = matplotlib.matplotlib_fname()
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    null, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((null, log, log)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    if matplotlib.matplotlib_fname() != style:  # there may be one in the folder
        matplotlib.rc_file(matplotlib.matplotlib_fname())
    numpy.random.seed()  # or kernels would draw the same numbers
    sys.argv = order["arguments"]
    ctypes.CDLL(None).prctl(
        1, signal.SIGTERM
    )  # PR_SET_PDEATHSIG: where the server is killed, end as a stopped batch does
    if os.getppid() != order["server"]:  # which was killed before that
        sys.exit(1)
    app = kernelapp.IPKernelApp.instance()
    app.initialize()
    atexit.register(_let_finish, app.control_thread)
    app.start()


def _let_finish(control) -> None:
    """Let the thread that heard of the end finish, before the app closes what it speaks through, for which it would then wait for ever:
    some of a hundred kernels were ended only by the SIGTERM that follows after 2.5 s (ipykernel 7.4.0)."""
    control.stop()
    control.join()


def prepare() -> None:
    """Import what notebooks import, here and once, and ipykernel's parts."""
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # the server ends with its kernels; one for a kernel waits until it is one
    os.environ.setdefault(
        "MPLBACKEND", "module://matplotlib_inline.backend_inline"
    )  # as kernels do before it is imported
    import diskcache  # noqa: F401
    import ipykernel.ipkernel  # noqa: F401
    import jinja2  # noqa: F401

    import semback.figures  # noqa: F401

    gc.collect()
    gc.freeze()  # what is imported is never searched for garbage, so that its pages stay shared


if __name__ == "__main__":
    prepare()
    if order := serve():
        become(order)
