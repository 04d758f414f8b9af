"""Which of the nodes that fit: wishes one after the other, each breaking the ties of the one before."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from gpumax.model.snapshot import Snapshot
from gpumax.policy.ask import Ask
from gpumax.policy.census import Census
from gpumax.policy.dense import Dense
from gpumax.policy.fit import SOFT_TAINT, Fits
from gpumax.policy.fragments import Fragments
from gpumax.policy.free import Room
from gpumax.policy.nodes import Bools, Ints
from gpumax.units import MILLI

Floats = npt.NDArray[np.float64]

MOST_DRAWN: Final = SOFT_TAINT // 4
"""How much other tasks may count for a node."""

NOWHERE: Final = np.iinfo(np.int64).max
"""In place of what is free on a node: the task doesn't fit there."""


class Scores:
    """The order of nodes under the placement strategies of their pools."""

    def __init__(self, fits: Fits, snapshot: Snapshot, census: Census) -> None:
        self._fits = fits
        self._fragments = Fragments(census, fits.nodes)
        nodes, policy = fits.nodes.nodes, snapshot.policy
        placements = [policy.placement] * len(nodes)
        if policy.pools:
            placements = [policy.pools.get(node.pool, policy.placement) for node in nodes]
        self._spreads_gpu: Bools = np.array([placement.gpu == "spread" for placement in placements], np.bool_)
        self._spreads_cpu: Bools = np.array([placement.cpu == "spread" for placement in placements], np.bool_)
        self.spread: Bools = self._spreads_gpu | self._spreads_cpu
        self.dense: Dense | None = None
        if any("dense" in (each.gpu, each.cpu) for each in (policy.placement, *policy.pools.values())):
            self.dense = Dense(snapshot, fits.nodes)
            self._dense_gpu: Bools = np.array([each.gpu == "dense" for each in placements], np.bool_)
            self._dense_cpu: Bools = np.array([each.cpu == "dense" for each in placements], np.bool_)
        self._packs = not (self._spreads_gpu.any() or self._spreads_cpu.any())
        gpus = fits.nodes.has_gpus
        self._mixed = bool(gpus.any() and not gpus.all())  # nodes with GPUs and nodes without

    def best(self, room: Room, ask: Ask, choice: int, fitting: Bools) -> int | None:
        """The row of the best node among the fitting ones; None where there is none."""
        likes = self._likes(room, ask)
        if likes is None and self._packs and not (self.dense or self._mixed or ask.slices or ask.gpu[choice]):
            # Work without GPUs fits on most nodes: all of them are compared at once.
            keys = np.where(fitting, room.cpu, NOWHERE)
            least = keys[keys.argmin()] if keys.size else NOWHERE
            return None if least == NOWHERE else self._among(room, ask, choice, (keys == least).nonzero()[0])
        rows = fitting.nonzero()[0]
        if rows.size == 0:
            return None
        if likes is not None:
            rows = _least(rows, -likes[rows])
        gpu = ask.gpu[choice]
        if ask.slices:
            # Slices go where they leave the most, as parts go to the fullest device.
            layouts = [room.layout(row, ask.slices) for row in rows.tolist()]
            lost = np.array([0 if found is None else found.lost for found in layouts], np.int64)
            rows = _least(rows, lost)
            free, total, spreads = self._slices_left(room, rows)
            return int(rows[_keys(free, total, spreads).argmin()])
        if gpu is None and self._mixed:
            # Devices stay free for those who need them.
            rows = _least(rows, self._fits.nodes.has_gpus[rows].astype(np.int64))
        if self.dense is not None and (self._dense_cpu if gpu is None else self._dense_gpu)[rows].all():
            return self.dense.best(room, ask, gpu, rows)
        if gpu is None:
            free, total, spreads = room.cpu, self._fits.nodes.cpu, self._spreads_cpu
        else:
            if gpu.memory_mib or gpu.milli < MILLI:
                rows = _least(rows, room.view(gpu).fullest.take(rows))
            free, total, spreads = room.gpus, self._fits.nodes.gpus, self._spreads_gpu
        keys = free.take(rows) if self._packs else _keys(free[rows], total[rows], spreads[rows])
        return self._among(room, ask, choice, _least(rows, keys))

    def _among(self, room: Room, ask: Ask, choice: int, equal: Ints) -> int:
        """Of nodes that are equal by all wishes."""
        if equal.size == 1:
            return int(equal[0])
        return self._fragments.fewest(room, ask, choice, equal)

    def _likes(self, room: Room, ask: Ask) -> Ints | None:
        """How much the soft wishes of a task like each node; other tasks never outweigh a taint."""
        likes, tied = self._fits.wishes(ask.filter), ask.filter.tied
        drawn = None if tied is None or room.crowd is None else room.crowd.likes(tied)
        if drawn is None:
            return likes
        drawn = np.minimum(np.maximum(drawn, -MOST_DRAWN), MOST_DRAWN)
        return drawn if likes is None else likes + drawn

    def _slices_left(self, room: Room, rows: Ints) -> tuple[Ints, Ints, Bools]:
        """What sliced devices can still take, and could if nothing ran, on these nodes."""
        sliced = self._fits.nodes.sliced
        empty = sliced.empty()
        free = np.array([sliced.worth(row, room.slices[row]) for row in rows.tolist()], np.int64)
        total = np.array([sliced.worth(row, empty[row]) for row in rows.tolist()], np.int64)
        return free, total, self._spreads_gpu[rows]


def _least(rows: Ints, keys: Ints | Floats) -> Ints:
    """The rows with the lowest key. `take`, `compress` and `argmin` cost half of what is written with brackets and `min`."""
    return rows.compress(keys == keys[keys.argmin()])


def _keys(free: Ints, total: Ints, spreads: Bools) -> Ints | Floats:
    """Pack takes the node with the least free, spread the one with the largest part free: the lowest comes first."""
    if not spreads.any():
        return free
    parts: Floats = free / np.maximum(total, 1)
    # Pools that differ: a packed node comes first where it is in use, else the emptiest spread node.
    return np.where(spreads, 1.0 - parts, parts)


def pick_devices(
    room: Room, now: Room, ask: Ask, choice: int, row: int, *, loose: bool = False
) -> tuple[tuple[int, int], ...]:
    """The devices of a node that a task takes, as (column, milli): the fullest that fit, lowest index first.

    loose: the emptiest first. Devices that are free now come before devices that others have yet to leave.
    """
    gpu = ask.gpu[choice]
    if gpu is None:
        return ()
    usable, need = room.nodes.usable(gpu)
    needed, free, can = need[row].tolist(), room.devices[row].tolist(), usable[row].tolist()
    columns = [column for column, fits in enumerate(can) if fits and free[column] >= needed[column]]
    index = room.nodes.index[row].tolist()
    if loose:
        free = [-left for left in free]
    if room is now:
        columns.sort(key=lambda column: (free[column], index[column]))
    else:
        free_now = now.devices[row].tolist()
        columns.sort(key=lambda column: (free_now[column] < needed[column], free[column], index[column]))
    return tuple([(column, needed[column]) for column in columns[: gpu.devices]])
