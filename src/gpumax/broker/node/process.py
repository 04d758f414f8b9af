"""Processes: who is at the other end of a socket, and whether it still lives."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import struct
from pathlib import Path
from typing import NamedTuple


class Peer(NamedTuple):
    pid: int
    uid: int
    gid: int


def peer(sock: socket.socket) -> Peer:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", raw))


def started(pid: int) -> int | None:
    """When it began, in ticks since the machine did; None: it's gone, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def stopped(pid: int) -> bool:
    """By a signal, or by a debugger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
    except OSError:
        return False


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None: it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def end(pidfd: int) -> bool:
    """Whether it has ended, or will. Another user's is left alone, unless we may."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


_MEMBARRIER = {"x86_64": 324, "aarch64": 283}.get(platform.machine())
_GLOBAL, _GLOBAL_EXPEDITED = 1, 2


def barrier() -> bool:
    """What any thread of a client has written before now can be read, and it reads what was written before now.

    False where the kernel can't say so; a thread that doesn't run, as those of a stopped process, has passed one anyway.
    """
    if _MEMBARRIER is None:
        return False
    call = ctypes.CDLL(None).syscall
    return any(call(_MEMBARRIER, command, 0, 0) == 0 for command in (_GLOBAL_EXPEDITED, _GLOBAL))
