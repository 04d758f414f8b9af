"""At least how bad room on a node would be, for all nodes at once: what the search for the best of them starts from."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from gpumax.policy.ask import Ask
from gpumax.policy.free import Room
from gpumax.policy.nodes import Bools, Ints, least
from gpumax.policy.pool import Floats, Pool
from gpumax.policy.rights import Rights
from gpumax.policy.victims import Cost, Tally
from gpumax.units import MILLI

NEVER: Final = np.inf
SUMS: Final = (2, 3, 4)
"""The numbers of a Cost that add up over the parts that go; of the others the worst part counts."""
MIXED: Final = -1
"""In place of a queue: whoever gives, also several together."""
TOGETHER: Final = (-np.inf, 0.0, 0.0, 0.0, -np.inf)
"""The numbers of a Cost but its first, where nothing is known of them but that several queues give together."""

Heaps = dict[int, list[tuple[Cost, int]]]
"""By the queue that alone gives, or MIXED: costs, with what it gives in place of how high it ends; and the node's turn."""


class Bounds(NamedTuple):
    """Rows of nodes: the queue that gives there alone, or MIXED for whoever gives; at least how much; and of each number of a Cost."""

    rows: Ints
    owner: Ints
    given: Floats
    cost: list[Floats]

    def only(self, mask: Bools) -> Bounds:
        """Some of the rows."""
        return Bounds(self.rows[mask], self.owner[mask], self.given[mask], [each[mask] for each in self.cost])

    def beside(self, other: Bounds) -> Bounds:
        """The rows of both."""
        cost = [np.concatenate(pair) for pair in zip(self.cost, other.cost, strict=True)]
        rows, owner, given = (np.concatenate(pair) for pair in zip(self[:3], other[:3], strict=True))
        return Bounds(rows, owner, given, cost)

    def heaps(self, turn: Ints) -> Heaps:
        """The nodes, by their turns, as unordered heaps; those that can't help are left out."""
        columns = [np.where(self.owner == MIXED, self.cost[0], self.given), *self.cost[1:]]
        fine = np.all([column < NEVER for column in columns], axis=0)
        numbers = zip(*(column[fine].tolist() for column in columns), strict=True)
        heaps: Heaps = {}
        turns = turn[self.rows[fine]].tolist()
        for queue, key, at in zip(self.owner[fine].tolist(), numbers, turns, strict=True):
            heaps.setdefault(queue, []).append((key, at))
        return heaps


def bounds(pool: Pool, mask: Bools, rights: Rights, room: Room, ask: Ask, choice: int, rows: Ints) -> Bounds:
    """For each of these nodes, bounds below what any room for the ask there costs, by what the world is like now.

    mask: the parts that may go. room: as it will be.
    """
    size = len(rows)
    place = np.full(len(room.cpu), -1, np.int64)
    place[rows] = np.arange(size)
    rank, row = pool.holds[0], place[pool.holds[1]]
    here = mask[rank] & (row >= 0)
    rank, row = rank[here], row[here]
    prices = (pool.ends(rights, Tally()), *pool.prices)
    lowest = [_lowest(size, row, price[rank]) for price in prices]
    gpu = ask.gpu[choice]
    if gpu is None:
        return Bounds(rows, np.full(size, MIXED, np.int64), lowest[0], lowest)
    usable, need = room.nodes.usable(gpu)
    whole = not gpu.memory_mib and gpu.milli == MILLI
    lack = gpu.devices - room.view(gpu).fitting[rows]
    short = _Short(lack, usable[rows], need[rows], room.devices[rows], whole)
    here = mask[pool.devices[0]] & (place[pool.devices[1]] >= 0)
    devices = pool.devices[:, here]
    devices[1] = place[devices[1]]
    given, found = short.opened(devices, prices)
    cost = [np.where(lack > 0, value, base) for value, base in zip(found, lowest, strict=True)]
    together = Bounds(rows, np.full(size, MIXED, np.int64), given, cost)
    if not rights.weighs or rights.resources[0] != 0:
        return together
    return _by_owner(pool, together, short, devices, prices)


