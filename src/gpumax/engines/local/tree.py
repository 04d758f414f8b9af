"""Processes found and ended by where they come from. Standard library only: supervisors use it.

While a supervisor lives, every process of its attempt is a descendant of it, for orphans become its children. Once it
is dead, the attempt's processes are those that carry its mark in their environment, their descendants, and whoever is
in its cgroup.
"""

from __future__ import annotations

import os

from gpumax.engines.local import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "GPUMAX_ATTEMPT"
"""The variable that every process of an attempt inherits."""

SIGKILL, SIGTERM, SIGCONT = 9, 15, 18


def parents() -> dict[int, int]:
    """The parent of every process that hasn't ended."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(name)) is not None:
            found[int(name)] = parent
    return found


def descendants(roots: Iterable[int]) -> set[int]:
    """All processes below these, without them."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    edge = list(roots)
    while edge:
        new = [pid for pid in children.get(edge.pop(), ()) if pid not in found]
        found.update(new)
        edge += new
    return found


def marked(attempt: str) -> set[int]:
    """Processes that carry the attempt's mark."""
    mark = f"{MARK}={attempt}".encode()
    return {pid for pid in parents() if mark in _environment(pid).split(b"\0")}


def orphaned(attempt: str, cgroup: str) -> set[int]:
    """What is left of an attempt whose supervisor is dead."""
    found = marked(attempt)
    found |= descendants(found)
    return {pid for pid in found | cgroups.members(cgroup) if _parent(str(pid)) is not None}


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to those that are still there and may be sent one."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _parent(pid: str) -> int | None:
    """None where the process has ended, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may hold anything, brackets and spaces included.
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else int(parent)


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""
