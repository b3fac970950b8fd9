"""The table that responses are kept in: a diskcache that holds text, and trusts nothing that it finds."""

import errno
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from ..errors import CacheBusy, CacheError
from .recording import canonical

ENTRIES = "FROM Cache WHERE raw IS NOT 1 OR key IS NULL OR key NOT IN ('format', 'recordings')"  # every other key is a hash
NAMES = (
    """SELECT CASE WHEN raw = 1 AND typeof(key) = 'text' AND length(CAST(key AS BLOB)) = 64 AND key NOT GLOB '*[^0-9a-f]*'
    THEN key ELSE 'row:' || rowid END, rowid """
    + ENTRIES
)
_FORMAT = (
    1  # of the table; a later semback that writes what this one cannot read writes another number
)
PATIENCE = 60  # seconds to wait for a table that another process has locked
_MOUNTS = "/proc/self/mountinfo"
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "fuse.sshfs",
    "sshfs",
    "9p",
    "lustre",
    "ceph",
    "fuse.ceph",
    "afs",
    "beegfs",
    "gpfs",
    "glusterfs",
    "fuse.glusterfs",
    "pvfs2",
    "davfs",
    "fuse.davfs2",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.gcsfuse",
}
_SETTINGS = dict(  # all that diskcache knows, so that nothing in the table and no other version of diskcache decides
    eviction_policy="none",
    cull_limit=0,
    size_limit=2**30,
    statistics=0,
    tag_index=0,
    disk_min_file_size=2**62,
    disk_pickle_protocol=5,
    sqlite_auto_vacuum=1,
    sqlite_cache_size=2**11,
    sqlite_journal_mode="wal",
    sqlite_synchronous=1,
    sqlite_mmap_size=0,
)  # a file mapped into memory is no quicker here, takes 64 MB, and ends the process where the disk fails
_FORMER = {"sqlite_cache_size": 2**13, "sqlite_mmap_size": 2**26}  # what an older semback wrote

_ADVICE = {
    "BUSY": "Another process keeps it locked: wait for it or end it, then run again.",
    "FULL|IOERR|ENOSPC|EDQUOT|EFBIG": "The disk is full, or failing: make room, then run again.",
    "CORRUPT|NOTADB|ERROR": "Its file cache.db is damaged: move it away; the recordings beside it are read again.",
    "ENOTSUP|EOPNOTSUPP": "Set SEMBACK_CACHE_DIR to a local folder, or SEMBACK_CACHE_ON_NETWORK=1 if one computer alone uses it.",
    "": "Give yourself the right to write there, or set SEMBACK_CACHE_DIR to another folder.",
}  # by SQLite's or the system's name


def opened(folder: Path):
    """The diskcache in this folder, made if it is not there, for its owner only. Its keys are text, its values JSON text.

    diskcache itself unpickles whatever lies in its table (CVE-2025-69872), opens and deletes any file that the table names, and
    obeys the settings that it finds there. OSError, sqlite3.Error: it cannot be used. CacheError: it is not ours, or is too new.
    """
    import diskcache

    class TextDisk(diskcache.Disk):
        def put(self, key):
            return str(key), True

        def store(self, value, read, key=None):
            """What is stored is JSON text already."""
            return 0, 1, None, value

        def fetch(self, mode, filename, value, read):
            """What the text says; False, which is no entry, for anything else."""
            with suppress(ValueError, RecursionError):
                if mode == 1 and filename is None and isinstance(value, str):
                    return json.loads(value) or False
            return False

        def remove(self, file_path):
            """Entries are never in files of their own: a file that one names is somebody else's, and stays."""

    kind = _file_system(folder.resolve())
    if kind in _NETWORK and not os.environ.get("SEMBACK_CACHE_ON_NETWORK"):
        raise OSError(
            errno.ENOTSUP,
            f"it is on a network file system ({kind}), where SQLite loses data when two computers write",
        )
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(
            os.open(folder / "cache.db", os.O_CREAT | os.O_EXCL, 0o600)
        )  # SQLite gives the files beside it the same rights
    for path, rights in [(folder, 0o700), *((path, 0o600) for path in folder.glob("cache.db*"))]:
        with suppress(
            FileNotFoundError, PermissionError
        ):  # made by an older semback, and not somebody else's
            if path.stat().st_mode & 0o077:
                path.chmod(rights)
    _check(folder / "cache.db")
    made = diskcache.Cache(str(folder), timeout=PATIENCE, disk=TextDisk, **_SETTINGS)
    made.add("format", canonical(_FORMAT))
    return made


def number(disk) -> int | None:
    """The number of the file of an opened table, which another file in its place does not have."""
    with suppress(OSError):
        return os.stat(os.path.join(disk.directory, "cache.db")).st_ino


def copied(folder: Path) -> Path:
    """A temporary folder with a copy of the table in this one, where that cannot be written."""
    copy = Path(tempfile.mkdtemp(prefix="semback-"))
    for path in folder.glob("cache.db*"):
        if path.suffix != ".db-shm":
            shutil.copyfile(path, copy / path.name)
    return copy


def refused(folder: Path, doing: str, error: Exception) -> CacheError:
    """What the disk or SQLite said when a cache in this folder could not be opened, read or written, told for people."""
    while isinstance(error.__context__, sqlite3.Error):  # diskcache hides what SQLite said
        error = error.__context__
    name = getattr(error, "sqlite_errorname", "_").split("_")[1] or errno.errorcode.get(
        getattr(error, "errno", 0), "?"
    )
    what = next(
        advice for names, advice in _ADVICE.items() if not names or name in names.split("|")
    )
    kind = CacheBusy if name == "BUSY" else CacheError
    return kind(
        f"the cache in {folder} could not be {doing}: {error}. {what} What was recorded before is kept."
    )


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, or will be; "" where the system does not tell."""
    mounts = {}
    with suppress(OSError), open(_MOUNTS, encoding="utf-8", errors="replace") as file:
        for line in file:  # 36 35 98:0 / /mount\040point rw,noatime master:1 - nfs4 server:/ rw; a later mount hides an earlier one
            left, _, right = line.partition(" - ")
            mounts[left.split()[4].encode("latin-1", "replace").decode("unicode_escape")] = (
                right.split()[0]
            )
    return next(
        (mounts[str(each)] for each in (folder, *folder.parents) if str(each) in mounts), ""
    )


def _check(path: Path) -> None:
    """Look at a table before diskcache does, which obeys the settings in it. CacheError where it is too new or altered."""
    with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")  # whoever cannot write is told now
        tables = {
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        formats = (
            db.execute("SELECT value FROM Cache WHERE key = 'format'").fetchall()
            if "Cache" in tables
            else []
        )
        settings = (
            db.execute("SELECT key, value FROM Settings").fetchall() if "Settings" in tables else []
        )
        db.execute("ROLLBACK")
    for (number,) in formats:
        if number != str(_FORMAT):
            raise CacheError(
                f"{path} was made by a newer semback: it has format {str(number)[:40]}, this one knows {_FORMAT}. "
                "Update semback, or set SEMBACK_CACHE_DIR to another folder; nothing was changed"
            )
    for name, value in settings:
        ours = _SETTINGS.get(name, path), _FORMER.get(name, path)
        if value not in ours and not (
            name in ("count", "size", "hits", "misses") and type(value) is int
        ):
            raise CacheError(
                f"{path} was altered: setting {str(name)[:40]!r} is not ours. Move the file away; recordings are read again"
            )
