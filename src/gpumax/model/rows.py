"""Rows known by identity: they are frozen, so one that is the same object as before has not changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import is_not
from typing import Final, TypeVar

Row = TypeVar("Row")

FEW: Final = 24
"""Changes that are looked for one by one; where there are more, the rest is told apart as a whole."""


def difference(before: Sequence[Row], after: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """What has gone and what has come, each in its order. No object is there twice."""
    if before is after:
        return (), ()
    gone: list[Row] = []
    come: list[Row] = []
    for _ in range(FEW):
        same = next(compress(count(), map(is_not, before, after)), min(len(before), len(after)))
        old, new = before[same : same + 2], after[same : same + 2]
        if not old or not new:
            before, after = before[same:], after[same:]
            break
        lost, won = 1, 1
        if len(new) == 2 and new[1] is old[0]:
            lost = 0
        elif len(old) == 2 and old[1] is new[0]:
            won = 0
        gone += old[:lost]
        come += new[:won]
        before, after = before[same + lost :], after[same + won :]
    gone += before
    come += after
    if gone and come:
        was, now = set(map(id, gone)), set(map(id, come))
        gone = [row for row in gone if id(row) not in now]
        come = [row for row in come if id(row) not in was]
    return gone, come
