"""Who stands where, as far as tasks are tied to each other: the columns of `ties`, counted for one room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from gpumax.policy.ties import Domains, Tied, Ties

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_COLUMNS: Final[frozenset[int]] = frozenset()


class Counted:
    """What the domains have of one column; those that are left out have nothing. somewhere: the nodes of the others, made
    when somebody asks, and kept up from then on.
    """

    __slots__ = ("_somewhere", "by")

    def __init__(self) -> None:
        self.by: dict[int, int] = {}
        self._somewhere: Bools | None = None

    def copy(self) -> Counted:
        """One of its own that starts like this one."""
        other = Counted()
        other.by = self.by.copy()
        other._somewhere = None if self._somewhere is None else self._somewhere.copy()
        return other

    def add(self, domains: Domains, domain: int, amount: int) -> None:
        """Count more in a domain, or less."""
        before = self.by.get(domain, 0)
        after = before + amount
        self.by[domain] = after
        if self._somewhere is not None and (before > 0) != (after > 0):
            self._somewhere[domains.rows[domain]] = after > 0

    def somewhere(self, domains: Domains) -> Bools:
        """The nodes in whose domain there is anybody. Not to be written on."""
        if self._somewhere is None:
            there = np.zeros(len(domains.rows) + 1, np.bool_)  # the last one: of nodes without a domain
            there[[domain for domain, amount in self.by.items() if amount > 0]] = True
            self._somewhere = there[domains.row_domains]
        return self._somewhere

    def weights(self, domains: Domains) -> Ints:
        """For each node what its domain has."""
        there = np.zeros(len(domains.rows) + 1, np.int64)
        there[list(self.by)] = list(self.by.values())
        return there[domains.row_domains]


Columns = dict[int, Counted]
"""By column; one that is left out is empty."""


class Crowd:
    """What each domain has of each column.

    most: with those who are leaving and those who are to come; least: without either. In a room from which nobody is yet
    to leave both are the same. soon: in all domains together, once everybody has left and come.

    Copies share what they have until one of them counts. mine: the columns that are not shared; None: nothing is its own.
    """

    __slots__ = ("_mine", "least", "most", "soon", "ties")

    def __init__(self, ties: Ties) -> None:
        self.ties = ties
        self.most: Columns = {}
        self.least: Columns = self.most
        self.soon: dict[int, int] = {}
        self._mine: set[int] | None = set()

    def copy(self) -> Crowd:
        """A crowd of its own that starts like this one."""
        other = object.__new__(Crowd)
        other.ties, other.most, other.least, other.soon = self.ties, self.most, self.least, self.soon
        other._mine = self._mine = None
        return other

    def _own(self, *, apart: bool = False) -> set[int]:
        """Share nothing but columns any more. apart: `most` and `least` are to differ. Returns the columns that are its own."""
        if self._mine is None:
            one = self.least is self.most
            self.most, self.soon = self.most.copy(), self.soon.copy()
            self.least = self.most if one else self.least.copy()
            self._mine = set()
        if apart and self.least is self.most:
            self.least, self._mine = self.most.copy(), set()
        return self._mine

    def count(self, tied: Tied, row: int, sign: int = 1) -> None:
        """A task that is there (1), or has gone (-1)."""
        self._own()
        self._add(tied, row, sign, sign, sign)

    def count_all(self, tasks: Iterable[tuple[Tied, int]], sign: int) -> None:
        """`count` for many tasks at once."""
        for (tied, row), number in Counter(tasks).items():
            self.count(tied, row, sign * number)

    def expect(self, tied: Tied, row: int) -> None:
        """A task that comes when others have left."""
        self._own(apart=True)
        self._add(tied, row, 1, 0, 1)

    def leave(self, tied: Tied, row: int, sign: int = 1) -> None:
        """A task that is there and will be gone; sign -1: that is to stay after all."""
        self._own(apart=True)
        self._add(tied, row, 0, -sign, -sign)

    def hide(self, tied: Tied, row: int, sign: int = 1) -> None:
        """Count a task that leaves as gone, for its own new place; sign -1: no more."""
        self._own(apart=True)
        self._add(tied, row, -sign, 0, 0)

    def miss(self, tied: Tied, row: int, sign: int = 1) -> None:
        """A task that was counted as there, and comes later; sign -1: that is there after all."""
        self._own(apart=True)
        self._add(tied, row, 0, -sign, 0)

    def cap(self, other: Crowd) -> None:
        """Keep away what the other crowd keeps away, too."""
        self._own(apart=True)
        for number, there in other.most.items():
            both = Counted()
            here = self.most[number].by if number in self.most else {}
            both.by = {
                domain: max(here.get(domain, 0), there.by.get(domain, 0)) for domain in here.keys() | there.by
            }
            self.most[number] = both

    def welcomes(self, tied: Tied, coming: frozenset[int] = NO_COLUMNS) -> Bools:
        """The nodes on which a task may stand. coming: columns that those bring who are to be placed with it.

        Not to be written on.
        """
        return self.open(tied) & self.near(tied, coming) if tied.needs else self.open(tied)

    def open(self, tied: Tied) -> Bools:
        """The nodes where nobody keeps a task away, whomever it needs. Not to be written on."""
        return self.empty(tied.shuns)

    def near(self, tied: Tied, coming: frozenset[int] = NO_COLUMNS) -> Bools:
        """The nodes where those stand whom a task needs; the first of its kind may stand wherever there is a domain."""
        mask = np.ones(self.ties.size, np.bool_)
        first = not any(self.soon.get(number, 0) for number in tied.needs)
        first = first and (tied.own or coming.issuperset(tied.needs))
        for number in tied.needs:
            there, domains = self.least.get(number), self.ties.domains[number]
            if first:
                mask &= domains.row_domains >= 0
            elif there is None:
                mask[:] = False
            else:
                mask &= there.somewhere(domains)
        return mask

    def empty(self, numbers: Iterable[int]) -> Bools:
        """The nodes in whose domains there is nobody of these columns. Not to be written on."""
        mask = self.ties.everywhere
        for number in numbers:
            there = self.most.get(number)
            if there is not None:
                mask = mask & ~there.somewhere(self.ties.domains[number])
        return mask

    def likes(self, tied: Tied) -> Ints | None:
        """How much each node draws a task; None where there is no difference."""
        found: Ints | None = None
        for number, weight in tied.likes:
            there = self.least.get(number)
            if there is not None:
                drawn = weight * there.weights(self.ties.domains[number])
                found = drawn if found is None else found + drawn
        return None if found is None or (found == found[0]).all() else found

    def shunned(self, tied: Tied, row: int) -> list[int]:
        """The columns that keep a task, which is not counted yet, off a node."""
        return [number for number in tied.shuns if self.at(self.most, number, row) > 0]

    def meets(self, tied: Tied, row: int) -> bool:
        """Whether a task that is not counted yet has on a node all whom it needs."""
        return all(self.at(self.least, number, row) > 0 for number in tied.needs)

    def clashes(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node is kept off it by another."""
        mine = tied.amounts
        return any(self.at(self.most, number, row) > mine.get(number, 0) for number in tied.shuns)

    def lonely(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node lacks whom it needs there."""
        mine = tied.amounts  # it stands where there are domains for all that it needs
        for number in tied.needs:
            if self.at(self.least, number, row) <= mine.get(number, 0):
                return not self.first(tied, row)
        return False

    def first(self, tied: Tied, row: int) -> bool:
        """Whether a task that is counted on a node is alone of its kind, and so needs nobody."""
        mine = {number: amount for number, amount in tied.brings if self.ties.domains[number].of[row] >= 0}
        return tied.own and not any(self.soon.get(number, 0) > mine.get(number, 0) for number in tied.needs)

    def at(self, columns: Columns, number: int, row: int) -> int:
        """What a column has at a row."""
        there = columns.get(number)
        return 0 if there is None else there.by.get(self.ties.domains[number].of[row], 0)

    def _add(self, tied: Tied, row: int, most: int, least: int, soon: int) -> None:
        """Count what a task brings so many times in each."""
        mine = self._own()
        one = self.least is self.most
        for number, domain, amount in self.ties.adds(tied, row):
            if number not in mine:
                mine.add(number)
                for columns in (self.most,) if one else (self.most, self.least):
                    columns[number] = columns[number].copy() if number in columns else Counted()
            if most:
                self.most[number].add(self.ties.domains[number], domain, most * amount)
            if least and not one:
                self.least[number].add(self.ties.domains[number], domain, least * amount)
            if soon:
                self.soon[number] = self.soon.get(number, 0) + soon * amount
