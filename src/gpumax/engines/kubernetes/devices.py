"""Which devices of a node its tasks hold, where the API doesn't say it.

The vendor's plugin picks whole devices on the node, so which of them a snapshot names is book-keeping; what matters is that each is given
out once, that tasks keep what they were given, and that parts of devices stay where they were decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final

from gpumax.model.node import Node
from gpumax.model.workload import DeviceAsk, DeviceShare, Task
from gpumax.units import MILLI, ceil

Shares = tuple[DeviceShare, ...]
NOTHING: Final[Shares] = ()


def hand_out(node: Node, tasks: Iterable[Task], given: Mapping[str, Shares]) -> dict[str, Shares]:
    """Devices for the tasks that hold room on a node, by name. given: what each had, which it keeps where that is still sound.

    Those for whom too few are left get what there is: the decision tells of it as a contradiction.
    """
    room = {device.index: MILLI for device in node.devices if not device.slices}
    cut = {device.index: dict(device.slices) for device in node.devices if device.slices}
    found: dict[str, Shares] = {}
    new: list[Task] = []
    for task in tasks:
        had = given.get(task.name, NOTHING)
        if had and _take(had, room, cut):
            found[task.name] = had
        elif task.request.gpu or task.request.slices:
            new.append(task)
    well = {device.index for device in node.devices if device.healthy}
    # Whole devices first: parts fill what is left.
    for task in sorted(new, key=lambda task: (-_most(task), task.name)):
        shares = _sliced(task, cut) if task.request.slices else _shares(task, node, room, well)
        _take(shares, room, cut)
        found[task.name] = shares
    return found


def _most(task: Task) -> int:
    return max((ask.devices * (ask.milli or MILLI) for ask in task.request.gpu), default=0)


def _take(shares: Shares, room: dict[int, int], cut: dict[int, dict[str, int]]) -> bool:
    """Take the shares out of the room; False, and nothing taken, where it isn't there."""
    for share in shares:
        if share.slices:
            own = cut.get(share.index, {})
            if any(own.get(profile, 0) < count for profile, count in share.slices.items()):
                return False
        elif room.get(share.index, 0) < share.milli:
            return False
    for share in shares:
        if share.slices:
            for profile, count in share.slices.items():
                cut[share.index][profile] -= count
        else:
            room[share.index] -= share.milli
    return True


def _shares(task: Task, node: Node, room: Mapping[int, int], well: set[int]) -> Shares:
    """Devices for what a task asks: well ones first, of parts the fullest that fits, and the lowest of these."""
    ask: DeviceAsk = task.request.gpu[0]
    memory = {device.index: device.memory_mib for device in node.devices}
    fits = []
    for index, left in room.items():
        milli = ask.milli
        if ask.memory_mib and memory[index]:
            milli = min(ceil(Fraction(ask.memory_mib * MILLI, memory[index])), MILLI)
        if left >= milli:
            fits.append((index not in well, left, index, milli))
    return tuple(sorted(DeviceShare(index, milli) for _, _, index, milli in sorted(fits)[: ask.devices]))


def _sliced(task: Task, cut: Mapping[int, Mapping[str, int]]) -> Shares:
    """Slices, device by device."""
    wanted = dict(task.request.slices)
    shares = []
    for index, own in cut.items():
        part = {profile: count for profile in wanted if (count := min(own.get(profile, 0), wanted[profile]))}
        if part:
            shares.append(DeviceShare(index, 0, part))
            for profile, count in part.items():
                wanted[profile] -= count
    return tuple(shares)
