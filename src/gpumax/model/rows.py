"""Rows known by identity: they are frozen, so one that is the same object as before has not changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, count
from operator import is_not
from typing import TypeVar

Row = TypeVar("Row")


def difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """What has gone and what has come, each in its order. No object is there twice.

    One row that came, went or changed costs no more than a look at what is alike before and behind it.
    """
    if before is after:
        return (), ()
    shorter = min(len(before), len(after))
    first = _alike(before, after, shorter)
    last = _alike(reversed(before), reversed(after), shorter - first)
    gone, come = before[first : len(before) - last], after[first : len(after) - last]
    if gone and come:
        old, new = set(map(id, gone)), set(map(id, come))
        gone = [row for row in gone if id(row) not in new]
        come = [row for row in come if id(row) not in old]
    return gone, come


def _alike(some: Iterable[object], others: Iterable[object], most: int) -> int:
    """How many of the first are the same objects."""
    return min(most, next(compress(count(), map(is_not, some, others)), most))
