"""The table of recorded replies: a diskcache that holds JSON text and trusts nothing it finds.

diskcache itself unpickles what is in its table (CVE-2025-69872), opens and deletes any file that
a row names, and obeys the settings stored there. Here values are text, file names are ignored, and
schema and settings are checked before diskcache reads them.
"""

import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import tempfile
import weakref
from contextlib import closing, suppress
from pathlib import Path

import diskcache

from ..errors import CacheError
from ..paths import replacing

ERRORS = (sqlite3.Error, OSError, diskcache.Timeout)
PATIENCE = 60  # seconds to wait for a table that another process has locked
# All the settings that diskcache knows, so that those in the table decide nothing.
_SETTINGS = {
    **diskcache.DEFAULT_SETTINGS,
    "eviction_policy": "none",
    "cull_limit": 0,
    "disk_min_file_size": 2**62,
    "disk_pickle_protocol": 5,
    "sqlite_cache_size": 2**11,
    "sqlite_mmap_size": 0,  # with a mapped file, a failing disk would end the process
}
# BLAKE2 of the statements that make diskcache's tables, indexes and triggers (version 5.6.3)
_SCHEMA = """
    193cadec595f8d022fa9533d5275ef6f 9781e576fbd9086ba1e97c87f1bd1575
    4573f00d0b2acdce375d4c84d8827909 ed8198713853ce0ce268318869b00c3a
    1a566b450eabf6e54501f8c607738394 cf2113b3cd3d2544259f437727341235
    1afe7197aeeb0bf454dd650e9d12d45f eab286d0c1efed93d2288dc0df906839
    b0684e0a475dafb60975b627263b931d aca6872c97af8f2232b0476ec99a8b5b
""".split()
_NAMES = """SELECT CASE WHEN raw = 1 AND typeof(key) = 'text' AND length(CAST(key AS BLOB)) = 64
    AND key NOT GLOB '*[^0-9a-f]*' THEN key ELSE 'row:' || rowid END AS name, rowid AS number
    FROM Cache WHERE raw IS NOT 1 OR key IS NULL OR key NOT IN ('format', 'recordings')"""
_DELETE = f"""DELETE FROM Cache WHERE rowid IN (SELECT number FROM ({_NAMES}) WHERE name = :start
    OR instr(:start, ':') = 0 AND substr(name, 1, length(:start)) = :start)"""
_NETWORK = "nfs cifs smb sshfs 9p lustre ceph afs beegfs gpfs gluster davfs rclone s3fs gcsfuse"
_ADVICE = {  # by the name that SQLite or the system gives to the error
    "CANTOPEN": "Are too many files open (ulimit -n)? May you write there? If not, set "
    "SEMBACK_CACHE_DIR to another folder.",
    "BUSY": "Another process keeps it locked: wait for it or end it, then run again.",
    "FULL IOERR ENOSPC EDQUOT EFBIG": "The disk is full or failing: make room, then run again.",
    "CORRUPT NOTADB ERROR": "Its file cache.db is damaged: move it away and run again.",
    "ENOTSUP": "Set SEMBACK_CACHE_DIR to a local folder, or SEMBACK_CACHE_ON_NETWORK=1.",
    "EMFILE ENFILE": "Raise the limit on open files (ulimit -n), or lower in_flight.",
    "EEXIST ENOTDIR": "Move it away, or set SEMBACK_CACHE_DIR to another folder.",
}
_NO_RIGHTS = "Give yourself the right to write there, or set SEMBACK_CACHE_DIR to another folder."


class _TextDisk(diskcache.Disk):
    """Keys and values are text. Anything else in the table is read as the empty text."""

    def put(self, key):
        return str(key), True

    def store(self, value, read, key=None):
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode, filename, value, read):
        plain = mode == diskcache.core.MODE_RAW and filename is None and isinstance(value, str)
        return value if plain else ""

    def remove(self, file_path):
        """Leave the file alone: our rows name none, so it is somebody else's."""


