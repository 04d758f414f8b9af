"""How much of this machine may be allocated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psutil

from gpumax.engines.local import cgroups
from gpumax.model.node import Device, Node
from gpumax.units import MIB, MILLI

V1: Final = Path("/sys/fs/cgroup")
"""Where limits of version 1 are found, at the top: in a container that is its own."""


def node(name: str, devices: tuple[Device, ...]) -> Node:
    """This machine, within the limits that we were given ourselves."""
    labels = {"kubernetes.io/hostname": name}
    return Node(name, cpu_milli=cpu_milli(), memory_mib=memory_mib(), devices=devices, labels=labels)


def cpu_milli() -> int:
    """Cores that we may use, by affinity and by quota, in millicores."""
    mine = len(os.sched_getaffinity(0)) * MILLI
    return min([mine, *(milli for text in _limits("cpu.max") if (milli := _quota(text)))])


def memory_mib() -> int:
    """Memory that we may use, in MiB."""
    limits = [*_limits("memory.max"), _text(V1 / "memory" / "memory.limit_in_bytes")]
    total: int = psutil.virtual_memory().total
    return min([total, *(int(text) for text in limits if text.isdigit())]) // MIB


def _quota(text: str) -> int | None:
    """Millicores of "QUOTA PERIOD"."""
    quota, _, period = text.partition(" ")
    return int(quota) * MILLI // int(period) if quota.isdigit() and period.isdigit() else None


def _limits(name: str) -> list[str]:
    """What our cgroup and those above it say of a limit."""
    try:
        own = Path(cgroups.home())
    except OSError:
        return []
    return [text for directory in (own, *own.parents) if (text := _text(directory / name))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
