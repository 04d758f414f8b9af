"""What is asked for and what there is, by resource, in whole numbers: milli-devices, millicores, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

GPU = "nvidia.com/gpu"
MEMORY_OF_DEVICE = "nvidia.com/gpu.memory"
KINDS = {GPU: "gpu", "gpu": "gpu", "cpu": "cpu", "memory": "memory"}
Amounts = Mapping[str, int]
_POWERS = {"m": Fraction(1, 1000), "k": Fraction(1000), "M": Fraction(1000**2), "G": Fraction(1000**3)} | {
    f"{letter}i": Fraction(1024 ** (1 + power)) for power, letter in enumerate("KMGT")
}


def amounts(written: Mapping[str, Any] | None) -> dict[str, int]:
    """Those of the kinds that are checked; what is unlimited is left out."""
    return {
        KINDS[name]: ceil(number(str(amount)) * (1 if KINDS[name] == "memory" else 1000))
        for name, amount in (written or {}).items()
        if name in KINDS and amount not in (None, "unlimited")
    }


def number(written: str) -> Fraction:
    """A quantity as the API writes it."""
    unit = next((unit for unit in sorted(_POWERS, key=len, reverse=True) if written.endswith(unit)), "")
    return Fraction(written.removesuffix(unit)) * _POWERS.get(unit, Fraction(1))


class Asked(NamedTuple):
    """What a pod asks for. sums: without devices. part: of each of `devices`, in thousandths; memory_mib: of each, instead of the part."""

    sums: Amounts
    devices: int = 0
    part: int = 0
    memory_mib: int = 0

    def part_of(self, device_mib: int) -> int:
        """In thousandths of a device with this memory."""
        if self.memory_mib and device_mib:
            return min(ceil(Fraction(self.memory_mib * 1000, device_mib)), 1000)
        return self.part

    def all(self, device_mib: int) -> Counter[str]:
        """All that it asks for where devices have this memory."""
        return Counter(self.sums) + Counter({"gpu": self.devices * self.part_of(device_mib)})


def asked_by(pod: Mapping[str, Any]) -> Asked:
    """Of a sound pod whose init containers ask for no more than the others."""
    total: Counter[str] = Counter()
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        total.update(amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})}))
    if whole := total.pop("gpu", 0) // 1000:
        return Asked(total, whole, 1000)
    said = pod["metadata"].get("annotations") or {}
    devices = int(_first(said, "gpu-devices", "gpu-fraction-num-devices") or 1)
    part, memory = _first(said, "gpu-fraction"), _first(said, "gpu-memory")
    try:
        milli = ceil(Fraction(part) * 1000) if part else 0
        mib = int(memory) if memory.isdigit() else ceil(number(memory) / 1024**2) if memory else 0
    except ValueError:
        return Asked(total)  # it can't be read, so it can't have been bound either
    # Of a device whose memory isn't known a part by memory counts as all of it.
    return Asked(total, devices, milli or 1000, mib) if milli or mib else Asked(total)


def _first(said: Mapping[str, str], *names: str) -> str:
    return next((said[key] for name in names for key in (f"gpumax.dev/{name}", name) if key in said), "")


def fits(devices: int, device_mib: int, asks: Iterable[Asked]) -> bool:
    """Whether there is any way to give each its devices: no two of one pod are the same, and none is given out twice."""
    rows = sorted(((ask.part_of(device_mib), ask.devices) for ask in asks if ask.devices), reverse=True)
    return _fits((1000,) * devices, tuple(rows))


@lru_cache(1 << 16)
def _fits(left: tuple[int, ...], rows: tuple[tuple[int, int], ...]) -> bool:
    if not rows:
        return True
    part, count = rows[0]
    if sum(left) < sum(part * count for part, count in rows) or sum(room >= part for room in left) < count:
        return False
    if part == 1000:
        whole = sum(number == 1000 for number in left)
        taken = [*[0] * count, *[1000] * (whole - count), *[room for room in left if room != 1000]]
        return _fits(tuple(sorted(taken)), rows[1:])
    return any(_fits(after, rows[1:]) for after in _ways(left, part, count))


def _ways(left: tuple[int, ...], part: int, count: int) -> set[tuple[int, ...]]:
    """What may be left when so many different devices each give the part."""
    ways: set[tuple[tuple[int, ...], tuple[int, ...]]] = {(left, ())}
    for _ in range(count):
        ways = {
            ((*rest[:index], *rest[index + 1 :]), (*given, rest[index] - part))
            for rest, given in ways
            for index in range(len(rest))
            if rest[index] >= part and (index == 0 or rest[index] != rest[index - 1])
        }
    return {tuple(sorted((*rest, *given))) for rest, given in ways}
