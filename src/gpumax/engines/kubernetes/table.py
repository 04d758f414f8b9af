"""Rows of a snapshot as they change one by one."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")

FEW: Final = 16
"""Where more than one of so many rows has changed, all are sorted anew."""


class Table(Generic[Row]):
    """Rows by name. What is equal stays the same object, and so does the tuple of all of them."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._changed: set[str] = set()  # names of rows that came, went or changed since all were asked for
        # As they were then, in the order of their names.
        self._names: list[str] = []
        self._sorted: list[Row] = []
        self._all: tuple[Row, ...] = ()

    def get(self, name: str) -> Row | None:
        """The row of that name."""
        return self._rows.get(name)

    def put(self, name: str, row: Row | None) -> None:
        """The row as it is now; None where there is none any more."""
        if row == self._rows.get(name):
            return
        if row is None:
            del self._rows[name]
        else:
            self._rows[name] = row
        self._changed.add(name)

    def all(self) -> tuple[Row, ...]:
        """All rows in the order of their names."""
        if self._changed:
            if FEW * len(self._changed) > len(self._names):
                self._names = sorted(self._rows)
                self._sorted = [self._rows[name] for name in self._names]
            else:
                for name in self._changed:
                    self._place(name)
            self._changed = set()
            self._all = tuple(self._sorted)
        return self._all

    def _place(self, name: str) -> None:
        at, row = bisect_left(self._names, name), self._rows.get(name)
        known = at < len(self._names) and self._names[at] == name
        self._names[at : at + known] = [name] if row is not None else []
        self._sorted[at : at + known] = [row] if row is not None else []
