"""Places for tasks that are tied to each other: who needs others comes after them, and where they can all be.

In turn, with whoever is tied to nobody who has yet to come first. Where that fails: in one domain after the other for those
who have to meet; at last, where nodes and tasks are few, every way there is, up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from gpumax.policy.ask import Choices
from gpumax.policy.crowd import NO_COLUMNS
from gpumax.policy.gang import Spot, Want
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools
from gpumax.policy.places import MOST_ROWS, MOST_TRIES, Laid, Places

MOST_MEETINGS: Final = 64
"""In how many domains it is tried to have tasks meet, for one chunk."""


def tied(wants: Iterable[Want]) -> bool:
    """Whether any of them is tied to other tasks."""
    return any(want.ask.filter.tied is not None for want in wants)


def needy(wants: Iterable[Want]) -> bool:
    """Whether any of them needs others around it."""
    return any(want.ask.filter.tied is not None and want.ask.filter.tied.needs for want in wants)


def brought(wants: Iterable[Want]) -> frozenset[int]:
    """The columns to which these add."""
    return frozenset(
        column
        for want in wants
        if want.ask.filter.tied is not None
        for column, _ in want.ask.filter.tied.brings
    )


class _Knot(NamedTuple):
    """Tasks that have to meet, and the columns by which they do."""

    columns: tuple[int, ...]
    wants: list[Want]


class Gather:
    """One search with one choice of alternatives, on these nodes."""

    def __init__(
        self, places: Places, choices: Choices, *, later: bool, within: Bools | None, coming: frozenset[int]
    ) -> None:
        self._places = places
        self._choices = choices
        self._later = later
        self._within = within
        self._coming = coming
        self._left = MOST_MEETINGS
        self.partial = bool(
            coming
        )  # whether others will be placed beside these, on whom it may depend who is kept

    def in_turn(
        self, trial: Ledger, order: list[Want], *, loose: bool = False, within: Bools | None = None
    ) -> list[Spot] | None:
        """Places in this order, but that whoever needs somebody who is still to be placed waits for them."""
        within = self._within if within is None else within
        pending, spots = list(order), list[Spot]()
        while pending:
            found = self._next(trial, pending, loose=loose, within=within)
            if found is None:
                return None
            spots.append(found)
            pending = [want for want in pending if want is not found.want]
        return spots

    def _next(self, trial: Ledger, pending: list[Want], *, loose: bool, within: Bools | None) -> Spot | None:
        for wait in (True, False):
            tried = set()
            for want in pending:
                if want.ask in tried:
                    continue
                tried.add(want.ask)
                others = NO_COLUMNS
                if not wait:
                    others = self._coming | brought(other for other in pending if other is not want)
                spot = self._places.spot(
                    trial, want, self._choices, later=self._later, loose=loose, within=within, coming=others
                )
                if spot is not None:
                    return spot
                if not needy((want,)):
                    return None  # what keeps it away only grows
        return None

    def meet(self, ledger: Ledger, order: list[Want]) -> Laid | None:
        """Those who have to meet in one domain after the other, the fullest first, then everybody else."""
        knots, rest = _knots(ledger, order)
        return self._untie(ledger, knots, rest) if knots else None

    def _untie(self, ledger: Ledger, knots: list[_Knot], rest: list[Want]) -> Laid | None:
        if not knots:
            trial = ledger.copy()
            spots = self.in_turn(trial, rest)
            return (trial, spots) if spots is not None and (self.partial or trial.kept()) else None
        knot, others = knots[0], knots[1:]
        for rows in self._meetings(ledger, knot):
            if self._left <= 0:
                return None
            self._left -= 1
            trial = ledger.copy()
            spots = self.in_turn(trial, knot.wants, within=rows)
            if spots is not None:
                found = self._untie(trial, others, rest)
                if found is not None:
                    return found[0], spots + found[1]
        return None

    def _meetings(self, ledger: Ledger, knot: _Knot) -> list[Bools]:
        """The nodes of each domain in which they could meet."""
        room = ledger.later if self._later else ledger.now
        assert room.crowd is not None
        domains = [room.crowd.ties.domains[column].of for column in knot.columns]
        together: dict[tuple[int, ...], list[int]] = {}
        for row, at in enumerate(zip(*domains, strict=True)):
            if min(at) >= 0 and (self._within is None or self._within[row]):
                together.setdefault(at, []).append(row)
        asked = sum(want.amounts[0] for want in knot.wants if want.amounts)
        free = {at: (int(room.gpus[rows].sum()), int(room.cpu[rows].sum())) for at, rows in together.items()}
        order = sorted(together, key=lambda at: (free[at], at))
        return [_only(together[at], room.cpu.size) for at in order if free[at][0] >= asked]

    def every_way(self, ledger: Ledger, order: list[Want]) -> Laid | None:
        """Whatever there is, where that can be looked through."""
        size = ledger.now.cpu.size
        rows = list(range(size)) if self._within is None else np.flatnonzero(self._within).tolist()
        if len(rows) > MOST_ROWS or len(order) > MOST_ROWS:
            return None
        self._left = MOST_TRIES
        ways = self._ways(ledger, order, rows, [])
        return next((laid for laid in ways if self.partial or laid[0].kept()), None)

    def _ways(self, ledger: Ledger, left: list[Want], rows: list[int], spots: list[Spot]) -> Iterator[Laid]:
        """Tasks that ask the same go to nodes in rising order, as it is all one which is which."""
        if not left:
            yield ledger, spots
            return
        # Where somebody needs others, it matters who comes first.
        asks = {want.ask: want for want in reversed(left)} if needy(left) else {left[0].ask: left[0]}
        for want in sorted(asks.values(), key=left.index):
            rest = [other for other in left if other is not want]
            coming = self._coming | brought(rest)
            alike = bool(spots) and spots[-1].want.ask is want.ask
            for row in rows:
                if self._left <= 0:
                    return
                if alike and row < spots[-1].held.row and not needy((want,)):
                    continue
                self._left -= 1
                trial, here = ledger.copy(), _only([row], ledger.now.cpu.size)
                spot = self._places.spot(
                    trial, want, self._choices, later=self._later, within=here, coming=coming
                )
                if spot is not None:
                    yield from self._ways(trial, rest, rows, [*spots, spot])


def _knots(ledger: Ledger, order: list[Want]) -> tuple[list[_Knot], list[Want]]:
    """Those who need somebody who is nowhere yet, with those who are needed; and the others."""
    crowd = ledger.later.crowd
    assert crowd is not None
    knots: dict[tuple[int, ...], list[Want]] = {}
    for want in order:
        mine = want.ask.filter.tied
        if mine is not None and mine.needs and not any(crowd.soon.get(column, 0) for column in mine.needs):
            knots.setdefault(mine.needs, [])
    rest: list[Want] = []
    for want in order:
        mine = want.ask.filter.tied
        adds = frozenset(column for column, _ in mine.brings) if mine is not None else NO_COLUMNS
        needs = mine.needs if mine is not None else ()
        at = next((columns for columns in knots if columns == needs or adds.issuperset(columns)), None)
        (rest if at is None else knots[at]).append(want)
    return [_Knot(columns, wants) for columns, wants in knots.items()], rest


def _only(rows: list[int], size: int) -> Bools:
    mask = np.zeros(size, np.bool_)
    mask[rows] = True
    return mask
