"""Who waits in a simple queue: in the order of arrival, and with those of the same wishes together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Rank = tuple[int, ...]


T = TypeVar("T")


class Line(Generic[T]):
    """Those who wait, by rank (smaller first). Equal wishes are looked at once: where one has no room, neither have the others."""

    def __init__(self) -> None:
        self._by_wish: dict[Hashable, deque[tuple[Rank, T]]] = {}
        self._vain: set[Hashable] = set()  # wishes that had no room; cleared when room may have come

    def __len__(self) -> int:
        return sum(map(len, self._by_wish.values()))

    def join(self, rank: Rank, wish: Hashable, work: T) -> None:
        """One more waits. rank: unique."""
        row = self._by_wish.setdefault(wish, deque())
        if not row or row[-1][0] < rank:
            row.append((rank, work))
            return
        later: deque[tuple[Rank, T]] = deque()
        while row and row[-1][0] > rank:
            later.appendleft(row.pop())
        row.append((rank, work))
        row += later

    def room_came(self) -> None:
        """Whoever had no room may have some now."""
        self._vain.clear()

    def serve(self, start: Callable[[T], bool], *, strict: bool) -> None:
        """Start who can be, in order; strict: nobody passes one who can't."""
        heads = [(row[0][0], wish) for wish, row in self._by_wish.items() if row and wish not in self._vain]
        if strict:
            heads = [(row[0][0], wish) for wish, row in self._by_wish.items() if row]
        order = sorted((rank, number) for number, (rank, _) in enumerate(heads))
        wishes = [wish for _, wish in heads]
        heapify(order)
        while order:
            _, number = heappop(order)
            wish = wishes[number]
            row = self._by_wish[wish]
            if wish in self._vain or not start(row[0][1]):
                self._vain.add(wish)
                if strict:
                    return
                continue
            row.popleft()
            if row:
                heappush(order, (row[0][0], number))
            else:
                del self._by_wish[wish]
