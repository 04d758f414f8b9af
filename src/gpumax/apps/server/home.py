"""The data directory: ours alone, and one server's at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gpumax.errors import Conflict, GpumaxError, Refused

OURS: Final = frozenset((
    "attempts", "checkpoints", "emulated", "gangs", "gpu", "gpumax.db", "gpumax.db-shm", "gpumax.db-wal", "gpumax.sock", "journal", "lock",
    "logs", "lost+found", "node", "secrets", "server.json", "server.log", "token",
))  # fmt: skip
"""What a data directory holds."""

PRIVATE: Final = 0o077
"""Permissions that nobody but the owner may have."""


@contextmanager
def plainly(doing: str) -> Iterator[None]:
    """Turns what the system refuses into a sentence: `can't {doing}: no space left on device`."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise GpumaxError(f"can't {doing}: {why}") from None


def prepare(data: Path) -> None:
    """Make the directory, open to its owner only. Refused for one that is another's, or open to all with other things in it."""
    with plainly(f"use the data directory {data}"):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = data.stat()
        if about.st_uid != os.geteuid():
            raise Refused(
                f"the data directory {data} belongs to another user; name one of your own with --data"
            )
        if about.st_mode & PRIVATE:
            others = sorted(set(os.listdir(data)) - OURS)
            if others:
                raise Refused(
                    f"the data directory {data} is open to other users and holds {others[0]}, which is not gpumax's; "
                    "name an empty or new one with --data"
                )
            data.chmod(0o700)


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the directory for as long as this process lives. Conflict, with its pid, where another server has it."""
    with plainly(f"use the data directory {data}"):
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"a gpumax server (pid {pid}) uses {data} already; `gpumax down` stops it, --data names another directory"
            ) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise GpumaxError(f"can't lock the data directory {data}: {why}") from None
        with plainly(f"write to the data directory {data}"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; only its owner may read it."""
    with plainly(f"write {path}"):
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise


def token_of(data: Path) -> str:
    """The token that callers over TCP need; made at its first use."""
    path = data / "token"
    with plainly(f"read {path}"), suppress(FileNotFoundError):
        token = path.read_text(encoding="ascii", errors="replace").strip()
        if len(token) < 16 or not token.isprintable():
            raise Refused(f"{path} holds no token of 16 characters or more; delete it, and a new one is made")
        path.chmod(0o600)
        return token
    token = secrets.token_urlsafe(32)
    write_private(path, token.encode() + b"\n")
    return token


@contextmanager
def announced(data: Path, socket: Path, url: str | None) -> Iterator[None]:
    """server.json, by which commands find the server, for as long as it answers."""
    path = data / "server.json"
    told = {"pid": os.getpid(), "socket": str(socket), **({"url": url} if url else {})}
    write_private(path, json.dumps(told).encode() + b"\n")
    try:
        yield
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Take a file away, if that can be done."""
    with suppress(OSError):
        path.unlink()
