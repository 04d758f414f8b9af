"""Making room for a gang: task by task on the node where it costs least, then without whom it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Final

import numpy as np

from gpumax.policy.ask import Ask, Choices, size
from gpumax.policy.gang import Spot, Want
from gpumax.policy.ledger import Bools
from gpumax.policy.moves import rehouse
from gpumax.policy.place import Placer, promise, ways
from gpumax.policy.pool import MIXED, Heaps, Pool
from gpumax.policy.rights import Rights
from gpumax.policy.victims import Cost, Opening, Part, Trial, again, opening
from gpumax.policy.world import World

MOST_HOUSES: Final = 16
"""Of how many nodes it is tried to move the work elsewhere, for one task."""


class Touched:
    """The nodes on which room changed while a pass went on, in that order; candidates look at them anew."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._last: dict[int, int] = {}

    def add(self, rows: Iterable[int]) -> None:
        """Room on these nodes has changed."""
        for row in sorted(set(rows)):
            self._last[row] = len(self.rows)
            self.rows.append(row)

    def since(self, row: int, stamp: int) -> bool:
        """Whether a node changed after so many changes."""
        return self._last.get(row, -1) >= stamp


class Candidates:
    """The parts that may go for somebody's work, and for each ask the nodes by what room there would cost.

    Nodes on which one queue alone gives are kept by queue and by how much it gives: their order stays the same however
    much the queue gave elsewhere. Costs only rise as parts go, but on nodes where room changed otherwise. So a node's cost is looked at again when it
    is about to be chosen, and nodes in `touched`, which all candidates of a pass share, are put back in.
    """

    def __init__(
        self, pool: Pool, givers: Bools, touched: Touched, world: World, within: Bools | None = None
    ) -> None:
        self._within = within  # nodes that may be looked at; None: all
        self.pool = pool
        self.looked = 0  # parts looked at so far
        self._givers = givers
        self._asked: list[bool] = givers.tolist()
        self.world = world
        self._touched = touched
        self._openings: dict[tuple[Ask, int, int], tuple[int, list[Part]]] = {}
        self._heaps: dict[tuple[Ask, int], tuple[int, Heaps]] = {}
        self._saved: dict[tuple[Ask, int], tuple[int, Heaps]] = {}
        self._accounts = list(world.tree.accounts.values())

    def begin(self, rules: Rights) -> None:
        """A trial begins under these rules."""
        self.rules = rules
        self._saved = {
            key: (seen, {owner: heap.copy() for owner, heap in heaps.items()})
            for key, (seen, heaps) in self._heaps.items()
        }

    def reset(self) -> None:
        """The trial failed, and with it what was learnt on it."""
        self._heaps = self._saved

    def parts(self) -> list[Part]:
        """Those who may go and have not gone."""
        return [part for part in self.pool.parts if self._asked[part.rank] and not part.gone]

    def cheapest(self, trial: Trial, ask: Ask, choice: int) -> tuple[int, Opening] | None:
        """The node on which room for the ask costs least, and what has to go there."""
        heaps = self._heaps_of(trial, ask, choice)
        while heaps:
            cost, owner = min((self._cost(trial, owner, heap[0][0]), owner) for owner, heap in heaps.items())
            if owner != MIXED and not self.rules.may_give(trial.tally, self._accounts[owner]):
                self._close(trial, ask, choice, heaps, owner)
                continue
            row = heaps[owner][0][1]
            found = self._open(trial, ask, choice, row)
            if found is not None and found.cost <= cost:
                return row, found
            heappop(heaps[owner])
            if not heaps[owner]:
                del heaps[owner]
            if found is not None:
                self._push(heaps, found, row)
        return None

    def _close(self, trial: Trial, ask: Ask, choice: int, heaps: Heaps, owner: int) -> None:
        """A queue has nothing more to give: of its nodes only those are left where others hold something, too."""
        for _, row in heaps.pop(owner):
            holders = {part.account.index for part in self.pool.on(row) if self._asked[part.rank]}
            found = self._open(trial, ask, choice, row) if len(holders) > 1 else None
            if found is not None:
                self._push(heaps, found, row)

    def _cost(self, trial: Trial, owner: int, key: Cost) -> Cost:
        """What a key of a queue's own heap means as long as its queue holds what it holds now."""
        if owner == MIXED:
            return key
        ends = self.rules.height(trial.tally, self._accounts[owner], key[0])
        return (-ends, *key[1:])

    def _push(self, heaps: Heaps, found: Opening, row: int) -> None:
        owners = {part.account.index for part in found.parts}
        if self.rules.weighs and len(owners) == 1:
            (owner,) = owners
            given = float(sum(part.amounts[self.rules.resources[0]] for part in found.parts))
            heappush(heaps.setdefault(owner, []), ((given, *found.cost[1:]), row))
        else:
            heappush(heaps.setdefault(MIXED, []), (found.cost, row))

    def _heaps_of(self, trial: Trial, ask: Ask, choice: int) -> Heaps:
        """Nodes with what room there costs at least."""
        seen, heaps = self._heaps.get((ask, choice), (-1, {}))
        if seen < 0:
            left = self.pool.present(self._givers)
            for part in trial.gone:
                left[part.rank] = False
            room = trial.ledger.later
            # Room as if everyone who may be asked had gone: where that isn't enough, nothing is.
            enough = self.world.fits.fitting(self.pool.freed(room, left), ask, choice)
            if self._within is not None:
                enough = enough & self._within
            heaps = self.pool.bounds(left, self.rules, room, ask, choice, np.flatnonzero(enough)).heaps()
            for heap in heaps.values():
                heapify(heap)
        else:
            for row in sorted(set(self._touched.rows[seen:])):
                found = self._open(trial, ask, choice, row)
                if found is not None:
                    self._push(heaps, found, row)
        self._heaps[ask, choice] = (len(self._touched.rows), heaps)
        return heaps

    def _open(self, trial: Trial, ask: Ask, choice: int, row: int) -> Opening | None:
        """What has to go on a node, as it was found before if nothing has changed there but what queues give."""
        if not self.world.fits.possible(ask, choice)[row]:
            return None
        if self._within is not None and not self._within[row]:
            return None
        stamp, parts = self._openings.get((ask, choice, row), (-1, []))
        if parts and not self._touched.since(row, stamp):
            self.looked += len(parts)
            found = again(trial, self.rules, parts)
            if found is not None:
                return found
        asked = self._asked
        here = [
            part
            for part in self.pool.on(row)
            if asked[part.rank] and not part.gone and part not in trial.gone
        ]
        if not here:
            return None
        self.looked += 2 * len(here)  # once to choose, once to spare
        found = opening(trial, self.rules, ask, choice, row, here)
        if found is not None:
            self._openings[ask, choice, row] = (len(self._touched.rows), found.parts)
        return found

    def drop(self, ask: Ask, row: int) -> None:
        """A node that was found is of no use for an ask, until room there changes."""
        for (other, _), (_, heaps) in self._heaps.items():
            if other is ask:
                for owner, heap in list(heaps.items()):
                    left = [entry for entry in heap if entry[1] != row]
                    if len(left) < len(heap):
                        heapify(left)
                        heaps[owner] = left
                    if not left:
                        del heaps[owner]

    def touch(self, rows: Iterable[int]) -> None:
        """Room on these nodes has changed."""
        self._touched.add(rows)