class Table(diskcache.Cache):
    """A diskcache of JSON texts by key that notices when its files are replaced."""

    def __init__(self, folder: Path):
        super().__init__(str(folder), timeout=PATIENCE, disk=_TextDisk, **_SETTINGS)
        self._file = self._inode("cache.db")
        self.replaced()

    def names(self) -> list[str]:
        """The key of every entry, sorted; "row:NUMBER" for what cannot be an entry."""
        return sorted(name for name, _ in self._sql(_NAMES))

    def delete_names(self, start: str) -> int:
        """Delete the entries whose name begins with this text. Returns their number."""
        return self._sql(_DELETE, {"start": start}).rowcount

    def copy(self, folder: Path) -> None:
        """Write a table with the same rows to a folder, which must not have one yet."""
        path = folder / "cache.db"
        if path.exists():
            raise FileExistsError(errno.EEXIST, "there is one already", str(path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.touch(0o600)
            self._sql("VACUUM INTO ?", (str(temporary),))

    def replaced(self) -> bool:
        """Whether the files that this thread has open are no longer in their place.

        Somebody may have moved the folder away. Or this process read a file of the folder, perhaps
        to copy it: closing that file gave up SQLite's POSIX locks, and another process took the
        write-ahead log for one that nobody uses and removed it. Whatever is then written is lost.
        """
        if self._inode("cache.db") != self._file:
            return True
        now = self._con, self._inode("cache.db-wal")
        before, self._local.log = getattr(self._local, "log", now), now
        return now[0] is before[0] and now[1] != before[1]

    def _inode(self, name: str) -> int | None:
        with suppress(FileNotFoundError):
            return os.stat(os.path.join(self.directory, name)).st_ino


def open_table(folder: Path) -> Table:
    """The table in this folder, created if necessary, for its owner only.

    Raises
    ------
    OSError, sqlite3.Error
        The table cannot be used.
    CacheError
        It was altered.
    """
    kind = _file_system(folder.resolve())
    network = kind.removeprefix("fuse.").startswith(tuple(_NETWORK.split()))
    if network and not os.environ.get("SEMBACK_CACHE_ON_NETWORK"):
        raise OSError(errno.ENOTSUP, f"SQLite loses data on a network file system ({kind})")
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "cache.db"
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is not a plain file", str(path))
    _check(path)
    for path in (folder, *folder.glob("cache.db*")):
        with suppress(FileNotFoundError, PermissionError):  # gone in the meantime, or not ours
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(mode & 0o700)  # SQLite gives cache.db's rights to the files beside it
    return Table(folder)


def open_copy(folder: Path) -> Table:
    """A temporary copy of the table in a folder that cannot be written, deleted with the object."""
    copy = Path(tempfile.mkdtemp(prefix="semback-"))
    for path in folder.glob("cache.db*"):
        if path.suffix != ".db-shm":
            shutil.copyfile(path, copy / path.name)
    table = open_table(copy)
    weakref.finalize(table, shutil.rmtree, copy, ignore_errors=True)
    return table


def error_name(error: Exception) -> str:
    """The name that SQLite or the system gives to an error, as "BUSY" or "ENOSPC"."""
    while isinstance(error.__context__, sqlite3.Error):  # diskcache hides SQLite's own error
        error = error.__context__
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0, "")
    return getattr(error, "sqlite_errorname", "SQLITE_").split("_")[1]


def explained(folder: Path, action: str, error: Exception) -> CacheError:
    """The error for a cache in this folder that cannot be used, with advice."""
    name = error_name(error)
    advice = next((text for names, text in _ADVICE.items() if name in names.split()), _NO_RIGHTS)
    problem = f"the cache in {folder} could not be {action}: {error}."
    return CacheError(f"{problem} {advice} Everything recorded before is kept.")


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, or will be; "" if that is not known."""
    import psutil

    with suppress(OSError):  # there is no list of mounts in some sandboxes
        mounts = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
        places = [str(place) for place in (folder, *folder.parents)]
        return next((mounts[place] for place in places if place in mounts), "")
    return ""


def _check(path: Path) -> None:
    """Raise CacheError for a table that was altered, before diskcache opens it."""
    with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # raises here if we cannot write
        schema = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
        for name, statement in schema:
            digest = hashlib.blake2b(str(statement).encode(), digest_size=16).hexdigest()
            if digest not in _SCHEMA:
                raise _altered(path, f"{str(name)[:40]!r} in its schema")
        settings = database.execute("SELECT key, value FROM Settings").fetchall() if schema else []
    for name, value in settings:
        counter = name in ("count", "size", "hits", "misses") and type(value) is int
        if not counter and (name not in _SETTINGS or value != _SETTINGS[name]):
            raise _altered(path, f"setting {str(name)[:40]!r}")


def _altered(path: Path, what: str) -> CacheError:
    problem = f"{path} was altered: {what} is not semback's."
    return CacheError(f"{problem} Move the file away; recordings are read again")
