"""What is free on every node, at one moment. Rows are nodes in name order, columns devices in the order of the node's list."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from gpumax.model.workload import DeviceAsk
from gpumax.policy.crowd import Crowd
from gpumax.policy.held import Held
from gpumax.policy.nodes import Bools, Ints, Nodes, distinct, how_many, least
from gpumax.policy.slices import Asked, Layout, State, all_fit
from gpumax.policy.ties import Ties
from gpumax.units import MILLI

NOTHING_SHARED: Final = 1 << 30
"""What `View.fullest` holds for a node without a shared device that fits; more than any device has free."""

MOST_TOUCHED: Final = 512
"""Changes that are remembered from one decision to the next; after more of them all is looked up anew."""

FEW: Final = 6
"""Rows up to which one look a row is faster than one at all of them."""

MANY: Final = 8
"""All nodes are looked at again where more than one of so many changed."""


class View(Struct, frozen=True, gc=False):
    """For one device ask, a row a node: how many devices fit, and the least that a shared one of them has free."""

    fitting: Ints
    fullest: Ints


class Room:
    """Free amounts of every node. crowd: who stands where, as far as tasks are tied to each other; None where none is."""

    def __init__(self, nodes: Nodes, ties: Ties | None = None) -> None:
        self.nodes = nodes
        self.crowd = None if ties is None else Crowd(ties)
        self.cpu, self.memory, self.tasks = nodes.cpu.copy(), nodes.memory.copy(), nodes.tasks.copy()
        self.devices: Ints = np.where(nodes.healthy, MILLI, 0).astype(np.int64)
        self.gpus: Ints = self.devices.sum(axis=1)
        self.extended = {name: amounts.copy() for name, amounts in nodes.extended.items()}
        self.slices: dict[int, tuple[State, ...]] = nodes.sliced.empty()  # of nodes with sliced devices
        self._views: dict[DeviceAsk, tuple[int, View]] = {}
        self._own: set[DeviceAsk] = set()  # views that no copy shares
        self.touched: list[int] = []  # rows whose room changed, in that order
        self.masks: dict[tuple[object, int], tuple[int, Bools]] = {}  # `Fits.fitting`, as of so many changes
        self.losses: dict[tuple[object, int], tuple[int, Ints]] = {}  # the same of `Fragments.fewest`
        self._origin: Room | None = None  # see `begin`

    def copy(self) -> Room:
        """A room of its own that starts like this one."""
        other = object.__new__(Room)
        other.nodes = self.nodes
        other.cpu, other.memory, other.tasks = self.cpu.copy(), self.memory.copy(), self.tasks.copy()
        other.devices, other.gpus = self.devices.copy(), self.gpus.copy()
        other.extended = {name: free.copy() for name, free in self.extended.items()}
        other.slices = dict(self.slices)
        other.crowd = None if self.crowd is None else self.crowd.copy()
        other._views, other.touched = dict(self._views), self.touched.copy()
        other._own, other.masks, other.losses = set(), dict(self.masks), dict(self.losses)
        other._origin = None
        self._own.clear()
        return other

    def handed(self, nodes: Nodes) -> Room:
        """The same at the beginning of another decision. Where that knows the nodes by the same object, it knows what was looked up."""
        other = self.copy()
        other.losses = {}  # they hang on what else is asked for
        if nodes is not self.nodes or len(self.touched) > MOST_TOUCHED:
            other.nodes = nodes
            other._views, other.touched, other.masks = {}, [], {}
        return other

    def begin(self) -> Room:
        """A room of its own that starts like this one. What is looked up in it before it changes is known here, too."""
        other = self.copy()
        other._origin = self
        return other

    def keep(self, key: tuple[object, int], mask: Bools) -> None:
        """Remember where there is room for an ask as things are now."""
        self.masks[key] = (len(self.touched), mask)
        if self._origin is not None and len(self._origin.touched) == len(self.touched):
            self._origin.masks[key] = self.masks[key]

    def view(self, ask: DeviceAsk) -> View:
        """Where devices fit the ask; only rows that changed since the last look are looked at again."""
        usable, need = self.nodes.usable(ask)
        known = self._views.get(ask)
        if known is None:
            view = _look(self.devices, usable, need)
        else:
            seen, view = known
            if seen == len(self.touched):
                return view
            if ask not in self._own:
                view = View(view.fitting.copy(), view.fullest.copy())
            rows = list(dict.fromkeys(self.touched[seen:]))
            if len(rows) <= FEW:
                for row in rows:
                    view.fitting[row], view.fullest[row] = _look_at(self.devices[row], usable[row], need[row])
            elif MANY * len(rows) < self.cpu.size:
                at = np.array(rows, np.int64)
                part = _look(self.devices[at], usable[at], need[at])
                view.fitting[at], view.fullest[at] = part.fitting, part.fullest
            else:
                view = _look(self.devices, usable, need)
        self._own.add(ask)
        self._views[ask] = (len(self.touched), view)
        if self._origin is not None and len(self._origin.touched) == len(self.touched):
            self._own.remove(ask)
            self._origin._views[ask] = self._views[ask]
        return view

    def take(self, held: Held, sign: int = 1) -> None:
        """Count what a task holds as taken (sign 1) or as left (sign -1)."""
        row = held.row
        self.cpu[row] -= sign * held.cpu
        self.memory[row] -= sign * held.memory
        self.tasks[row] -= sign
        for name, amount in held.extended:
            if name in self.extended:
                self.extended[name][row] -= sign * amount
        for column, milli in held.devices:
            if self.nodes.healthy[row, column]:
                self.devices[row, column] -= sign * milli
                self.gpus[row] -= sign * milli
        if held.slices:
            self.nodes.sliced.count(self.slices, row, held.slices, sign)
        if held.tied is not None and self.crowd is not None:
            self.crowd.count(held.tied, row, sign)
        self.touched.append(row)

    def layout(self, row: int, asked: Asked) -> Layout | None:
        """Where on a node slices go; None where they don't all fit."""
        states = self.slices.get(row)
        return None if states is None else self.nodes.sliced.layout(row, states, asked)

    def sound(self, row: int) -> bool:
        """Whether the slices of a node can all be there at once."""
        return all_fit(self.nodes.sliced.by_row.get(row, ()), self.slices.get(row, ()))

    def take_all(self, helds: list[Held], sign: int = 1) -> None:
        """`take` for many tasks at once."""
        self._origin = None
        rows = np.array([held.row for held in helds], np.int64)
        cpu = np.array([held.cpu for held in helds], np.int64)
        memory = np.array([held.memory for held in helds], np.int64)
        np.subtract.at(self.cpu, rows, sign * cpu)
        np.subtract.at(self.memory, rows, sign * memory)
        np.subtract.at(self.tasks, rows, sign)
        for held in helds:
            for name, amount in held.extended:
                if name in self.extended:
                    self.extended[name][held.row] -= sign * amount
            if held.slices:
                self.nodes.sliced.count(self.slices, held.row, held.slices, sign)
        if self.crowd is not None:
            self.crowd.count_all([(held.tied, held.row) for held in helds if held.tied is not None], sign)
        flat = [
            number for held in helds for column, milli in held.devices for number in (held.row, column, milli)
        ]
        device_rows, columns, millis = np.array(flat, np.int64).reshape(-1, 3).T
        self.give_devices(device_rows, columns, -sign * millis)
        if self._views or self.masks or self.losses:
            self.touched += distinct(rows)

    def give(self, rows: Ints, cpu: Ints, memory: Ints) -> None:
        """Count many tasks as left: where, and what they held besides devices and extended resources."""
        np.add.at(self.cpu, rows, cpu)
        np.add.at(self.memory, rows, memory)
        np.add.at(self.tasks, rows, 1)
        self.touched += distinct(rows)

    def give_devices(self, rows: Ints, columns: Ints, millis: Ints) -> None:
        """Count many parts of devices as left, of tasks that `give` counts."""
        millis = np.where(self.nodes.healthy[rows, columns], millis, 0)
        # A flat view: with one index it is many times faster than with two.
        np.add.at(self.devices.reshape(-1), rows * self.devices.shape[1] + columns, millis)
        np.add.at(self.gpus, rows, millis)

    def give_rest(self, held: Held) -> None:
        """Count the extended resources and the slices of a task as left."""
        for name, amount in held.extended:
            if name in self.extended:
                self.extended[name][held.row] += amount
        if held.slices:
            self.nodes.sliced.count(self.slices, held.row, held.slices, -1)

    def drain(self, row: int) -> None:
        """Count all devices of a node as taken."""
        self.devices[row] = 0
        self.gpus[row] = 0
        if row in self.slices:
            full = self.nodes.sliced.by_row[row]
            self.slices[row] = tuple([kind.caps for _, kind in full])
        self.touched.append(row)

    def capped(self, other: Room) -> Room:
        """A room that has of everything what both have."""
        found = self.copy()
        for mine, theirs in (
            (found.cpu, other.cpu), (found.memory, other.memory), (found.tasks, other.tasks),
            (found.devices, other.devices),
            *((free, other.extended[name]) for name, free in found.extended.items()),
        ):  # fmt: skip
            np.minimum(mine, theirs, out=mine)
        found.gpus = found.devices.sum(axis=1)
        for row, states in found.slices.items():
            found.slices[row] = _fuller(states, other.slices[row])
        if found.crowd is not None and other.crowd is not None:
            found.crowd.cap(other.crowd)
        found._views.clear()
        found.masks.clear()
        found.losses.clear()
        return found

    def cap(self, row: int, other: Room) -> None:
        """Let no amount of a node exceed the other room's."""
        self.cpu[row] = min(self.cpu[row], other.cpu[row])
        self.memory[row] = min(self.memory[row], other.memory[row])
        self.tasks[row] = min(self.tasks[row], other.tasks[row])
        for name, free in self.extended.items():
            free[row] = min(free[row], other.extended[name][row])
        np.minimum(self.devices[row], other.devices[row], out=self.devices[row])
        self.gpus[row] = self.devices[row].sum()
        if row in self.slices:
            self.slices[row] = _fuller(self.slices[row], other.slices[row])
        self.touched.append(row)


def _fuller(some: tuple[State, ...], others: tuple[State, ...]) -> tuple[State, ...]:
    """Of each profile of each device as many as there are in one of two states."""
    return tuple([tuple(map(max, here, there)) for here, there in zip(some, others, strict=True)])


def _look(devices: Ints, usable: Bools, need: Ints) -> View:
    fits = usable & (devices >= need)
    shared = np.where(fits & (devices < MILLI), devices, NOTHING_SHARED)
    return View(how_many(fits), least(shared))


def _look_at(devices: Ints, usable: Bools, need: Ints) -> tuple[int, int]:
    """`_look` at one node; in plain integers, which is faster for the few devices of one."""
    fitting, fullest = 0, NOTHING_SHARED
    for free, can, wanted in zip(devices.tolist(), usable.tolist(), need.tolist(), strict=True):
        if can and free >= wanted:
            fitting += 1
            if free < MILLI and free < fullest:
                fullest = free
    return fitting, fullest
