"""What a task holds of its node."""

from __future__ import annotations

from itertools import chain

from msgspec import Struct

from gpumax.policy.ties import Tied


class Held(Struct, frozen=True, gc=False):
    """What one task holds of a node. devices: (column, milli) pairs; gpu: their milli-devices together.

    slices: of sliced devices, (column, profile, count); what they cost stands in `devices`, too. tied: to other tasks.
    """

    task: str
    row: int
    gpu: int
    cpu: int
    memory: int
    extended: tuple[tuple[str, int], ...]
    devices: tuple[tuple[int, int], ...]
    slices: tuple[tuple[int, str, int], ...] = ()
    tied: Tied | None = None

    @property
    def amounts(self) -> tuple[int, int, int]:
        """What it counts in its queue: milli-devices, millicores, MiB."""
        return (self.gpu, self.cpu, self.memory)

    def sized(self, other: Held) -> tuple[int, ...]:
        """Cores, memory, its slot, and what it holds of each extended resource that `other` holds."""
        return (self.cpu, self.memory, 1, *(dict(self.extended).get(name, 0) for name, _ in other.extended))


def summed(helds: list[Held]) -> tuple[int, int, int]:
    """What tasks count together."""
    if len(helds) == 1:
        (held,) = helds
        return (held.gpu, held.cpu, held.memory)
    return (
        sum([held.gpu for held in helds]),
        sum([held.cpu for held in helds]),
        sum([held.memory for held in helds]),
    )


def together(helds: list[Held]) -> Held:
    """Tasks of one node as if they were one."""
    extended: dict[str, int] = {}
    devices: dict[int, int] = {}
    for held in helds:
        for name, amount in held.extended:
            extended[name] = extended.get(name, 0) + amount
        for column, milli in held.devices:
            devices[column] = devices.get(column, 0) + milli
    gpu, cpu, memory = summed(helds)
    slices = tuple(chain.from_iterable(held.slices for held in helds))
    return Held("", helds[0].row, gpu, cpu, memory, tuple(extended.items()), tuple(devices.items()), slices)