def _by_owner(
    pool: Pool, together: Bounds, short: _Short, devices: Ints, prices: tuple[Floats, ...]
) -> Bounds:
    """The same where devices are lacking, with a row for each queue that could open enough of them alone."""
    size, queues = len(together.rows), len(pool.accounts)
    pairs, pair = np.unique(devices[1] * queues + pool.account[devices[0]], return_inverse=True)
    at, owner = np.divmod(pairs, queues)
    ends = _lowest(len(pairs), pair, prices[0][devices[0]])
    devices = devices.copy()
    devices[1] = pair
    given, cost = short.rows(at).opened(devices, prices)
    lacking = short.lack > 0
    # Where several give, the one that ends lower does not end higher than the second that could end highest.
    second = np.maximum(_second(size, at, ends), together.cost[0])
    rest = [
        np.where(lacking & np.isfinite(known), nothing, known)
        for nothing, known in zip(TOGETHER, together.cost[1:], strict=True)
    ]
    mixed = together._replace(cost=[np.where(lacking, second, together.cost[0]), *rest])
    alone = Bounds(together.rows[at], owner, given, cost)
    return mixed.beside(alone.only(lacking[at]))


class _Short(NamedTuple):
    """Nodes on which so many devices are lacking for an ask: a row a node. free: what a device has; whole: all of it is asked."""

    lack: Ints
    usable: Bools
    need: Ints
    free: Ints
    whole: bool

    def rows(self, rows: Ints) -> _Short:
        """These rows, each as often as it is named."""
        return _Short(self.lack[rows], self.usable[rows], self.need[rows], self.free[rows], self.whole)

    def opened(self, devices: Ints, prices: tuple[Floats, ...]) -> tuple[Floats, list[Floats]]:
        """The least that parts give where enough devices open, and at least how bad that is.

        devices: a column for each device of a part: its rank, the row, the device, milli, and how many devices the part has.
        """
        rank, row, column, milli, beside = devices
        shape = self.usable.shape
        cell = row * shape[1] + column
        # A part is met once a device; where it holds more than are lacking, no more often than that.
        beside = np.minimum(beside, np.maximum(self.lack[row], 1))
        amounts = milli.astype(np.float64)
        gives = _total(shape, cell, amounts)
        opens = self.usable & (self.free < self.need) & (self.free + gives >= self.need)
        columns = []
        for number, price in enumerate(prices):
            if number not in SUMS:
                columns.append(_spread(shape, cell, price[rank], largest=self.whole))
            elif self.whole:
                columns.append(_total(shape, cell, price[rank] / beside))
            else:
                columns.append(_spread(shape, cell, price[rank] / beside, largest=False))
        found = [
            _nth(np.where(opens, value, NEVER), self.lack, together=number in SUMS)
            for number, value in enumerate(columns)
        ]
        amount = gives if self.whole else _spread(shape, cell, amounts, largest=False)
        return _nth(np.where(opens, amount, NEVER), self.lack, together=True), found


def _second(size: int, at: Ints, values: Floats) -> Floats:
    """The second smallest of the values at each of so many places; NEVER where there is one at most. at: in order."""
    order = np.lexsort((values, at))
    later = np.flatnonzero(at[1:] == at[:-1]) + 1
    first_later = later[np.concatenate(([True], at[later][1:] != at[later][:-1]))] if later.size else later
    second = np.full(size, NEVER)
    second[at[first_later]] = values[order][first_later]
    return second


def _lowest(size: int, at: Ints, values: Floats) -> Floats:
    lowest = np.full(size, NEVER)
    np.minimum.at(lowest, at, values)
    return lowest


def _total(shape: tuple[int, ...], cell: Ints, values: Floats) -> Floats:
    total = np.bincount(cell, values, shape[0] * shape[1]).astype(np.float64)
    spread: Floats = total.reshape(shape)
    return spread


def _spread(shape: tuple[int, ...], cell: Ints, values: Floats, *, largest: bool) -> Floats:
    flat = np.full(shape[0] * shape[1], -NEVER if largest else NEVER)
    (np.maximum if largest else np.minimum).at(flat, cell, values)
    return flat.reshape(shape)


def _nth(values: Floats, count: Ints, *, together: bool) -> Floats:
    """Of each row the `count`-th smallest value, or the sum of so many smallest."""
    if count.size and count.max() <= 1 <= values.shape[1]:
        return least(values)
    ordered = np.sort(values, axis=1)
    if together:
        ordered = np.cumsum(ordered, axis=1)
    at = np.clip(count - 1, 0, values.shape[1] - 1)
    picked: Floats = np.where(count > values.shape[1], NEVER, ordered[np.arange(len(values)), at])
    return picked
