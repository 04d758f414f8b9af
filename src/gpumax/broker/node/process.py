"""Processes: who is at the other end of a socket, and whether it still lives."""

from __future__ import annotations

import os
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


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None: it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def end(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
