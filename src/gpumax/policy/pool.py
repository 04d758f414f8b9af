"""Everything that could go, as columns: who may be asked, what would be free then, and at least how bad a node would be.

Thousands of parts stand on a thousand nodes. Which node costs least is found by opening few of them: those whose bound
is below the best that was found.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpumax.policy.ask import Ask
from gpumax.policy.fairness import NOTHING_TO_LOSE
from gpumax.policy.gang import Spot
from gpumax.policy.ledger import Bools, Held, Ints, Room
from gpumax.policy.rights import Rights
from gpumax.policy.victims import Cost, Part, parts
from gpumax.policy.world import World
from gpumax.units import MILLI

Floats = npt.NDArray[np.float64]

NEVER: Final = np.inf
SUMS: Final = (2, 3, 4)
"""The numbers of a Cost that add up over the parts that go; of the others the worst part counts."""
MIXED: Final = -1
"""In place of a queue: several queues give."""

Heaps = dict[int, list[tuple[Cost, int]]]
"""By the queue that alone gives, or MIXED: costs, with what it gives in place of how high it ends; and the node."""


class _Prices(NamedTuple):
    """What rule 6 compares, one number a part; smaller is better. amounts: by resource, what the queue would give."""

    priority: Floats
    cores: Floats
    tasks: Floats
    lost: Floats
    age: Floats


class Bounds(NamedTuple):
    """A row a node of `rows`: who alone gives there and at least how much, or MIXED; and of each number of a Cost."""

    rows: Ints
    owner: Ints
    given: Floats
    cost: list[Floats]

    def heaps(self) -> Heaps:
        """The nodes as unordered heaps; those that can't help are left out."""
        columns = [np.where(self.owner == MIXED, self.cost[0], self.given), *self.cost[1:]]
        fine = np.all([np.isfinite(column) for column in columns], axis=0)
        numbers = zip(*(column[fine].tolist() for column in columns), strict=True)
        heaps: Heaps = {}
        for queue, key, row in zip(self.owner[fine].tolist(), numbers, self.rows[fine].tolist(), strict=True):
            heaps.setdefault(queue, []).append((key, row))
        return heaps


class Going(NamedTuple):
    """By whose rights a part goes, and the new places of what is moved."""

    rights: Rights
    moved: list[Spot]


def pool_of(world: World) -> Pool:
    """The pool that all passes of a decision share."""
    if world.pool is None:
        world.pool = Pool(world)
    return world.pool


