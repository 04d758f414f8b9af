"""An SQLite file: how it is opened, and its errors in words."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from gpumax.errors import StoreFailed

_PRAGMAS: Final = (
    # Before the first look at the file: nobody else can then write behind the back of what is kept in memory, and no
    # shared-memory file is needed. The kernel lets go of the lock when the process dies.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit returns when it is on the disk
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 16777216",  # bytes; what one great commit took is given back
    "PRAGMA trusted_schema = OFF",
)

_WRITABLE: Final = "make it and its directory writable for this user, or use another data directory"
_WORDS: Final = {
    "FULL": "the disk is full; nothing was written; free some space and try again",
    "READONLY": f"cannot be written; {_WRITABLE}",
    "PERM": f"cannot be written; {_WRITABLE}",
    "CANTOPEN": f"cannot be opened; {_WRITABLE}",
    "BUSY": "another process uses it; end that one first",
    "LOCKED": "another process uses it; end that one first",
    "NOTADB": "is not a database; move it away, or use another data directory",
    "CORRUPT": "the database is damaged; put a copy in its place, or move it away to begin anew",
    "IOERR": "the disk, or the right to use more of it, failed; nothing was written; look at the system's log",
}
_OF_ERRNO: Final = {
    errno.ENOSPC: "FULL",
    errno.EDQUOT: "FULL",
    errno.EROFS: "READONLY",
    errno.EACCES: "PERM",
    errno.EPERM: "PERM",
    errno.EIO: "IOERR",
}


def open_file(path: Path, patience_s: float) -> Engine:
    """An engine with one connection to the file, which is made where it isn't there, for its owner only.

    patience_s: how long to wait for another process to let go of it. StoreFailed where the file can't be used at all.
    """
    with in_words(path):
        _make_private(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": patience_s},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def identity(path: Path) -> tuple[int, int]:
    """Which file it is that has this name now; (0, 0) where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _make_private(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StoreFailed(f"{path}: is not a file; move it away, or use another data directory")
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)  # SQLite gives its other files the mode of this one
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the name survives a power cut, too
    finally:
        os.close(directory)


def _prepare(connection: Any, _record: object) -> None:
    # Transactions are begun here, by _begin, and not by the driver: it would leave table changes outside of them.
    connection.isolation_level = None
    try:
        for pragma in _PRAGMAS:
            answer = connection.execute(pragma).fetchone()
            if pragma.endswith("WAL") and answer != ("wal",):
                raise sqlite3.OperationalError("its file system cannot keep a write-ahead log")
    except sqlite3.Error:
        connection.close()
        raise


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """What goes wrong inside, with this file or its disk, becomes a StoreFailed that a person can act on."""
    try:
        yield
    except DBAPIError as error:
        raise StoreFailed(f"{path}: {_words_of(error.orig)}") from error
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {_words_of(error)}") from error
    except OSError as error:
        words = _WORDS.get(_OF_ERRNO.get(error.errno or 0, ""))
        raise StoreFailed(f"{path}: {words or f'cannot be opened: {error.strerror}'}") from error


def _words_of(error: BaseException | None) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""  # like SQLITE_IOERR_FSYNC
    family = name.split("_")[1] if "_" in name else ""
    return _WORDS.get(family) or f"the database failed: {error}"
