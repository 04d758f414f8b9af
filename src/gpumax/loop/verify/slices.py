"""Whether a device can hold a set of slices: tried out, slot by slot."""

from __future__ import annotations

from collections.abc import Mapping

from gpumax.model.node import Device
from gpumax.model.slices import PARTS, geometry, parts
from gpumax.model.workload import DeviceShare


def can_hold(device: Device, slices: Mapping[str, int]) -> bool:
    """Whether the device offers these slices and they stand beside each other somehow."""
    if any(count > device.slices.get(profile, 0) for profile, count in slices.items()):
        return False
    where = geometry(device)
    if where is None:
        return sum(count * parts(profile) for profile, count in slices.items()) <= PARTS
    # The slots that each instance may take; several of one profile are looked at one by one.
    wanted = [
        [frozenset(range(start, start + where[profile][0])) for start in where[profile][1]]
        for profile, count in sorted(slices.items())
        for _ in range(count)
    ]
    taken = {frozenset[int]()}
    for choices in wanted:
        taken = {slots | choice for slots in taken for choice in choices if slots.isdisjoint(choice)}
    return bool(taken)


def together(shares: tuple[DeviceShare, ...]) -> dict[str, int]:
    """By profile: the slices of all shares."""
    found: dict[str, int] = {}
    for share in shares:
        for profile, count in share.slices.items():
            found[profile] = found.get(profile, 0) + count
    return found


def add(held: dict[str, int], share: DeviceShare, sign: int = 1) -> dict[str, int]:
    """What a device holds with the slices of one more share, or of one less; nothing is left of none."""
    found = dict(held)
    for profile, count in share.slices.items():
        found[profile] = found.get(profile, 0) + sign * count
    return {profile: count for profile, count in found.items() if count}
