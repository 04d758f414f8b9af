"""Who can't go because others need them: the asker, or those who were placed before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gpumax.policy.ask import Ask
from gpumax.policy.held import Held
from gpumax.policy.ledger import Ledger
from gpumax.policy.ties import Ties
from gpumax.policy.victims import Part

_Spot = tuple[int, int]
"""A column, and one of its domains."""


class Needed:
    """Remembers who relies on whom, as long as nobody else is placed."""

    def __init__(self) -> None:
        self._needy: tuple[Held, ...] = ()
        self._relying: dict[_Spot, list[Held]] = {}

    def of(self, ledger: Ledger, parts: list[Part], ask: Ask, row: int) -> Part | None:
        """The worst to lose of those whom an ask needs at a node, or who was placed before it, where one of them would lack
        these once all of these parts have gone.
        """
        crowd, mine = ledger.later.crowd, ask.filter.tied
        going = [(held.tied, held.row) for part in parts for held in part.helds if held.tied is not None]
        if crowd is None or not going or not (ledger.needy or (mine is not None and mine.needs)):
            return None
        ties = crowd.ties
        spots = {spot for part in parts for spot in _brought(ties, part)}
        self._look(ties, ledger.needy)
        relying = {id(held): held for spot in spots for held in self._relying.get(spot, ())}
        asks = mine is not None and not spots.isdisjoint(_spots(ties, mine.needs, row))
        if not relying and not asks:
            return None
        crowd = crowd.copy()
        crowd.count_all(going, -1)
        lacking = [
            spot
            for held in relying.values()
            if held.tied is not None and crowd.lonely(held.tied, held.row)
            for spot in _spots(ties, held.tied.needs, held.row)
        ]
        if mine is not None and asks and not crowd.near(mine)[row]:
            lacking += _spots(ties, mine.needs, row)
        near = (part for part in parts if any(spot in lacking for spot in _brought(ties, part)))
        return max(near, key=lambda part: part.rank, default=None)

    def _look(self, ties: Ties, needy: tuple[Held, ...]) -> None:
        if needy is self._needy:
            return
        self._needy, self._relying = needy, {}
        for held in needy:
            for spot in _spots(ties, held.tied.needs if held.tied is not None else (), held.row):
                self._relying.setdefault(spot, []).append(held)


def _brought(ties: Ties, part: Part) -> Iterator[_Spot]:
    """Where a part adds to what."""
    for held in part.helds:
        if held.tied is not None:
            yield from _spots(ties, (column for column, _ in held.tied.brings), held.row)


def _spots(ties: Ties, columns: Iterable[int], row: int) -> Iterator[_Spot]:
    for column in columns:
        domain = ties.domains[column].of[row]
        if domain >= 0:
            yield column, domain
