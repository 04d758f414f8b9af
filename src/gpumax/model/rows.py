"""Rows known by identity: they are frozen, so one that is the same object as before has not changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import is_not
from typing import Any, Final, TypeVar

Row = TypeVar("Row")

FEW: Final = 64
"""Changes that are looked for one by one, and one more for each so many rows; where there are more, the rest is told apart as a whole."""
AHEAD: Final = 8
"""How far is looked for where what is alike goes on."""


class _Memory:
    """Two tuples and their difference: many ask for the same one after the other."""

    last: tuple[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]] | None = None


_MEMORY: Final = _Memory()


def difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """What has gone and what has come, each in its order. No object is there twice."""
    if before is after:
        return (), ()
    last = _MEMORY.last
    if last is None or last[0] is not before or last[1] is not after:
        gone, come = _difference(before, after)
        if type(before) is not tuple or type(after) is not tuple:
            return gone, come  # somebody may change them
        last = _MEMORY.last = (before, after, tuple(gone), tuple(come))
    return last[2], last[3]


def _difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    gone: list[Row] = []
    come: list[Row] = []
    old, new = iter(before), iter(after)
    at, to = 0, 0  # where these stand
    for _ in range(FEW + len(before) // FEW):
        # What is alike is passed over without a look at each.
        same = next(compress(count(), map(is_not, old, new)), None)
        if same is None:
            alike = min(len(before) - at, len(after) - to)
            at, to = at + alike, to + alike
            break
        at, to = at + same, to + same
        lost, won = _apart(before, after, at, to)
        gone += before[at : at + lost]
        come += after[to : to + won]
        # Of each side the first was taken to compare them; where it is alike to one behind, so is that.
        for _ in range(1 if lost else 0, won):
            next(new)
        for _ in range(1 if won else 0, lost):
            next(old)
        alike = 0 if lost and won else 1
        at, to = at + lost + alike, to + won + alike
    gone += before[at:]
    come += after[to:]
    if gone and come:
        was, now = set(map(id, gone)), set(map(id, come))
        gone = [row for row in gone if id(row) not in now]
        come = [row for row in come if id(row) not in was]
    return gone, come


def _apart(before: Sequence[object], after: Sequence[object], at: int, to: int) -> tuple[int, int]:
    """How many rows are to be passed over on each side until what is alike goes on."""
    lost, won = before[at : at + AHEAD], after[to : to + AHEAD]
    for ahead in range(1, max(len(lost), len(won))):
        if ahead < len(won) and won[ahead] is lost[0]:
            return 0, ahead
        if ahead < len(lost) and lost[ahead] is won[0]:
            return ahead, 0
        if ahead < min(len(lost), len(won)) and lost[ahead] is won[ahead]:
            return ahead, ahead
    return 1, 1
