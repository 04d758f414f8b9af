"""How much of its node's memory an agent may set aside to swap to. It counts as the agent's, so it is bounded by what the agent itself may use."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import psutil

from gpumax.units import MIB, format_memory

OWN_BYTES: Final = 256 * MIB
"""What agent and broker need themselves."""


class HostMemory(NamedTuple):
    """Bytes, and in words why they are less than was asked for; empty where they aren't."""

    bytes: int
    less: str = ""


def host_memory(asked: int | None, limit: int | None, whole: int) -> HostMemory:
    """asked: None where nobody said it: all that the limit leaves, at most half of the node's, and none where there is no limit.

    limit: bytes of the container's; None: it has none. whole: of the node.
    """
    if limit is None:
        return HostMemory(min(asked or 0, whole))
    left = max(0, limit - OWN_BYTES)
    if asked is None:
        return HostMemory(min(left, whole // 2))
    if asked <= left:
        return HostMemory(asked)
    words = (
        f"{_size(asked)} of memory to swap to is more than its container may use: {_size(limit)}, of which the agent needs {_size(OWN_BYTES)} itself; "
        f"{_size(left)} is set aside (the chart's agent.resources.limits.memory)"
    )
    return HostMemory(left, words)


def own_limit(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that our control group and those above it may use; None where nothing bounds them."""
    try:
        (path,) = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    except (OSError, ValueError):
        return None
    found: list[int] = []
    place = cgroups / path.lstrip("/")
    for folder in (place, *place.parents):
        try:
            said = (folder / "memory.max").read_text().strip()
        except OSError:
            said = "max"
        if said.isdecimal():
            found.append(int(said))
        if folder == cgroups:
            break
    return min(found, default=None)


def node_memory() -> int:
    """Bytes of the whole node."""
    total: int = psutil.virtual_memory().total
    return total


def _size(amount: int) -> str:
    return format_memory(amount // MIB)
