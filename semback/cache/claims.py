"""Who asks for which response: one caller at a time, among all tasks, caches and processes of one computer."""

import os
import threading
import weakref
from pathlib import Path

try:
    import fcntl
except (
    ImportError
):  # Windows: there each process asks for itself, and the first answer that is stored counts
    fcntl = None

_of_folder = (
    weakref.WeakValueDictionary()
)  # a system's lock does not tell the caches of one process apart: those of a folder share one
_one = threading.Lock()  # nor its threads: one at a time
if fcntl:  # else a fork could have it taken for good, by a thread that it has not
    os.register_at_fork(
        before=_one.acquire, after_in_parent=_one.release, after_in_child=_one.release
    )


class Claims:
    """The claims on the responses of one folder. A claim is a locked byte of the file `asking`: the system unlocks it when the process
    ends, however it ends."""

    def __init__(self, folder: Path):
        self._file = os.open(folder / "asking", os.O_RDWR | os.O_CREAT, 0o600)
        self._mine: dict[str, int] = {}  # {key: process}: a fork has the dict, and not the locks
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def of(cls, folder: Path) -> "Claims":
        """The one object for a folder in this process. OSError where the folder cannot be written."""
        name = os.path.realpath(folder)
        with _one:
            claims = _of_folder[name] = _of_folder.get(name) or cls(folder)
        return claims

    @staticmethod
    def inherited() -> None:
        """In a process that was forked: take over all claims of the one before, which is ending, when it has ended."""
        for claims in _of_folder.values():
            for key in claims._mine:
                fcntl.lockf(claims._file, fcntl.LOCK_EX, 1, int(key[:15], 16))
            claims._mine = dict.fromkeys(claims._mine, os.getpid())

    def claim(self, key: str) -> bool:
        """Whether the caller may ask for the response with this key: False while somebody else is asking for it."""
        with _one:
            if self._mine.get(key) == os.getpid():
                return False
            try:
                if fcntl:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(key[:15], 16))
            except (BlockingIOError, PermissionError):
                return False
            self._mine[key] = os.getpid()
            return True

    def release(self, key: str) -> None:
        """Give a claim back, when the response is there or will not come."""
        with _one:
            if self._mine.pop(key, None) == os.getpid() and fcntl:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, int(key[:15], 16))
