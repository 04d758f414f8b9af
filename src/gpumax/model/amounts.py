"""What queues are measured in."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gpumax.units import UNLIMITED

Resource = Literal["gpu", "cpu", "memory"]
RESOURCES: Final[tuple[Resource, ...]] = ("gpu", "cpu", "memory")
"""The resources that quotas know, in the order of every vector: milli-devices, millicores, MiB."""


class Amounts(msgspec.Struct, frozen=True):
    """One amount a resource: milli-devices, millicores, MiB."""

    gpu: int = 0
    cpu: int = 0
    memory: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.gpu + other.gpu, self.cpu + other.cpu, self.memory + other.memory)

    def vector(self) -> tuple[int, int, int]:
        """The amounts in the order of RESOURCES."""
        return (self.gpu, self.cpu, self.memory)


NONE: Final = Amounts()
BOUNDLESS: Final = Amounts(UNLIMITED, UNLIMITED, UNLIMITED)
