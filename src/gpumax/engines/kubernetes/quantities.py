"""Amounts as the API writes them, as integers; resources by what they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Final

from gpumax.units import LARGEST, MIB, MILLI, ceil, floor, parse_quantity

GPUS: Final = (
    "nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe", "habana.ai/gaudi", "google.com/tpu",
    "aws.amazon.com/neuron", "huawei.com/Ascend910",
)  # fmt: skip
"""Whole devices, by the resource names of their vendors."""

NVIDIA: Final = GPUS[0]
_SLICE: Final = re.compile(r"nvidia\.com/mig-([1-9]g\.[0-9]+gb(?:[.+][a-z0-9.]+)*)")
_BYTES: Final = ("memory", "ephemeral-storage", "hugepages-")
_SMALL: Final = {"n": 10**9, "u": 10**6}
_KNOWN: Final = frozenset(("cpu", "memory", "pods", *GPUS))

Amount = str | int | float
Exact = dict[str, Fraction]
"""Exact amounts by the name of the resource, each within what a cluster may have."""


@lru_cache(65_536)
def quantity(written: Amount) -> Fraction:
    """The exact number that was written. ValueError where it is none, below 0, or more than any cluster has."""
    if isinstance(written, str) and written[-1:] in _SMALL:
        number = parse_quantity(written[:-1]) / _SMALL[written[-1]]
    else:
        number = parse_quantity(written)
    if not 0 <= number <= LARGEST * MIB:
        raise ValueError("an amount that no cluster has")
    return number


def exact(amounts: Mapping[str, Amount]) -> tuple[Exact, dict[str, Amount]]:
    """The amounts that are amounts, and those that are none."""
    sound: Exact = {}
    bad: dict[str, Amount] = {}
    for name, amount in amounts.items():
        try:
            sound[name] = quantity(amount)
        except ValueError:
            bad[name] = amount
    return sound, bad


def up(name: str, amount: Fraction) -> int:
    """Of what is asked for, in the unit of the resource: millicores, MiB, or a number."""
    return min(ceil(_scaled(name, amount)), LARGEST)


def down(name: str, amount: Fraction) -> int:
    """Of what there is, in the unit of the resource: millicores, MiB, or a number."""
    return min(floor(_scaled(name, amount)), LARGEST)


def _scaled(name: str, amount: Fraction) -> Fraction:
    if name == "cpu":
        return amount * MILLI
    return amount / MIB if name.startswith(_BYTES) else amount


def slices(amounts: Exact) -> dict[str, int]:
    """How many slices of each profile."""
    found = {}
    for name, amount in sorted(amounts.items()):
        if (match := _SLICE.fullmatch(name)) and (number := up(name, amount)):
            # A resource name has no plus sign; the vendor's plugin writes a dot.
            found[match[1].replace(".me", "+me")] = number
    return found


def others(amounts: Exact, scale: Callable[[str, Fraction], int]) -> dict[str, int]:
    """What is neither cpu, memory, devices, slices nor a number of pods; `scale`: up or down."""
    found = {
        name: scale(name, amount)
        for name, amount in sorted(amounts.items())
        if name not in _KNOWN and not name.startswith("attachable-volumes-") and not _SLICE.fullmatch(name)
    }
    return {name: number for name, number in found.items() if number}
