"""Making room inside domains, for gangs that have to stand together, and moving such gangs.

Domains are compared by rule 6: what would have to go in each. Those that lack least are looked at first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from gpumax.policy.ask import Choices
from gpumax.policy.branch import Branch, grown
from gpumax.policy.free import Room
from gpumax.policy.gang import Spot, Want
from gpumax.policy.layout import Layout
from gpumax.policy.nodes import Bools
from gpumax.policy.place import Placer, ways
from gpumax.policy.pool import pool_of
from gpumax.policy.rights import Rights
from gpumax.policy.room import Candidates, Touched, place_all
from gpumax.policy.search import Found, search
from gpumax.policy.victims import Cost, Part, Rules, Trial, cost_of, keeps_away
from gpumax.policy.world import World

MOST_DOMAINS: Final = 16
"""How many domains are compared for one gang; its parts that stand in domains of their own compare fewer."""

Badness = tuple[Cost, tuple[int, ...]]


def badness(rules: Rules, trial: Trial) -> Badness:
    """How bad it is that these go, by rule 6."""
    gone = list(trial.gone)
    return cost_of(rules, trial.tally, gone), tuple(sorted(part.rank for part in gone))


def search_inside(
    world: World, placer: Placer, parts: list[Part], rules: Rules, wants: list[Want], most: int
) -> Found:
    """`search`, domain by domain where the whole gang has to be inside one. most: steps after which no more are begun."""
    layout = Layout(placer, world.fits, tuple(range(max(len(want.ask.gpu) for want in wants))), later=True)
    branch = grown(wants)
    while len(branch.inner) == 1 and not branch.wants and _free(branch):
        branch = branch.inner[0]
    if _free(branch):
        return search(world, placer, parts, rules, wants)
    pool = pool_of(world)
    going = np.zeros(len(pool.parts), np.bool_)
    going[[part.rank for part in parts]] = True
    freed = pool.freed(world.ledger.later, going)
    homes = _emptiest_first(layout, freed, world.ledger.later, branch, _everywhere(world))
    best: tuple[Badness, Found] | None = None
    looked, sure = 0, len(homes) <= MOST_DOMAINS
    for rows in homes[:MOST_DOMAINS]:
        if looked > most:
            sure = False
            break
        here = {part for part in parts if any(rows[held.row] for held in part.helds)}
        here |= {part for part in parts if keeps_away(part, wants)}
        here |= {extra for part in here for extra in part.rest}
        found = search(world, placer, [part for part in parts if part in here], rules, wants, rows)
        looked += 1 + found.looked
        sure = sure and found.sure
        if found.trial is not None:
            bad = badness(rules, found.trial)
            if best is None or bad < best[0]:
                best = bad, found
    # An exact answer from one domain is no answer if another was not searched to the end.
    if best is None or not sure:
        return Found(sure, looked)
    return best[1]._replace(looked=looked)


class Made(NamedTuple):
    """Room that was made, if any, and how much was looked at."""

    trial: Trial | None
    spots: list[Spot]
    looked: int


def make_room_inside(world: World, placer: Placer, givers: Bools, rules: Rights, wants: list[Want]) -> Made:
    """As `room.make_room`, for a gang that wishes something of the topology."""
    looked = 0
    for choices in ways(wants):
        making = _Making(world, placer, givers, rules, choices)
        found = making.branch(Trial(world.ledger), grown(wants), _everywhere(world), MOST_DOMAINS)
        looked += making.looked
        if found is None:
            continue
        trial, spots = found
        # The same again with everything in view that has gone: what is preferred counts, too.
        again = Trial(world.ledger)
        for part in trial.gone:
            again.evict(part)
        laid = placer.arrange(again.ledger, wants, choices)
        if laid is not None:
            again.ledger = laid[0]
        if laid is not None and (not rules.moves or rules.resettle(world, again, again.gone)):
            return Made(again, laid[1], looked)
        return Made(trial, spots, looked)
    return Made(None, [], looked)


class _Making:
    """One attempt with one choice of alternatives."""

    def __init__(self, world: World, placer: Placer, givers: Bools, rules: Rights, choices: Choices) -> None:
        self._world = world
        self._placer = placer
        self._pool = pool_of(world)
        self._givers = givers
        self._rules = rules
        self._choices = choices
        self._layout = Layout(placer, world.fits, choices, later=True)
        self.looked = 0

    def branch(self, trial: Trial, branch: Branch, mask: Bools, most: int) -> tuple[Trial, list[Spot]] | None:
        """The least bad way found to place a branch on these nodes; most: how many domains are compared."""
        if _free(branch):
            return self._fill(trial.fork(), branch, mask, most)
        left = self._pool.present(self._givers)
        left[[part.rank for part in trial.gone]] = False
        freed = self._pool.freed(trial.ledger.later, left)
        best: tuple[Badness, tuple[Trial, list[Spot]]] | None = None
        homes = _emptiest_first(self._layout, freed, trial.ledger.later, branch, mask)
        for rows in homes[:most]:
            if best is not None and self.looked > self._world.snapshot.policy.search_steps:
                break
            found = self._fill(trial.fork(), branch, rows, most)
            if found is not None:
                bad = badness(self._rules, found[0])
                if best is None or bad < best[0]:
                    best = bad, found
        return None if best is None else best[1]

    def _fill(self, trial: Trial, branch: Branch, rows: Bools, most: int) -> tuple[Trial, list[Spot]] | None:
        spots: list[Spot] = []
        fewer = max(2, most // max(1, len(branch.inner)))
        for inner in sorted(branch.inner, key=self._layout.hardness, reverse=True):
            found = self.branch(trial, inner, rows, fewer)
            if found is None:
                return None
            trial, more = found
            spots += more
        if branch.wants:
            givers = self._givers & self._pool.standing(rows)
            candidates = Candidates(self._pool, givers, Touched(), self._world, rows)
            candidates.begin(self._rules)
            more_spots = place_all(self._placer, candidates, trial, branch.wants, self._choices, rows)
            self.looked += 1 + candidates.looked
            if more_spots is None:
                return None
            spots += more_spots
        return trial, spots


def _free(branch: Branch) -> bool:
    return branch.scope is None or branch.scope.required is None


def _everywhere(world: World) -> Bools:
    return np.ones(len(world.nodes.nodes), np.bool_)


def _emptiest_first(layout: Layout, freed: Room, room: Room, branch: Branch, mask: Bools) -> list[Bools]:
    """The domains in which a branch could be placed if all who may be asked left; those that lack least first."""
    homes = layout.homes(freed, branch, mask)
    free = [(-int(room.gpus[rows].sum()), -int(room.cpu[rows].sum())) for rows in homes]
    return [homes[at] for at in sorted(range(len(homes)), key=lambda at: (free[at], at))]
