"""Hardware slices (MIG): what one costs, and where on a device the driver can put it.

A device is cut along its memory: eight slots (four on a 24 GB A30 and on an RTX PRO 6000), of which an instance takes
some in a row, from one of a few starts; `nvidia-smi mig -lgipp` lists them: 3g.20gb of an A100-40GB takes four slots
from 0 or 4, 4g.20gb four from 0, 2g.10gb two from 0, 2 or 4.

Profiles, sizes and counts of A30 and A100 are those of NVIDIA's MIG user guide, "Supported MIG Profiles". The starts, and
the rows from H100 on, were not checked against a source or a device: they carry the A100's geometry over.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from gpumax.model.node import Device
from gpumax.units import MILLI

PARTS: Final = 7
"""Compute parts of a device, in which slices are counted."""

Placement = tuple[int, tuple[int, ...]]
"""How many slots in a row, and where they may start."""
Geometry = dict[str, Placement]
"""By profile."""

_SEVEN: Final[tuple[tuple[int, Placement], ...]] = (
    (1, (1, (0, 1, 2, 3, 4, 5, 6))),
    (1, (2, (0, 2, 4, 6))),
    (2, (2, (0, 2, 4))),
    (3, (4, (0, 4))),
    (4, (4, (0,))),
    (7, (8, (0,))),
)  # compute parts, and their placement; the second is one part with the memory of two slots
_FOUR: Final[tuple[tuple[int, Placement], ...]] = ((1, (1, (0, 1, 2, 3))), (2, (2, (0, 2))), (4, (4, (0,))))

_MODELS: Final[tuple[tuple[str, int, tuple[int, ...]], ...]] = (
    ("A30", 24, (6, 12, 24)),
    ("A100", 40, (5, 10, 10, 20, 20, 40)),
    ("A100", 80, (10, 20, 20, 40, 40, 80)),
    ("A800", 40, (5, 10, 10, 20, 20, 40)),
    ("A800", 80, (10, 20, 20, 40, 40, 80)),
    ("H100", 80, (10, 20, 20, 40, 40, 80)),
    ("H100", 94, (12, 24, 24, 47, 47, 94)),
    ("H100", 96, (12, 24, 24, 48, 48, 96)),
    ("H800", 80, (10, 20, 20, 40, 40, 80)),
    ("H20", 96, (12, 24, 24, 48, 48, 96)),
    ("GH200", 96, (12, 24, 24, 48, 48, 96)),
    ("GH200", 144, (18, 36, 36, 72, 72, 144)),
    ("H200", 141, (18, 35, 35, 71, 71, 141)),
    ("B200", 180, (23, 45, 45, 90, 90, 180)),
    ("GB200", 186, (23, 47, 47, 93, 93, 186)),
    ("GB200", 189, (24, 47, 47, 95, 95, 189)),
    ("RTX PRO 6000", 96, (24, 48, 96)),
)  # a model, its memory in GB, and the GB in the names of its profiles, in the order of placements
_NEAR: Final = 0.15
"""By what part a device's memory may differ from its model's: drivers report a little less than is sold."""


@cache
def parts(profile: str) -> int:
    """The compute parts of a profile: 3 of 3g.40gb; all of one that can't be read."""
    count = profile.partition("g")[0]
    return int(count) if count.isdecimal() else PARTS


def milli(profile: str) -> int:
    """What a slice costs of quota, limit and share: its sevenths of a device, rounded up."""
    return -(-MILLI * parts(profile) // PARTS)


def milli_of(slices: dict[str, int]) -> int:
    """What slices cost together."""
    return sum([count * milli(profile) for profile, count in slices.items()])


def geometry(device: Device) -> Geometry | None:
    """Where the device's profiles may stand; None for a model that isn't known, or that is offered others than it has."""
    wanted = [profile.partition("+")[0] for profile in device.slices]
    name = " ".join(re.split(r"[^A-Z0-9]+", device.model.upper()))
    found = [
        (abs(memory * 1024 - device.memory_mib) if device.memory_mib else 0, number)
        for number, (model, memory, _) in enumerate(_MODELS)
        if f" {model} " in f" {name} "
        and (not device.memory_mib or abs(memory * 1024 - device.memory_mib) <= _NEAR * memory * 1024)
        and all(profile in _profiles(number) for profile in wanted)
    ]
    if not found:
        return None
    known = _profiles(min(found)[1])
    return {profile: known[profile.partition("+")[0]] for profile in device.slices}


@cache
def _profiles(number: int) -> Geometry:
    names = _MODELS[number][2]
    placements = _SEVEN if len(names) == len(_SEVEN) else _FOUR
    return {f"{part}g.{gb}gb": placement for (part, placement), gb in zip(placements, names, strict=True)}
