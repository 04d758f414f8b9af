"""What `gpumax doctor` looks at in the data directory. Nothing is changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

State = Literal["ok", "warn", "fail"]

LEAST_FREE: Final = 100 << 20
"""Bytes below which logs and checkpoints soon fill the disk."""

LITTLE_FREE: Final = 2 << 30

_NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs", "fuse.glusterfs")
)  # fmt: skip
"""File systems on which SQLite's log and our locks can't be relied on."""


class Check(NamedTuple):
    """One thing that was looked at. wish: what to do; empty where all is well."""

    name: str
    state: State
    found: str
    wish: str = ""


def directory(data: Path) -> Iterator[Check]:
    """The data directory: there, ours, writable, private, on a disk with room that can be relied on."""
    try:
        about = data.stat()
    except FileNotFoundError:
        yield _absent(data)
    except OSError as error:
        yield Check("data", "fail", f"{data}: {_why(error)}", "choose a directory of yours with --data")
        return
    else:
        yield _present(data, about)
    above = _nearest(data)
    yield disk(above)
    kind = _file_system(above)
    if kind in _NETWORK:
        wish = "choose a directory on a local disk with --data; locks and the database need one"
        yield Check("filesystem", "warn", f"{above} is on a network ({kind})", wish)


def _absent(data: Path) -> Check:
    above = _nearest(data)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return Check(
            "data", "fail", f"{data} is not there, and {above} can't take it", "choose another with --data"
        )
    return Check("data", "ok", f"{data} is not there yet; `gpumax up` makes it")


def _present(data: Path, about: os.stat_result) -> Check:
    mode = stat.S_IMODE(about.st_mode)
    if not stat.S_ISDIR(about.st_mode):
        return Check("data", "fail", f"{data} is no directory", "choose another with --data")
    if about.st_uid != os.geteuid():
        owner = _user(about.st_uid)
        return Check(
            "data", "fail", f"{data} belongs to {owner}", f"choose one of yours with --data, or be {owner}"
        )
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return Check(
            "data", "fail", f"{data} can't be written", f"chmod 700 {data}, or is the disk read-only?"
        )
    if mode & 0o077:
        return Check("data", "warn", f"{data} is open to others (mode {mode:o})", f"chmod 700 {data}")
    return Check("data", "ok", f"{data} (mode {mode:o})")


def disk(path: Path) -> Check:
    """Room for logs, checkpoints and the database."""
    try:
        about = os.statvfs(path)
    except OSError as error:
        return Check("disk", "warn", f"{path}: {_why(error)}", "make it readable")
    free = about.f_bavail * about.f_frsize
    found = f"{free / (1 << 30):.1f} GiB free"
    if free < LEAST_FREE or about.f_favail == 0 < about.f_files:
        return Check("disk", "fail", found, f"make room on the disk of {path}, or choose another with --data")
    if free < LITTLE_FREE:
        return Check("disk", "warn", found, f"make room on the disk of {path}; logs and checkpoints go there")
    return Check("disk", "ok", found)


def _nearest(path: Path) -> Path:
    """The path, or the nearest above it that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on; empty where that can't be told."""
    try:
        rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real = path.resolve()
    best, kind = -1, ""
    for row in rows:
        if len(row) < 3:
            continue
        mount = Path(row[1].replace("\\040", " "))
        # Of mounts at the same place the last one counts.
        if (mount == real or mount in real.parents) and len(mount.parts) >= best:
            best, kind = len(mount.parts), row[2]
    return kind


def socket_file(data: Path) -> Iterator[Check]:
    """Nobody else may use the server's socket."""
    import json

    try:
        path = Path(json.loads((data / "server.json").read_bytes())["socket"])
        about = path.stat()
    except (OSError, ValueError, LookupError, TypeError):
        return
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        yield Check("socket", "fail", f"{path} is open to others (mode {mode:o})", f"chmod 600 {path}")
    else:
        yield Check("socket", "ok", f"{path} (mode {mode:o})")


def database(data: Path) -> Iterator[Check]:
    """The database can be read and is whole."""
    path = data / "gpumax.db"
    try:
        about = path.stat()
    except OSError:
        return
    if about.st_uid != os.geteuid():
        # Opening it would leave files of ours beside it, which its owner then can't write.
        yield Check("database", "warn", f"{path} belongs to {_user(about.st_uid)}", "ask as its owner")
        return
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    # A database that was closed has no log beside it; read as immutable it gets none from us.
    options = "mode=ro" if path.with_name("gpumax.db-wal").exists() else "mode=ro&immutable=1"
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, timeout=0.5)
        ) as connection:
            told = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        told = str(error)
    if told == "database is locked":
        yield Check("database", "ok", f"{path}, in use by the server")
    elif told == "ok":
        yield Check("database", "ok", f"{path}, {about.st_size / (1 << 20):.1f} MiB, whole")
    else:
        wish = "stop the server, keep a copy of the directory, and bring back a backup"
        yield Check("database", "fail", f"{path}: {told}", wish)


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
