"""What outlives a kernel: Jupyter gives one that is to end five seconds, and answers may take longer than that.

So a kernel with answers on their way forks when it is told to end. The one process ends at once; the other, the survivor, has the
connections and the files, lets go of all else that was the kernel's, and is gone when what comes is recorded (see `paid`).
"""

import logging
import os
import selectors
import stat
import sys
from contextlib import suppress

from ..cache.claims import Claims


def survives(loop) -> bool | None:
    """Fork this kernel, at its end. True in the process that is to wait for the answers of this event loop, False in the one that is
    to end; None where there is but one: no kernel, one of a batch, which is given the time, or a system or loop that does not bear it.
    """
    kernel, selector = sys.modules.get("ipykernel.kernelapp"), getattr(loop, "_selector", None)
    if (
        sys.platform != "linux"
        or not selector
        or not kernel
        or not kernel.IPKernelApp.initialized()
        or os.environ.get("SEMBACK_BATCH")
    ):
        return None
    connections = {}
    for number in _open(stat.S_ISSOCK):
        with suppress(
            KeyError
        ):  # the loop does not wait for it; what it waits for itself changes meanwhile, by ipykernel's threads
            connections[number] = selector.get_key(number)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        survivor = os.fork() == 0
    except OSError:  # no room for another process
        return None
    if not survivor:
        for number in connections:  # they would say that they close, where there is TLS
            os.dup2(null, number)
        return False
    os.setsid()  # Jupyter may kill the kernel's process group
    for number in _open(
        lambda mode: not stat.S_ISREG(mode)
    ):  # such as sockets at addresses that the next kernel takes
        if number not in connections:
            os.dup2(null, number)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # and not the cell's
    logging.disable()
    Claims.inherited()
    loop._selector = selectors.DefaultSelector()  # the system's part of the old one is gone
    for key in connections.values():
        loop._selector.register(key.fileobj, key.events, key.data)
    return True


def _open(kind) -> list[int]:
    """The numbers of this process's open files, sockets and so on whose mode is of a kind."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # closed meanwhile, as that of the listing itself
            found += [number] if kind(os.fstat(number).st_mode) else []
    return found
