"""The socket of a group: where it is, and who may open it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from gpumax.errors import Refused

LONGEST_PATH: Final = 107
"""Bytes of a socket's path, as the system has it."""
MODE: Final = 0o600
OPEN_MODE: Final = 0o666

Users = frozenset[int] | None
"""Whose processes may connect to a group; None: whoever reaches its socket."""


def place(directory: Path, name: str, users: Users) -> Path:
    """Where it is. One that anybody may open is alone in a folder, so that a container can have that folder and nothing else:
    the next broker's socket is a new one, in the same folder.
    """
    return directory / f"{name}.sock" if users is not None else directory / f"{name}.d" / "gpu.sock"


def listen(path: Path, users: Users) -> socket.socket:
    """Bound, and open to nobody else for any moment. Refused, in words, where it can't be."""
    if users is not None and len(os.fsencode(path)) > LONGEST_PATH:
        raise Refused(
            f"{path}: too long for a socket's path, which has {LONGEST_PATH} bytes at most; wanted a shorter directory"
        )
    if users is None:
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    mask = os.umask(0o777 & ~(OPEN_MODE if users is None else MODE))
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(
            f"/proc/self/fd/{folder}/{path.name}"
        )  # where a container has the folder, its path may be long here
    except OSError as error:
        sock.close()
        raise Refused(f"{path}: {error.strerror or error}") from None
    finally:
        os.close(folder)
        os.umask(mask)
    if users is not None and len(users) == 1 and os.geteuid() == 0:
        os.chown(path, next(iter(users)), -1)
    sock.listen(64)
    return sock


def remove(path: Path, users: Users) -> None:
    """The group is gone."""
    path.unlink(missing_ok=True)
    if users is None and path.parent.is_dir():
        path.parent.rmdir()
