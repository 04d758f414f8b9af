"""Who is next: a queue of queues.

Every queue offers its head workload to its parent; the parent offers the head of its best child. A key depends on the
queue and its head alone, never on siblings, so each level is a heap and a change touches one path to the root.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from gpumax.policy.gang import Gang, Key
from gpumax.policy.tree import Account, Vector

SiblingKey = tuple[bool, bool, int, bool, float, float, int, int, int, int, str]

NO_SHARE_WEIGHT: Final = 1000
"""Relative use of a queue that may hold nothing is what it holds times this, so that it compares as far over."""


class Order:
    """Waiting gangs in the order in which they are served. A gang that is popped must be pushed again to come back."""

    def __init__(self, gangs: list[Gang]) -> None:
        self._root = _Level(None)
        self._levels: dict[int, _Level] = {}
        for gang in gangs:
            self._level(gang.account).gangs.append((gang.key(), gang))
        for level in self._levels.values():
            level.gangs.sort(key=lambda entry: entry[0], reverse=True)
        for level in list(self._levels.values()):
            if level.gangs:
                self._refresh(level.account)

    def pop(self) -> Gang | None:
        """The next gang; None at the end."""
        level = self._root
        while not level.gangs:
            child = level.best()
            if child is None:
                return None
            level = child
        return level.gangs.pop()[1]

    def done(self, gang: Gang, *, again: bool) -> None:
        """The popped gang was dealt with and its queue's use may have changed; `again`: it has more to place."""
        level = self._levels[gang.account.index]
        if again:
            _insert(level.gangs, gang)
        self._refresh(gang.account)

    def alike(self, gang: Gang) -> list[Gang]:
        """Those who ask what the popped gang asked and would be popped right after it if nothing changes: they don't come any more.

        To be asked before the gang is done with.
        """
        gangs, like, found = self._levels[gang.account.index].gangs, gang.like(), []
        while gangs and gangs[-1][1].like() == like:
            found.append(gangs.pop()[1])
        return found

    def _level(self, account: Account) -> _Level:
        level = self._levels.get(account.index)
        if level is None:
            level = self._levels[account.index] = _Level(account)
        return level

    def _refresh(self, account: Account | None) -> None:
        """Offer the queue's head to its parent anew, and so up to the root."""
        while account is not None:
            level = self._level(account)
            above = self._root if account.parent is None else self._level(account.parent)
            head = level.head()
            key = None if head is None else level.key(account, head.asked())
            if key != level.offered:
                level.stamp += 1
                level.offered = key
                if key is not None:
                    heappush(above.offers, (key, level.stamp, account.index, level))
            account = account.parent


class _Level:
    """One queue's side: its own gangs, last is next, or its children's offers; stale offers are dropped when met."""

    __slots__ = ("_held", "_known", "account", "gangs", "offered", "offers", "stamp")

    def __init__(self, account: Account | None) -> None:
        self.account = account
        self.gangs: list[tuple[Key, Gang]] = []
        self.offers: list[tuple[SiblingKey, int, int, _Level]] = []
        self.stamp = 0
        self.offered: SiblingKey | None = None  # the key of the offer that counts
        self._known: dict[Vector, SiblingKey] = {}  # by what the head asks, as long as the queue holds this
        self._held: list[int] = []

    def key(self, account: Account, head: Vector) -> SiblingKey:
        """Its place among its siblings with this head; looked up where neither has changed."""
        if self._held != account.allocated:
            self._held, self._known = account.allocated.copy(), {}
        known = self._known.get(head)
        if known is None:
            known = self._known[head] = sibling_key(account, head)
        return known

    def best(self) -> _Level | None:
        """The child whose offer is first."""
        while self.offers:
            _, stamp, _, child = self.offers[0]
            if stamp == child.stamp:
                return child
            heappop(self.offers)
        return None

    def head(self) -> Gang | None:
        """The next gang at or below this queue."""
        level: _Level | None = self
        while level is not None:
            if level.gangs:
                return level.gangs[-1][1]
            level = level.best()
        return None


def _insert(gangs: list[tuple[Key, Gang]], gang: Gang) -> None:
    """Put a gang back in its place; the last is next."""
    key = gang.key()
    first, end = 0, len(gangs)
    while first < end:
        middle = (first + end) // 2
        if gangs[middle][0] < key:
            end = middle
        else:
            first = middle + 1
    gangs.insert(first, (key, gang))


def sibling_key(account: Account, head: Vector) -> SiblingKey:
    """The order among siblings, first difference wins (policy.md, "Who is next")."""
    over = beyond = shareless = False
    added = alone = 0.0
    share, queue = account.share, account.queue
    for held, asked, cap, due, quota in zip(
        account.allocated, head, account.allowed, share, account.quota, strict=True
    ):
        if asked > 0:
            over = over or held > due
            beyond = beyond or held + asked > quota
            shareless = shareless or cap == 0
        # A quotient of integers: equal parts are equal floats.
        now, then = (held / cap, (held + asked) / cap) if cap > 0 else _shareless(held, asked)
        added = then if then > added else added
        alone = now if now > alone else alone
    return (
        over, beyond, -queue.priority, shareless, added, alone, share[0], share[1], share[2], queue.created_ms, queue.name
    )  # fmt: skip


def _shareless(held: int, asked: int) -> tuple[float, float]:
    return float(held * NO_SHARE_WEIGHT), float((held + asked) * NO_SHARE_WEIGHT)
