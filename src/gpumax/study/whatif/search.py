"""The smallest number of nodes that will do, by doubling and halving."""

from __future__ import annotations

from collections.abc import Callable


def smallest(meets: Callable[[int], bool], start: int, most: int, hopeless: Callable[[], bool]) -> int | None:
    """The smallest number from 1 to `most` that meets, where every larger one does, too; None where none is found.

    start: what is tried first. hopeless: asked after a failure whether larger ones can't do better. Finds a number of which the one
    below doesn't meet, however the others are. Its neighbour above is tried, too, so that a reader sees how it goes on.
    """
    low, high = 0, start
    while not meets(high):
        if high >= most or hopeless():
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if meets(middle):
            high = middle
        else:
            low = middle
    if high < most:
        meets(high + 1)
    return high
