"""What a chunk lacks: measured on a ledger of its own, exact to the thousandth of a GPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from gpumax.model.workload import DeviceAsk
from gpumax.policy.ask import Ask, size
from gpumax.policy.free import Room
from gpumax.policy.gang import Want
from gpumax.policy.held import Held
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools, Ints, Nodes
from gpumax.policy.place import Placer
from gpumax.policy.slices import lacking
from gpumax.policy.world import World
from gpumax.units import MILLI


class Lack(NamedTuple):
    """What a chunk lacks. matches: each task fits some node that is empty; possible: all fit together if all nodes are.

    fitting: how many tasks fit now; left: one that doesn't; nodes: why nodes can't take it; short: what all that don't
    fit lack; spread: the same, by row of the node that was counted on, nearest first.
    """

    matches: bool
    possible: bool
    fitting: int
    nodes: dict[str, int]
    short: dict[str, int]
    left: list[Want]
    spread: dict[int, dict[str, int]]


class Lacks:
    """Equal chunks lack the same; each is looked at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[tuple[Ask, ...], Lack] = {}
        self._empty: Ledger | None = None

    def of(self, chunk: list[Want]) -> Lack:
        """What the chunk lacks, wherever its tasks wish to stand, and whoever else is there."""
        asks = tuple([want.ask.plain for want in chunk])
        known = self._known.get(asks)
        if known is None:
            plain = [replace(want, scope=None, ask=want.ask.plain) for want in chunk]
            known = self._known[asks] = self._measure(plain)
        return known

    def _measure(self, chunk: list[Want]) -> Lack:
        """Place what fits, and measure what the others lack."""
        if self._empty is None:
            self._empty = Ledger(self.world.nodes)
        fits = self.world.fits
        asks = {want.ask: want for want in chunk}
        unmatched = [
            want
            for ask, want in asks.items()
            if not any(fits.possible(ask, at).any() for at in range(len(ask.gpu)))
        ]
        possible = not unmatched and (
            len(chunk) == 1 or Placer(fits, self.world.scores).place(self._empty.copy(), chunk) is not None
        )
        if unmatched:
            ledger, left, fitting = self._empty, unmatched[:1], 0
        elif len(chunk) == 1:
            ledger, left, fitting = self.world.ledger, chunk, 0
        else:
            ledger = (self.world.ledger if possible else self._empty).copy()
            left = self._left(ledger, chunk)
            fitting = len(chunk) - len(left)
        nodes = fits.reasons(ledger.later, (left or chunk)[0].ask)
        short, spread = shortfall(self.world, ledger.later, left)
        return Lack(not unmatched, possible, fitting, nodes, short, left[:1], spread)

    def _left(self, ledger: Ledger, chunk: list[Want]) -> list[Want]:
        """The wants for which the ledger has no spot when all others took theirs; they stay on it."""
        placer, left = Placer(self.world.fits, self.world.scores), []
        hopeless: set[Ask] = set()
        for want in sorted(chunk, key=lambda want: size(want.ask, 0), reverse=True):
            choices = tuple(range(len(want.ask.gpu)))
            if want.ask in hopeless or placer.spot(ledger, want, choices) is None:
                hopeless.add(want.ask)
                left.append(want)
        return left


def shortfall(
    world: World, room: Room, left: list[Want], within: Bools | None = None
) -> tuple[dict[str, int], dict[int, dict[str, int]]]:
    """What all of these lack, each on the node that lacks least for it when the others took theirs; in all, and by node.

    within: on these nodes only.
    """
    short: dict[str, int] = {}
    spread: dict[int, dict[str, int]] = {}
    if len(left) > 1:
        room = room.copy()
    # Where the nodes are used up, every further task of an ask lacks all of it.
    drained: dict[Ask, dict[str, int]] = {}
    for want in left:
        lacks = drained.get(want.ask)
        if lacks is None:
            row, lacks = _nearest(world, room, want.ask, within)
            if row is not None:
                _add(spread.setdefault(row, {}), lacks)
                if len(left) > 1:
                    _drain(room, row, want.ask)
                if lacks.get("gpu", 0) >= want.amounts[0] > 0 or row is None:
                    drained[want.ask] = lacks
        _add(short, lacks)
    return short, spread


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for resource, amount in more.items():
        sums[resource] = sums.get(resource, 0) + amount


def _nearest(world: World, room: Room, ask: Ask, within: Bools | None) -> tuple[int | None, dict[str, int]]:
    """The row of the matching node that lacks least, and what it lacks; of its alternatives the one that lacks least."""
    open_rows = [row for row, why in enumerate(world.fits.refusals(ask.filter)) if why is None]
    rows = np.array([row for row in open_rows if within is None or within[row]], np.int64)
    if rows.size == 0:
        return None, {}
    lacks = {"gpu": np.min([_gpu_lack(world.nodes, room, gpu, rows) for gpu in ask.gpu], axis=0)}
    lacks["cpu"] = np.maximum(ask.cpu - room.cpu[rows], 0)
    lacks["memory"] = np.maximum(ask.memory - room.memory[rows], 0)
    for name, amount in ask.extended:
        free = room.extended[name][rows] if name in room.extended else np.zeros(rows.size, np.int64)
        lacks[name] = np.maximum(amount - free, 0)
    if ask.slices:
        lacks.update(_slices_lack(world.nodes, room, ask, rows))
    lacks["tasks"] = np.maximum(1 - room.tasks[rows], 0)
    best = int(np.lexsort(list(reversed(lacks.values())))[0])
    return int(rows[best]), {resource: int(lack[best]) for resource, lack in lacks.items() if lack[best] > 0}


def _slices_lack(nodes: Nodes, room: Room, ask: Ask, rows: Ints) -> dict[str, Ints]:
    """By profile: how many slices find no place on each node."""
    short = [
        lacking(nodes.sliced.by_row.get(row, ()), room.slices.get(row, ()), ask.slices)
        for row in rows.tolist()
    ]
    return {
        profile: np.array([lack.get(profile, 0) for lack in short], np.int64) for profile, _ in ask.slices
    }


def _drain(room: Room, row: int, ask: Ask) -> None:
    """Take what a node has for an ask that doesn't fit there, so that the next one lacks more."""
    room.take(Held("", row, 0, ask.cpu, ask.memory, ask.extended, ()))
    room.drain(row)


def _gpu_lack(nodes: Nodes, room: Room, gpu: DeviceAsk | None, rows: Ints) -> Ints:
    """Milli-devices that each node lacks: whole devices by count; parts by what the best devices have left."""
    if gpu is None:
        return np.zeros(rows.size, np.int64)
    usable, need = nodes.usable(gpu)
    lack = np.maximum(need[rows] - np.where(usable[rows], room.devices[rows], 0), 0)
    if not gpu.memory_mib and gpu.milli == MILLI:
        lack = np.where(lack > 0, MILLI, 0)
    lack = np.sort(lack, axis=1)[:, : gpu.devices]
    missing = gpu.devices - lack.shape[1]
    whole: Ints = lack.sum(axis=1) + max(missing, 0) * (gpu.milli if not gpu.memory_mib else MILLI)
    return whole
