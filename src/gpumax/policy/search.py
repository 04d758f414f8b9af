"""Who has to go, exactly: sets of parts in the order of rule 6 until one makes room. For problems that are small.

A set costs no less than any of its subsets, so the first set that makes room is the best there is.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from gpumax.policy.ask import Choices
from gpumax.policy.gang import Spot, Want
from gpumax.policy.gather import needy
from gpumax.policy.nodes import Bools
from gpumax.policy.place import Placer, ways
from gpumax.policy.victims import Cost, Part, Rules, Tally, Trial, cost_of
from gpumax.policy.world import World

MOST_ROWS: Final = 32
MOST_PARTS: Final = 128
MOST_SETS: Final = 400
"""Beyond these the search gives up and leaves it to `room`."""

MOST_SHUNTED: Final = 100
"""The same where only those are looked for who move in turn."""

Layout = Literal["asker first", "where they were", "movers first"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)
"""Where those who go must find new places: after the asker has taken its own, if need be on the nodes that they leave, or before."""


class Found(NamedTuple):
    """What a search came to, and how many steps it took, about one a set. sure: without a trial, whether there can be none."""

    sure: bool
    looked: int
    trial: Trial | None = None
    spots: tuple[Spot, ...] = ()


NOT_SEARCHED: Final = Found(sure=False, looked=0)


def search(
    world: World,
    placer: Placer,
    parts: list[Part],
    rules: Rules,
    wants: list[Want],
    within: Bools | None = None,
) -> Found:
    """The best set of parts that makes room for all wants, with the trial in which they went.

    parts: best to lose first. within: on these nodes only.
    """
    if len(parts) > MOST_PARTS or len({held.row for part in parts for held in part.helds}) > MOST_ROWS:
        return Found(sure=False, looked=0)
    # A set costs more where there are more parts by which it could grow.
    sure, looked, weight = True, 0, 1 + len(parts) // 32
    for choices in ways(wants):
        found = _Search(world, placer, parts, rules, within).run(wants, choices)
        looked += weight * found.looked
        if found.trial is not None:
            return found._replace(looked=looked)
        sure = sure and found.sure
    return Found(sure, looked)


class _Search:
    """One search with one choice of alternatives."""

    def __init__(
        self, world: World, placer: Placer, parts: list[Part], rules: Rules, within: Bools | None
    ) -> None:
        self._within = within
        self._world = world
        self._placer = placer
        self._rules = rules
        self._parts = parts
        self._before = _before(parts)
        # Nobody moves in turn where some keep others away.
        self._untied = not any(held.tied is not None for part in parts for held in part.helds)

    def run(self, wants: list[Want], choices: Choices) -> Found:
        """The first set in the order of cost that makes room."""
        frontier: list[tuple[Cost, tuple[int, ...], tuple[int, ...]]] = []
        seen: set[frozenset[int]] = set()
        layouts = self._layouts(wants)
        most = MOST_SHUNTED if self._rules.shunts else MOST_SETS
        self._grow((), frontier, seen)
        for looked in range(most):
            if not frontier:
                return Found(sure=True, looked=looked)
            _, _, chosen = heappop(frontier)
            in_turn = None
            for layout in layouts if self._rules.moves and chosen else LAYOUTS[:1]:
                trial = Trial(self._world.ledger)
                trial.in_turn = self._untied and layout == "asker first"
                for number in chosen:
                    trial.evict(self._parts[number])
                spots = self._spots(trial, wants, choices, layout)
                if spots:
                    found = Found(True, looked, trial, spots)
                    if not trial.waits():
                        return found
                    in_turn = found  # unless they find room that is free now
                if spots is None and layout == "asker first":
                    break
            if in_turn is not None:
                return in_turn
            self._grow(chosen, frontier, seen)
        return Found(sure=False, looked=most)

    def _layouts(self, wants: list[Want]) -> tuple[Layout, ...]:
        if self._rules.shunts:
            return LAYOUTS[:1]
        # Who has to be near others can't count on those who move: they are nowhere when it starts.
        return LAYOUTS[:2] if needy(wants) else LAYOUTS

    def _spots(
        self, trial: Trial, wants: list[Want], choices: Choices, layout: Layout
    ) -> tuple[Spot, ...] | None:
        """Places for the asker; None where there are none for it, an empty answer where those who go don't all find theirs."""
        if not self._rules.enough(trial.tally):
            return None
        if layout == "movers first" and not self._rules.resettle(self._world, trial, trial.gone):
            return ()
        within = self._left(trial) if layout == "where they were" else self._within
        found = self._placer.arrange(trial.ledger, wants, choices, within=within)
        if found is None:
            return None
        trial.ledger = found[0]
        late = self._rules.moves and layout != "movers first"
        if late and not self._rules.resettle(self._world, trial, trial.gone):
            return ()
        # Nobody goes whom others need where they were placed, and nobody moves only to be out of sight for a while.
        lonely = self._rules.moves and any(map(trial.ledger.lonely, [spot.held for spot in found[1]]))
        return tuple(found[1]) if trial.ledger.kept() and not lonely else ()

    def _left(self, trial: Trial) -> Bools:
        """The nodes that somebody leaves."""
        rows = np.zeros(len(self._world.nodes.nodes), np.bool_)
        rows[[held.row for part in trial.gone for held in part.helds]] = True
        return rows if self._within is None else rows & self._within

    def _grow(
        self,
        chosen: tuple[int, ...],
        frontier: list[tuple[Cost, tuple[int, ...], tuple[int, ...]]],
        seen: set[frozenset[int]],
    ) -> None:
        """Add all sets that one more step leads to."""
        tally = Tally()
        for number in chosen:
            tally.count(self._parts[number])
        for number, part in enumerate(self._parts):
            if number in chosen or not self._before[number].issubset(chosen):
                continue
            larger = frozenset((*chosen, number))
            if larger in seen or not self._rules.may_go(tally, part):
                continue
            seen.add(larger)
            after = tally.copy()
            after.count(part)
            steps = (*chosen, number)
            heappush(
                frontier,
                (
                    cost_of(self._rules, after, [self._parts[step] for step in steps]),
                    tuple(sorted(steps)),
                    steps,
                ),
            )


def _before(parts: list[Part]) -> list[set[int]]:
    """For each part those that must be in a set before it: its extras, and one that is alike and less bad to lose."""
    tied = {extra for part in parts for extra in part.rest}
    number_of = {part: number for number, part in enumerate(parts)}
    last: dict[object, int] = {}
    before = []
    for number, part in enumerate(parts):
        first = {number_of[extra] for extra in part.rest if extra in number_of}
        # An extra without which its minimum can't go is alike to its own kin alone.
        kind = (_kind(part), part.workload.name if part in tied else "")
        if kind in last:
            first.add(last[kind])
        last[kind] = number
        before.append(first)
    return before


def _kind(part: Part) -> object:
    """Equal for parts that free the same, for the same queue, at the same price but for time and name."""
    if part.rest:
        return part
    whole = all(milli == 1000 for held in part.helds for _, milli in held.devices)
    frees = tuple(
        (
            held.row,
            held.cpu,
            held.memory,
            held.extended,
            len(held.devices) if whole and not held.slices else held.devices,
            held.slices,
            held.tied,
        )
        for held in part.helds
    )
    return (part.account.index, part.workload.priority, part.core, frees, whole)
