"""Who stands where, as far as tasks are tied to each other: the columns of `ties`, counted for one room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from gpumax.policy.ties import Tied, Ties

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Columns = dict[int, Ints]
"""By column, for each row what its domain has; a column that is left out is empty. Arrays are shared and never written on."""

NO_COLUMNS: Final[frozenset[int]] = frozenset()


class Crowd:
    """What each domain has of each column.

    most: with those who are leaving and those who are to come; least: without either. In a room from which nobody is yet
    to leave both are the same. soon: in all domains together, once everybody has left and come.
    """

    __slots__ = ("least", "most", "soon", "ties")

    def __init__(self, ties: Ties) -> None:
        self.ties = ties
        self.most: Columns = {}
        self.least: Columns = {}
        self.soon: dict[int, int] = {}

    def copy(self) -> Crowd:
        """A crowd of its own that starts like this one."""
        other = Crowd(self.ties)
        other.most, other.least, other.soon = dict(self.most), dict(self.least), dict(self.soon)
        return other

    def count(self, tied: Tied, row: int, sign: int = 1) -> None:
        """A task that is there (1), or has gone (-1)."""
        self._add(self.most, tied, row, sign)
        self._add(self.least, tied, row, sign)
        self._sum(tied, row, sign)

    def count_all(self, tasks: Iterable[tuple[Tied, int]], sign: int) -> None:
        """`count` for many tasks at once."""
        for (tied, row), number in Counter(tasks).items():
            self.count(tied, row, sign * number)

    def expect(self, tied: Tied, row: int) -> None:
        """A task that comes when others have left."""
        self._add(self.most, tied, row, 1)
        self._sum(tied, row, 1)

    def leave(self, tied: Tied, row: int, sign: int = 1) -> None:
        """A task that is there and will be gone; sign -1: that is to stay after all."""
        self._add(self.least, tied, row, -sign)
        self._sum(tied, row, -sign)

    def hide(self, tied: Tied, row: int, sign: int = 1) -> None:
        """Count a task that leaves as gone, for its own new place; sign -1: no more."""
        self._add(self.most, tied, row, -sign)

    def cap(self, other: Crowd) -> None:
        """Keep away what the other crowd keeps away, too."""
        for number, there in other.most.items():
            here = self.most.get(number)
            self.most[number] = there if here is None else np.maximum(here, there)

    def welcomes(self, tied: Tied, coming: frozenset[int] = NO_COLUMNS) -> Bools:
        """The nodes on which a task may stand. coming: columns that those bring who are to be placed with it."""
        return self.open(tied) & self.near(tied, coming) if tied.needs else self.open(tied)

    def open(self, tied: Tied) -> Bools:
        """The nodes where nobody keeps a task away, whomever it needs."""
        return self.empty(tied.shuns)

    def near(self, tied: Tied, coming: frozenset[int] = NO_COLUMNS) -> Bools:
        """The nodes where those stand whom a task needs; the first of its kind may stand wherever there is a domain."""
        mask = np.ones(self.ties.size, np.bool_)
        first = not any(self.soon.get(number, 0) for number in tied.needs)
        first = first and (tied.own or coming.issuperset(tied.needs))
        for number in tied.needs:
            there = self.least.get(number)
            if first:
                mask &= np.array(self.ties.domains[number].of, np.int64) >= 0
            elif there is None:
                mask[:] = False
            else:
                mask &= there > 0
        return mask

    def empty(self, numbers: Iterable[int]) -> Bools:
        """The nodes in whose domains there is nobody of these columns."""
        mask = np.ones(self.ties.size, np.bool_)
        for number in numbers:
            there = self.most.get(number)
            if there is not None:
                mask &= there <= 0
        return mask

    def likes(self, tied: Tied) -> Ints | None:
        """How much each node draws a task; None where there is no difference."""
        found: Ints | None = None
        for number, weight in tied.likes:
            there = self.least.get(number)
            if there is not None:
                found = weight * there if found is None else found + weight * there
        return None if found is None or (found == found[0]).all() else found

    def shunned(self, tied: Tied, row: int) -> list[int]:
        """The columns that keep a task, which is not counted yet, off a node."""
        return [number for number in tied.shuns if self.at(self.most, number, row) > 0]

    def clashes(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node is kept off it by another."""
        mine = dict(tied.brings)
        return any(self.at(self.most, number, row) > mine.get(number, 0) for number in tied.shuns)

    def lonely(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node lacks whom it needs there."""
        mine = dict(tied.brings)  # it stands where there are domains for all that it needs
        if all(self.at(self.least, number, row) > mine.get(number, 0) for number in tied.needs):
            return False
        return not self.first(tied, row)

    def first(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node is alone of its kind, and so needs nobody."""
        mine = {number: amount for number, amount in tied.brings if self.ties.domains[number].of[row] >= 0}
        return tied.own and not any(self.soon.get(number, 0) > mine.get(number, 0) for number in tied.needs)

    def at(self, columns: Columns, number: int, row: int) -> int:
        """What a column has at a row."""
        there = columns.get(number)
        return 0 if there is None else int(there[row])

    def _add(self, columns: Columns, tied: Tied, row: int, sign: int) -> None:
        for number, amount in tied.brings:
            domains = self.ties.domains[number]
            domain = domains.of[row]
            if domain >= 0:
                before = columns.get(number)
                after = np.zeros(self.ties.size, np.int64) if before is None else before.copy()
                after[domains.rows[domain]] += sign * amount
                columns[number] = after

    def _sum(self, tied: Tied, row: int, sign: int) -> None:
        for number, amount in tied.brings:
            if self.ties.domains[number].of[row] >= 0:
                self.soon[number] = self.soon.get(number, 0) + sign * amount
