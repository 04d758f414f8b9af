"""Rows of a snapshot as they change one by one."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")

FEW: Final = 16
"""Where more than one of so many names is new or gone, all are sorted anew."""


class Table(Generic[Row]):
    """Rows by name. What is equal stays the same object, and so does the tuple of all of them."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._names: list[str] = []  # sorted, of the rows that `_all` has
        self._all: tuple[Row, ...] | None = ()
        self._moved: set[str] = set()  # names that came or went since

    def get(self, name: str) -> Row | None:
        """The row of that name."""
        return self._rows.get(name)

    def put(self, name: str, row: Row | None) -> None:
        """The row as it is now; None where there is none any more."""
        before = self._rows.get(name)
        if row == before:
            return
        if row is None:
            del self._rows[name]
        else:
            self._rows[name] = row
        if row is None or before is None:
            self._moved ^= {name}
        self._all = None

    def all(self) -> tuple[Row, ...]:
        """All rows in the order of their names."""
        if self._all is None:
            self._sort()
            self._all = tuple(map(self._rows.__getitem__, self._names))
        return self._all

    def _sort(self) -> None:
        if FEW * len(self._moved) > len(self._names):
            self._names = sorted(self._rows)
        else:
            for name in self._moved:
                at = bisect_left(self._names, name)
                if name in self._rows:
                    self._names.insert(at, name)
                else:
                    del self._names[at]
        self._moved = set()
