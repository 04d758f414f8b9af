"""Nodes and the devices in them."""

from __future__ import annotations

from typing import Literal

import msgspec

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Device(msgspec.Struct, frozen=True, gc=False):
    """One physical accelerator. `slices`: hardware partitions by profile; a device that has them takes slices only."""

    index: int
    model: str = ""
    memory_mib: int = 0
    healthy: bool = True
    slices: dict[str, int] = {}


class Taint(msgspec.Struct, frozen=True):
    """Keeps tasks away that do not tolerate it."""

    key: str
    value: str = ""
    effect: Effect = "NoSchedule"


class Node(msgspec.Struct, frozen=True, gc=False):
    """A machine: what may be allocated of it, and what filters look at. `tasks` None: no bound."""

    name: str
    pool: str = ""
    cpu_milli: int = 0
    memory_mib: int = 0
    tasks: int | None = None
    devices: tuple[Device, ...] = ()
    extended: dict[str, int] = {}
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    cordoned: bool = False

    @property
    def open(self) -> bool:
        """Whether new tasks may go there at all."""
        return self.ready and not self.cordoned
