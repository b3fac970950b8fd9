"""Locks between the tasks, threads and processes of one computer, with one file per lock.

The system frees a lock when its process ends, however it ends. A lock belongs to one opening of
its file (`flock`; `LockFileEx` on Windows): it also keeps out other tasks and threads of the same
process, and closing another opening of the file does not free it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_open_files: set[int] = set()


@contextmanager
def attempt(path: str) -> Iterator[bool]:
    """Hold the lock with this file, unless somebody else does; the context's value says which.

    The file and its folder are created; the holder removes the file at the end.

    Raises
    ------
    OSError
        The file cannot be created, or the file system has no locks.
    """
    from filelock import lock_descriptor, unlock_descriptor

    process, held = os.getpid(), False
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    _open_files.add(file)
    try:
        # The last holder may have removed the file after we opened it: then ours locks nothing.
        held = lock_descriptor(file, blocking=False) and _is_at(path, file)
        yield held
    finally:
        if os.getpid() == process:  # else a forked child, which has no lock
            if held and _is_at(path, file):  # not if the folder was moved away
                with suppress(OSError):  # Windows does not remove an open file
                    os.unlink(path)
            if held:
                unlock_descriptor(file)
            _open_files.remove(file)
            os.close(file)


def _is_at(path: str, file: int) -> bool:
    """Whether this open file is the one at this path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), os.fstat(file))
    return False


def _forget_in_child() -> None:
    """Close what a forked child inherits: it would keep its parent's locks when the parent ends."""
    for file in _open_files:
        os.close(file)
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
