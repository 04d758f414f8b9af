"""Making room for a gang: task by task on the node where it costs least, then without whom it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

import numpy as np

from gpumax.policy.ask import Ask, Choices, size
from gpumax.policy.bounds import MIXED, TOGETHER, Heaps, bounds
from gpumax.policy.gang import Spot, Want
from gpumax.policy.gather import needy, tied
from gpumax.policy.ledger import Ledger
from gpumax.policy.needed import Needed
from gpumax.policy.nodes import Bools
from gpumax.policy.place import Placer, promise, ways
from gpumax.policy.pool import Pool
from gpumax.policy.rights import Rights
from gpumax.policy.tree import Account
from gpumax.policy.victims import FREE, Cost, Opening, Part, Trial, again, opening
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

    Nodes are kept by queue for each that could give alone there, in the order of how much it gives: that stays the same however
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
        self._near: dict[int, list[Part]] = {}  # by node, those who may be asked, gone or not
        self._needed = Needed()
        self._openings: dict[tuple[Ask, int, int, int], tuple[int, list[Part]]] = {}
        self._heaps: dict[tuple[Ask, int], tuple[int, Heaps]] = {}
        self._saved: dict[tuple[Ask, int], tuple[int, Heaps]] = {}
        self._written: set[tuple[int, int]] = (
            set()
        )  # heaps that this trial has copied, by those of its ask and by queue
        self._accounts = list(world.tree.accounts.values())

    def begin(self, rules: Rights) -> None:
        """A trial begins under these rules."""
        self.rules = rules
        self._saved = {key: (seen, heaps.copy()) for key, (seen, heaps) in self._heaps.items()}
        self._written.clear()

    def reset(self) -> None:
        """The trial failed, and with it what was learnt on it."""
        self._heaps = self._saved

    def _heap(self, heaps: Heaps, owner: int) -> list[tuple[Cost, int]]:
        """The heap of a queue, to be written on: what was saved stays as it is."""
        key = (id(heaps), owner)
        if key not in self._written:
            self._written.add(key)
            heaps[owner] = heaps.get(owner, []).copy()
        return heaps.setdefault(owner, [])

    def below(self, rules: Rights, account: Account, trial: Trial) -> Iterator[Part]:
        """Those below a queue who may go and have not gone: from queues that end highest first, there the least bad."""
        left = self.pool.present(self._givers) & self.pool.below(account)
        left[[part.rank for part in trial.gone]] = False
        ranks = np.flatnonzero(left)
        ends = self.pool.ends(rules, trial.tally)[ranks]
        return map(self.pool.parts.__getitem__, ranks[np.argsort(ends, kind="stable")].tolist())

    def cheapest(self, trial: Trial, ask: Ask, choice: int) -> tuple[int, Opening] | None:
        """The node on which room for the ask costs least, and what has to go there."""
        heaps = self._heaps_of(trial, ask, choice)
        givers = [
            owner
            for owner in heaps
            if owner == MIXED or self.rules.may_give(trial.tally, self._accounts[owner])
        ]
        while givers:
            cost, owner = min((self._cost(trial, owner, heaps[owner][0][0]), owner) for owner in givers)
            row = self.pool.row_at[heaps[owner][0][1]]
            if cost[1:] == TOGETHER and (second := self._second(trial, row)) > cost[0]:
                heappop(self._heap(heaps, owner))
                self._push_together(heaps, second, row)
            else:
                found = self._open(trial, ask, choice, row, owner)
                if found is not None and found.cost <= cost:
                    return row, found
                heappop(self._heap(heaps, owner))
                if found is not None:
                    alone = self._push(trial, heaps, found, row, owner, mixed=self._mixed(ask))
                    if alone not in givers:
                        givers.append(alone)  # what was looked for among all queues was found in one
            if not heaps[owner]:
                del heaps[owner]
                givers.remove(owner)
        return None

    def _cost(self, trial: Trial, owner: int, key: Cost) -> Cost:
        """What a key of a queue's own heap means as long as its queue holds what it holds now."""
        if owner == MIXED:
            return key
        ends = self.rules.height(trial.tally, self._accounts[owner], key[0])
        return (-ends, *key[1:])

    def _push(self, trial: Trial, heaps: Heaps, found: Opening, row: int, owner: int, *, mixed: bool) -> int:
        """Remember what room on a node costs; returns the queue in whose heap it is."""
        cost = found.cost
        if (
            owner == MIXED
            and not mixed
            and self._by_one(found)
            and (second := self._second(trial, row)) > cost[0]
        ):
            self._push_together(heaps, second, row)
            owner = found.parts[0].account.index
        if owner != MIXED:
            cost = (float(sum(part.amounts[self.rules.resources[0]] for part in found.parts)), *cost[1:])
        heappush(self._heap(heaps, owner), (cost, int(self.pool.turn[row])))
        return owner

    def _push_together(self, heaps: Heaps, second: float, row: int) -> None:
        """Several queues together are no better than the second that could end highest."""
        if second < inf:
            heappush(self._heap(heaps, MIXED), ((second, *TOGETHER), int(self.pool.turn[row])))

    def _mixed(self, ask: Ask) -> bool:
        """Whether no bound is known for an ask, nor a queue that gives alone: who keeps it away may stand elsewhere."""
        return ask.filter.tied is not None and bool(ask.filter.tied.shuns)

    def _by_one(self, found: Opening) -> bool:
        return self.rules.weighs and len({part.account.index for part in found.parts}) == 1

    def _second(self, trial: Trial, row: int) -> float:
        """At least how bad it is if a second queue gives something on a node, too; infinite where there is none."""
        rules, tally, here = self.rules, trial.tally, self._here(trial, row)
        self.looked += len(here)
        resource = rules.resources[0]
        smallest: dict[Account, int] = {}
        for part in here:
            amount = part.amounts[resource]
            if amount < smallest.get(part.account, inf):
                smallest[part.account] = amount
        ends = [
            -rules.height(tally, account, amount)
            for account, amount in smallest.items()
            if rules.may_give(tally, account)
        ]
        return sorted(ends)[1] if len(ends) > 1 else inf

    def _heaps_of(self, trial: Trial, ask: Ask, choice: int) -> Heaps:
        """Nodes with what room there costs at least."""
        seen, heaps = self._heaps.get((ask, choice), (-1, {}))
        if seen < 0:
            left = self.pool.present(self._givers)
            for part in trial.gone:
                left[part.rank] = False
            room = trial.ledger.later
            # Room as if everyone who may be asked had gone: where that isn't enough, nothing is.
            enough = self.world.fits.roomy(self.pool.freed(room, left, tied=False), ask, choice)
            if self._within is not None:
                enough = enough & self._within
            rows = np.flatnonzero(enough)
            if self._mixed(ask):
                heaps = {MIXED: [(FREE, at) for at in self.pool.turn[rows].tolist()]} if rows.size else {}
            else:
                heaps = bounds(self.pool, left, self.rules, room, ask, choice, rows).heaps(self.pool.turn)
            for heap in heaps.values():
                heapify(heap)
        else:
            for row in sorted(set(self._touched.rows[seen:])):
                found = self._open(trial, ask, choice, row, MIXED)
                if found is not None:
                    mixed = self._mixed(ask)
                    owner = found.parts[0].account.index if self._by_one(found) and not mixed else MIXED
                    self._push(trial, heaps, found, row, owner, mixed=mixed)
        self._heaps[ask, choice] = (len(self._touched.rows), heaps)
        return heaps

    def _open(self, trial: Trial, ask: Ask, choice: int, row: int, owner: int) -> Opening | None:
        """What of a queue has to go on a node, as it was found before if nothing has changed there but what queues give."""
        if not self.world.fits.possible(ask, choice)[row]:
            return None
        if self._within is not None and not self._within[row]:
            return None
        away = self._keeping_away(trial, ask, row)
        if away is None:
            return None
        stamp, parts = self._openings.get((ask, choice, row, owner), (-1, []))
        alone = ask.filter.tied is None and not trial.ledger.needy
        if parts and alone and not self._touched.since(row, stamp):
            self.looked += len(parts)
            found = again(trial, self.rules, parts)
            if found is not None:
                return found
        here = self._here(trial, row)
        if owner != MIXED:
            here = [part for part in here if part.account.index == owner]
        if not here and not away:
            return None
        self.looked += 2 * len(here) + len(away)  # once to choose, once to spare
        found = opening(trial, self.rules, ask, choice, row, here, away)
        # Whoever is needed stays, the worst to lose first; of those who move it shows in the end whether they are near enough.
        while (
            found
            and not self.rules.moves
            and (needed := self._needed.of(trial.ledger, found.parts, ask, row))
        ):
            found = None
            if needed in here:  # or else it goes with others
                here.remove(needed)
                found = opening(trial, self.rules, ask, choice, row, here, away)
        if found is not None:
            self._openings[ask, choice, row, owner] = (len(self._touched.rows), found.parts)
        return found

    def _here(self, trial: Trial, row: int) -> list[Part]:
        """Those on a node who may go and have not gone, the least bad to lose first."""
        asked = self._near.get(row)
        if asked is None:
            asked = self._near[row] = [part for part in self.pool.on(row) if self._asked[part.rank]]
        gone = trial.gone
        return [part for part in asked if not part.gone and part not in gone]

    def _keeping_away(self, trial: Trial, ask: Ask, row: int) -> list[Part] | None:
        """Those who keep an ask off a node, wherever they stand, the least bad to lose first; None where not all of them may go, or whom it needs is not there."""
        tied, crowd = ask.filter.tied, trial.ledger.later.crowd
        if tied is None or crowd is None:
            return []
        if tied.needs and not crowd.near(tied)[row]:
            return None
        found: dict[Part, None] = {}
        for column in crowd.shunned(tied, row):
            parts = [
                part for part in self.pool.bringing(column, row) if not part.gone and part not in trial.gone
            ]
            brought = sum(
                crowd.ties.brings(held.tied, held.row, column, row) for part in parts for held in part.helds
            )
            if brought < crowd.at(crowd.most, column, row) or not all(
                self._asked[part.rank] for part in parts
            ):
                return None
            found.update(dict.fromkeys(parts))
        return sorted(found, key=lambda part: part.rank)

    def drop(self, ask: Ask, row: int) -> None:
        """A node that was found is of no use for an ask, until room there changes."""
        for (other, _), (_, heaps) in self._heaps.items():
            if other is ask:
                for owner, heap in list(heaps.items()):
                    left = [entry for entry in heap if self.pool.row_at[entry[1]] != row]
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
        trial.in_turn = rules.moves and world.ties is None
        spots = place_all(placer, candidates, trial, wants, choices)
        if spots is not None and trial.ledger.kept():
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
    # Who needs others around it comes after them.
    order = sorted(wants, key=lambda want: size(want.ask, choices[0]), reverse=True)
    for want in sorted(order, key=lambda want: needy((want,))) if tied(wants) else order:
        spot = placer.spot(trial.ledger, want, choices, within=within)
        if spot is None:
            if candidates.rules.moves:
                # Who needs others near it would have to see first where they go: that is for the exact search.
                spot = None if needy((want,)) else _move_and_place(candidates, trial, want, choices)
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
    mine, crowd = want.ask.filter.tied, trial.ledger.later.crowd
    if mine is not None and crowd is not None and not crowd.welcomes(mine)[row]:
        return None  # who made way was whom it needs
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
        fresh = [part for part in trial.gone if part not in gone]
        if candidates.rules.resettle(candidates.world, trial, fresh):
            candidates.touch(spot.held.row for part in fresh for spot in trial.moved.get(part, ()))
            return spot
        trial.become(before)
        candidates.looked += MOST_HOUSES
        candidates.drop(want.ask, spot.held.row)
    return None


def could_stay(ledger: Ledger, part: Part, moved: Iterable[Spot]) -> bool:
    """Whether a part that goes could stay where it is after all, without the new places that were found for it."""
    if not ledger.could_stay(part.helds):
        return False
    if not moved or not ledger.needy:
        return True
    other = ledger.copy()
    for held in part.helds:
        other.stay(held)
    for spot in moved:
        other.free(spot.held, waited=bool(spot.after))
    return other.kept()


def spare(trial: Trial, dispensable: Callable[[Part], bool]) -> set[str]:
    """Let everyone stay whose room nobody took and who is not needed otherwise, the worst to lose first; their tasks."""
    tied = {extra for part in trial.gone for extra in part.rest}
    stay: set[str] = set()
    for part in sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True):
        stays = part not in tied and could_stay(trial.ledger, part, trial.moved.get(part, ()))
        if stays and dispensable(part):
            trial.spare(part)
            tied.difference_update(part.rest)
            stay.update(held.task for held in part.helds)
    return stay