class Pool:
    """The parts of a world. A part's rank is its place in `parts` and in every column. going: what a pass has go."""

    def __init__(self, world: World) -> None:
        self.parts = parts(world)
        self.going: dict[Part, Going] = {}
        self._kept = 0
        # No link to the world, which has one to its pool: a circle would be there until it is searched for.
        self._now_ms = world.snapshot.now_ms
        self._nodes = len(world.nodes.nodes)
        self._accounts = list(world.tree.accounts.values())
        self._gone: Bools = np.zeros(len(self.parts), np.bool_)
        self._cores = {part.workload.name: part for part in self.parts if part.core}
        for name in world.placed:
            self.keep(name)
        self._groups: list[Part] = []  # one part of each queue and kind
        self._counted: list[Held] = []  # who hold what is no column
        self._read()

    def _read(self) -> None:
        """Fill the columns; by way of flat lists, which is several times faster than row by row."""
        groups: dict[tuple[int, tuple[int, ...]], int] = {}
        facts: list[int] = []
        prices: list[float] = []
        holds: list[int] = []
        devices: list[int] = []
        for rank, part in enumerate(self.parts):
            key = (part.account.index, part.kinds)
            group = groups.get(key)
            if group is None:
                group = groups[key] = len(groups)
                self._groups.append(part)
            facts += (group, part.core, part.account.index, *part.amounts)
            priority, core, tasks, lost, age = part.cost
            prices += (priority, tasks if core else 0, tasks, lost, age)
            for held in part.helds:
                holds += (rank, held.row, held.cpu, held.memory)
                for column, milli in held.devices:
                    devices += (rank, held.row, column, milli, len(held.devices))
                if held.extended or held.slices:
                    self._counted.append(held)
        self._group, core_column, self._account, *amounts = np.array(facts, np.int64).reshape(-1, 6).T
        self._core: Bools = core_column.astype(np.bool_)
        self._amounts: Ints = np.stack(amounts, axis=1)
        self._prices = _Prices(*np.array(prices, np.float64).reshape(-1, 5).T)
        self._holds: Ints = np.array(holds, np.int64).reshape(-1, 4).T
        self._devices: Ints = np.array(devices, np.int64).reshape(-1, 5).T
        by_row = np.argsort(self._holds[1], kind="stable")
        self._on = self._holds[0][by_row]
        self._starts = np.searchsorted(self._holds[1][by_row], np.arange(self._nodes + 1))

    def keep(self, name: str) -> None:
        """Have a workload keep its minimum: it was placed in this decision, and the rest of its gang was counted on."""
        core = self._cores.get(name)
        if core is not None:
            core.gone = self._gone[core.rank] = True
            self._kept += 1

    def go(self, part: Part, going: Going) -> None:
        """Have a part go."""
        part.gone = self._gone[part.rank] = True
        self.going[part] = going

    def stay(self, part: Part) -> None:
        """Let a part that was to go stay after all."""
        part.gone = self._gone[part.rank] = False
        del self.going[part]

    @property
    def lost(self) -> int:
        """At most how many of the parts can't go any more."""
        return len(self.going) + self._kept

    def on(self, row: int) -> list[Part]:
        """The parts with tasks on a node, the least bad to lose first."""
        ranks = self._on[self._starts[row] : self._starts[row + 1]].tolist()
        return [self.parts[rank] for rank in dict.fromkeys(ranks)]

    def givers(self, rights: Rights) -> Bools:
        """Which parts could go for the asker, as far as its rules and their minimum runtimes say."""
        if not self.parts:
            return np.zeros(0, np.bool_)
        allowed = np.array([rights.may_be_asked(part.account, part.kinds) for part in self._groups], np.bool_)
        until = np.array([rights.protected_ms(part.account) for part in self._groups], np.float64)
        # `age` is the negative start.
        young = self._core & (-self._prices.age + until[self._group] > self._now_ms)
        mask: Bools = allowed[self._group] & ~young
        if rights.below < NEVER:
            mask &= self._prices.priority < rights.below
        only = rights.only()
        if only is not None:
            mask &= only
        return mask

    def present(self, mask: Bools) -> Bools:
        """Those of a mask that have not gone yet."""
        left: Bools = mask & ~self._gone
        return left

    def standing(self, rows: Bools) -> Bools:
        """Which parts have tasks on these nodes."""
        mask = np.zeros(len(self.parts), np.bool_)
        mask[self._holds[0][rows[self._holds[1]]]] = True
        return mask

    def freed(self, room: Room, mask: Bools) -> Room:
        """A copy of the room as if all these parts had left it."""
        other = room.copy()
        rank, row, cpu, memory = self._holds
        here = mask[rank]
        other.give(row[here], cpu[here], memory[here])
        rank, row, column, milli, _ = self._devices
        here = mask[rank]
        other.give_devices(row[here], column[here], milli[here])
        if self._counted:
            for part in self.parts:
                if mask[part.rank]:
                    for held in part.helds:
                        other.give_rest(held)
        return other

    def bounds(self, mask: Bools, rights: Rights, room: Room, ask: Ask, choice: int, rows: Ints) -> Bounds:
        """For each of these nodes, bounds below what any room for the ask there costs.

        room: as it will be; NEVER where no such parts help.
        """
        size = len(rows)
        place = np.full(self._nodes, -1, np.int64)
        place[rows] = np.arange(size)
        rank, row = self._holds[0], place[self._holds[1]]
        here = mask[rank] & (row >= 0)
        rank, row = rank[here], row[here]
        prices = (self._ends(rights), *self._prices)
        least = [_least(size, row, price[rank]) for price in prices]
        gpu = ask.gpu[choice]
        if gpu is None:
            return Bounds(rows, np.full(size, MIXED, np.int64), least[0], least)
        usable, need = room.nodes.usable(gpu)
        whole = not gpu.memory_mib and gpu.milli == MILLI
        lack = gpu.devices - room.view(gpu).fitting[rows]
        short = _Short(lack, usable[rows], need[rows], room.devices[rows], whole)
        here = mask[self._devices[0]] & (place[self._devices[1]] >= 0)
        devices = self._devices[:, here]
        devices[1] = place[devices[1]]
        given, found = short.opened(devices, prices)
        if rights.weighs:
            # Where no queue ends lower than that, no part has gone that would bring its queue lower even alone.
            high = prices[0][devices[0]] <= found[0][devices[1]]
            _, closer = short.opened(devices[:, high], prices)
            found[1:] = [
                np.where(np.isfinite(closer[1]), some, every)
                for some, every in zip(closer[1:], found[1:], strict=True)
            ]
        bounds = [np.where(lack > 0, value, base) for value, base in zip(found, least, strict=True)]
        owner = np.full(size, MIXED, np.int64)
        if rights.weighs and rights.resources[0] == 0:
            alone = _alone(size, devices[1], self._account[devices[0]])
            owner = np.where((lack > 0) & np.isfinite(given), alone, MIXED)
        return Bounds(rows, owner, given, bounds)

    def _held(self, resource: int) -> tuple[Floats, Floats]:
        """What each queue holds, and its share, by the queue's index."""
        held = np.array([account.allocated[resource] for account in self._accounts], np.float64)
        share = np.array([account.share[resource] for account in self._accounts], np.float64)
        return held, share

    def _ends(self, rights: Rights) -> Floats:
        """How bad it is for its queue if a part goes alone."""
        if not rights.weighs:
            return np.zeros(len(self.parts))
        amounts = self._amounts[:, rights.resources[0]].astype(np.float64)
        held, share = self._held(rights.resources[0])
        return -_quotient(held[self._account] - amounts, share[self._account])


class _Short(NamedTuple):
    """Nodes on which so many devices are lacking for an ask: a row a node. free: what a device has; whole: all of it is asked."""

    lack: Ints
    usable: Bools
    need: Ints
    free: Ints
    whole: bool

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


def _alone(size: int, row: Ints, account: Ints) -> Ints:
    """The queue whose parts alone hold devices of a node; MIXED where several do."""
    low = np.full(size, np.iinfo(np.int64).max, np.int64)
    high = np.full(size, MIXED, np.int64)
    np.minimum.at(low, row, account)
    np.maximum.at(high, row, account)
    owner: Ints = np.where(low == high, high, MIXED)
    return owner


def _quotient(held: Floats, share: Floats) -> Floats:
    parts: Floats = np.where(share > 0, held / np.where(share > 0, share, 1.0), NOTHING_TO_LOSE)
    return parts


def _least(size: int, at: Ints, values: Floats) -> Floats:
    least = np.full(size, NEVER)
    np.minimum.at(least, at, values)
    return least


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
    ordered = np.sort(values, axis=1)
    if together:
        ordered = np.cumsum(ordered, axis=1)
    at = np.clip(count - 1, 0, values.shape[1] - 1)
    picked: Floats = np.where(count > values.shape[1], NEVER, ordered[np.arange(len(values)), at])
    return picked
