"""What tasks ask for of a node's devices, as groups of a broker."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gpumax.broker.control import Group
from gpumax.devices.uuids import Sharable
from gpumax.ports.engine import Launch, Part
from gpumax.units import MIB, MILLI

LONGEST: Final = 24
"""Characters of a workload's name in that of a group: a socket's path is short."""


def groups(
    launches: Sequence[Launch], devices: Mapping[int, Sharable]
) -> list[tuple[Group, tuple[Launch, ...]]]:
    """Groups for tasks that start at one moment, and who is in which.

    Tasks of one workload are one group, so that they have their turns together. Where they don't ask for the same of each device each is
    a group of its own: a group has one share. So is a task that starts later: those that run were told the limit that they share when they began.
    """
    found = []
    by_workload: dict[str, list[Launch]] = defaultdict(list)
    for launch in launches:
        by_workload[launch.workload].append(launch)
    for together in by_workload.values():
        sums = _sums(together, devices)
        if len(set(sums.values())) == 1 and len({_kind(each) for each in together}) == 1:
            found.append((_group(together, sums, devices), tuple(together)))
        else:
            found += [(_group([each], _sums([each], devices), devices), (each,)) for each in together]
    return found


def _sums(launches: Iterable[Launch], devices: Mapping[int, Sharable]) -> dict[int, tuple[int, int, int]]:
    """By device: thousandths of its time, bytes that are guaranteed, and up to which these may grow."""
    sums: dict[int, tuple[int, int, int]] = {}
    for launch in launches:
        for share in launch.devices:
            guaranteed, limit = _memory(share.milli, launch.gpu or Part(), devices[share.index])
            before = sums.get(share.index, (0, 0, 0))
            sums[share.index] = (before[0] + share.milli, before[1] + guaranteed, before[2] + limit)
    most = {index: devices[index].bytes for index in sums}
    return {
        i: (min(milli, MILLI), min(g, most[i]), min(limit, most[i])) for i, (milli, g, limit) in sums.items()
    }


def _memory(milli: int, part: Part, device: Sharable) -> tuple[int, int]:
    """Guaranteed bytes and the limit. What the driver takes of a device is taken of all parts alike."""
    guaranteed = (
        part.memory_mib * MIB * device.bytes // device.whole
        if part.memory_mib
        else device.bytes * milli // MILLI
    )
    if part.limit is None:
        return guaranteed, guaranteed
    grown = max(device.bytes * part.limit.milli // MILLI, part.limit.memory_mib * MIB)
    return guaranteed, max(guaranteed, grown)


def _group(
    launches: Sequence[Launch], sums: Mapping[int, tuple[int, int, int]], devices: Mapping[int, Sharable]
) -> Group:
    milli, guaranteed, limit = (min(each) for each in zip(*sums.values(), strict=True))
    swap, strict = _kind(launches[0])
    uuids = tuple(devices[index].uuid for index in sorted(sums))
    return Group(
        _name(launches), uuids, guaranteed, limit, milli / MILLI, "strict" if strict else "fair", swap=swap
    )


def _kind(launch: Launch) -> tuple[bool, bool]:
    part = launch.gpu or Part()
    return part.swap, part.strict


def _name(launches: Sequence[Launch]) -> str:
    """Short, of its workload's name, and no other's."""
    first = launches[0]
    called = re.sub(r"[^A-Za-z0-9_.-]", "-", first.env.get("GPUMAX_WORKLOAD", "") or first.workload)[:LONGEST]
    attempts = ",".join(sorted(each.attempt for each in launches))
    return f"{called.lstrip('_.-') or 'work'}-{hashlib.sha256(attempts.encode()).hexdigest()[:8]}"
