"""Everything that could go, as columns: who may be asked, what would be free then, and at least how bad a node would be.

Thousands of parts stand on a thousand nodes. Which node costs least is found by opening few of them: those whose bound
is below the best that was found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gpumax.policy.fairness import NOTHING_TO_LOSE
from gpumax.policy.free import Room
from gpumax.policy.gang import Spot
from gpumax.policy.held import Held
from gpumax.policy.nodes import Bools, Ints
from gpumax.policy.rights import Rights
from gpumax.policy.ties import Tied
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally, parts
from gpumax.policy.world import World

Floats = npt.NDArray[np.float64]


class Prices(NamedTuple):
    """What rule 6 compares, one number a part; smaller is better. amounts: by resource, what the queue would give."""

    priority: Floats
    cores: Floats
    tasks: Floats
    lost: Floats
    age: Floats


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
        self.leaning: set[Account] = (
            set()
        )  # queues of those who stay because others went later, and all above
        # No link to the world, which has one to its pool: a circle would be there until it is searched for.
        self._now_ms = world.snapshot.now_ms
        self._nodes = len(world.nodes.nodes)
        self.accounts = list(world.tree.accounts.values())
        self._below: dict[int, Bools] = {}
        self._gone: Bools = np.zeros(len(self.parts), np.bool_)
        self._ties = world.ties
        self._bringing: dict[tuple[int, int], dict[Part, None]] | None = None  # by column of ties and domain
        self._cores = {part.workload.name: part for part in self.parts if part.core}
        for name in world.placed:
            self.keep(name)
        self._groups: list[Part] = []  # one part of each queue and kind
        self._counted: list[tuple[int, Held]] = []  # who hold what is no column, by rank
        self._tied: list[tuple[int, Tied, int]] = []  # who are tied to others, and on which node
        self._read()

    def _read(self) -> None:
        """Fill the columns, column by column: that is several times faster than row by row."""
        parts, size = self.parts, len(self.parts)
        groups: dict[tuple[int, tuple[int, ...]], int] = {}
        for part in parts:
            key = (part.account.index, part.kinds)
            if key not in groups:
                groups[key] = len(groups)
                self._groups.append(part)
        self._group = _ints([groups[part.account.index, part.kinds] for part in parts])
        self.account = _ints([part.account.index for part in parts])
        self._amounts: Ints = _ints([amount for part in parts for amount in part.amounts]).reshape(size, 3)
        costs = np.array([number for part in parts for number in part.cost], np.float64).reshape(size, 5)
        priority, core, tasks, lost, age = costs.T
        self._core: Bools = core > 0
        self.prices = Prices(priority, core * tasks, tasks, lost, age)
        helds = [held for part in parts for held in part.helds]
        rank = np.repeat(np.arange(size), [len(part.helds) for part in parts])
        row = _ints([held.row for held in helds])
        memory = _ints([held.memory for held in helds])
        self.holds: Ints = np.stack((rank, row, _ints([held.cpu for held in helds]), memory))
        beside = _ints([len(held.devices) for held in helds])
        column = _ints([column for held in helds for column, _ in held.devices])
        milli = _ints([milli for held in helds for _, milli in held.devices])
        self.devices: Ints = np.stack(
            (np.repeat(rank, beside), np.repeat(row, beside), column, milli, np.repeat(beside, beside))
        )
        ranked = list(zip(rank.tolist(), helds, strict=True))
        self._counted += [entry for entry in ranked if entry[1].extended or entry[1].slices]
        if self._ties is not None:
            self._tied += [(at, held.tied, held.row) for at, held in ranked if held.tied is not None]
        by_row = np.argsort(self.holds[1], kind="stable")
        self._on = self.holds[0][by_row]
        self._starts = np.searchsorted(self.holds[1][by_row], np.arange(self._nodes + 1))
        self.turn = self._turns()
        """Of each node: its place among nodes on which room costs the same, whose least bad part goes first."""
        self.row_at = np.argsort(self.turn).tolist()

    def _turns(self) -> Ints:
        least = np.full(self._nodes, len(self.parts))
        used = self._starts[:-1] < self._starts[1:]
        least[used] = self._on[self._starts[:-1][used]]
        turn: Ints = np.argsort(np.argsort(least, kind="stable"))
        return turn

    def keep(self, name: str) -> None:
        """Have a workload keep its minimum: it was placed in this decision, and the rest of its gang was counted on."""
        core = self._cores.get(name)
        if core is not None:
            core.gone = self._gone[core.rank] = True

    def go(self, part: Part, going: Going) -> None:
        """Have a part go."""
        part.gone = self._gone[part.rank] = True
        self.going[part] = going

    def stay(self, part: Part) -> None:
        """Let a part that was to go stay after all."""
        part.gone = self._gone[part.rank] = False
        del self.going[part]

    def on(self, row: int) -> list[Part]:
        """The parts with tasks on a node, the least bad to lose first."""
        ranks = self._on[self._starts[row] : self._starts[row + 1]].tolist()
        return [self.parts[rank] for rank in dict.fromkeys(ranks)]

    def bringing(self, column: int, row: int) -> list[Part]:
        """The parts, some gone, that add to a column of ties in a node's domain, the least bad to lose first."""
        ties = self._ties
        if ties is None or ties.domains[column].of[row] < 0:
            return []
        if self._bringing is None:
            self._bringing = {}
            for part in self.parts:
                for held in part.helds:
                    for number, _ in held.tied.brings if held.tied is not None else ():
                        key = (number, ties.domains[number].of[held.row])
                        self._bringing.setdefault(key, {})[part] = None
        return list(self._bringing.get((column, ties.domains[column].of[row]), ()))

    def givers(self, rights: Rights) -> Bools:
        """Which parts could go for the asker, as far as its rules and their minimum runtimes say."""
        if not self.parts:
            return np.zeros(0, np.bool_)
        allowed = np.array([rights.may_be_asked(part.account, part.kinds) for part in self._groups], np.bool_)
        until = np.array([rights.protected_ms(part.account) for part in self._groups], np.float64)
        # `age` is the negative start.
        young = self._core & (-self.prices.age + until[self._group] > self._now_ms)
        mask: Bools = allowed[self._group] & ~young
        if np.isfinite(rights.below):
            mask &= self.prices.priority < rights.below
        only = rights.only()
        if only is not None:
            mask &= only
        return mask

    def present(self, mask: Bools) -> Bools:
        """Those of a mask that have not gone yet."""
        left: Bools = mask & ~self._gone
        return left

    def below(self, account: Account) -> Bools:
        """Which parts are in a queue or in one below it. Not to be written on."""
        known = self._below.get(account.index)
        if known is None:
            under = np.array([account in other.path for other in self.accounts], np.bool_)
            known = self._below[account.index] = under[self.account]
        return known

    def standing(self, rows: Bools) -> Bools:
        """Which parts have tasks on these nodes."""
        mask = np.zeros(len(self.parts), np.bool_)
        mask[self.holds[0][rows[self.holds[1]]]] = True
        return mask

    def freed(self, room: Room, mask: Bools, *, tied: bool = True) -> Room:
        """A copy of the room as if all these parts had left it. tied: also as far as they are tied to others."""
        other = room.copy()
        rank, row, cpu, memory = self.holds
        here = mask[rank]
        other.give(row[here], cpu[here], memory[here])
        rank, row, column, milli, _ = self.devices
        here = mask[rank]
        other.give_devices(row[here], column[here], milli[here])
        for at, held in self._counted:
            if mask[at]:
                other.give_rest(held)
        if tied and other.crowd is not None:
            other.crowd.count_all([(ties, there) for at, ties, there in self._tied if mask[at]], -1)
        return other

    def ends(self, rights: Rights, tally: Tally) -> Floats:
        """How bad it is for its queue if a part goes after what was given already and nothing else: minus how high it ends."""
        if not rights.weighs:
            return np.zeros(len(self.parts))
        resource = rights.resources[0]
        held = [account.allocated[resource] - tally.of(account)[resource] for account in self.accounts]
        share = np.array([account.share[resource] for account in self.accounts], np.float64)[self.account]
        left = np.array(held, np.float64)[self.account] - self._amounts[:, resource]
        high: Floats = np.where(share > 0, left / np.where(share > 0, share, 1.0), NOTHING_TO_LOSE)
        return -high


def _ints(numbers: list[int]) -> Ints:
    return np.array(numbers, np.int64)