def make_room(
    world: World, placer: Placer, candidates: Candidates, rules: Rights, wants: list[Want]
) -> tuple[Trial, list[Spot]] | None:
    """A trial in which all wants are placed and what had to go has gone; None where no way was found."""
    for choices in ways(wants):
        candidates.begin(rules)
        trial = Trial(world.ledger)
        spots = place_all(placer, candidates, trial, wants, choices)
        if spots is not None:
            return trial, spots
        candidates.reset()
    return None


def place_all(
    placer: Placer,
    candidates: Candidates,
    trial: Trial,
    wants: list[Want],
    choices: Choices,
    within: Bools | None = None,
) -> list[Spot] | None:
    """Places for all wants on a trial on which more goes, where that is needed; within: on these nodes only."""
    spots = []
    for want in sorted(wants, key=lambda want: size(want.ask, choices[0]), reverse=True):
        spot = placer.spot(trial.ledger, want, choices, within=within)
        if spot is None:
            if candidates.rules.moves:
                spot = _move_and_place(candidates, trial, want, choices)
            else:
                spot = _open_and_place(candidates, trial, want, choices)
        if spot is None:
            return None
        spots.append(spot)
    return spots


def _open_and_place(candidates: Candidates, trial: Trial, want: Want, choices: Choices) -> Spot | None:
    for at in dict.fromkeys(min(choice, len(want.ask.gpu) - 1) for choice in choices):
        found = candidates.cheapest(trial, want.ask, at)
        if found is not None:
            break
    else:
        return None
    row, (_, parts) = found
    rows = {row}
    for part in parts:
        trial.evict(part)
        rows |= {held.row for held in part.helds}
    spot = promise(trial.ledger, want, at, row)
    candidates.touch(rows)
    return spot


def _move_and_place(candidates: Candidates, trial: Trial, want: Want, choices: Choices) -> Spot | None:
    """The same on a node whose work finds new places; on the cheapest that are looked at before the search gives up."""
    for _ in range(MOST_HOUSES):
        before = trial.fork()
        gone = set(trial.gone)
        spot = _open_and_place(candidates, trial, want, choices)
        if spot is None:
            return None
        if rehouse(candidates.world, trial, [part for part in trial.gone if part not in gone]):
            candidates.touch(
                spot.held.row for part in trial.gone if part not in gone for spot in trial.moved[part]
            )
            return spot
        trial.become(before)
        candidates.looked += MOST_HOUSES
        candidates.drop(want.ask, spot.held.row)
    return None


def spare(trial: Trial, dispensable: Callable[[Part], bool]) -> set[str]:
    """Let everyone stay whose room nobody took and who is not needed otherwise, the worst to lose first; their tasks."""
    tied = {extra for part in trial.gone for extra in part.rest}
    stay: set[str] = set()
    for part in sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True):
        if part not in tied and trial.ledger.could_stay(part.helds) and dispensable(part):
            trial.spare(part)
            tied.difference_update(part.rest)
            stay.update(held.task for held in part.helds)
    return stay
