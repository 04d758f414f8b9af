"""The quota tree while a decision is made: what each queue may hold, holds and wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Share
from gpumax.model.queue import Queue
from gpumax.policy.share import Claim, divide, quota_cut
from gpumax.units import MILLI, UNLIMITED, format_count, format_memory

Vector = Sequence[int]
"""Milli-devices, millicores, MiB: in the order of RESOURCES."""

NOTHING: Vector = (0, 0, 0)
UNITS = (MILLI, 1, 1)
"""The size in which over-quota is dealt, a resource."""


class Account:
    """One queue. Vectors are in the order of RESOURCES; `fixed` is what non-preemptible work holds.

    allowed: what its use is measured against: the larger of quota and share, within its limit and the cluster.
    """

    __slots__ = (
        "allocated", "allowed", "children", "demand", "fixed", "index", "limit", "parent", "path", "queue", "quota", "share", "usage", "weight"
    )  # fmt: skip

    def __init__(self, index: int, queue: Queue) -> None:
        self.index = index
        self.queue = queue
        self.parent: Account | None = None
        self.path: tuple[Account, ...] = (self,)  # from here to the root
        self.children: list[Account] = []
        self.quota: Vector = queue.quota.vector()
        self.limit: Vector = queue.limit.vector()
        self.weight: Vector = queue.weight.vector()
        self.usage: Vector = queue.usage.vector()
        self.share: list[int] = [0, 0, 0]
        self.allocated: list[int] = [0, 0, 0]
        self.fixed: list[int] = [0, 0, 0]
        self.demand: list[int] = [0, 0, 0]
        self.allowed: Vector = (0, 0, 0)  # set with the share

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.queue.name

    def want(self, resource: int) -> int:
        """What it could use: the demand of all work below it, within its limit."""
        return min(self.limit[resource], self.demand[resource])


class Tree:
    """All queues. Parents exist and form no cycle: the snapshot was checked when it was read."""

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        self.accounts = {queue.name: Account(index, queue) for index, queue in enumerate(queues)}
        for account in self.accounts.values():
            if account.queue.parent is not None:
                account.parent = self.accounts[account.queue.parent]
                account.parent.children.append(account)
        self.roots = [account for account in self.accounts.values() if account.parent is None]
        for account in self.accounts.values():
            above = account.parent
            while above is not None:
                account.path = (*account.path, above)
                above = above.parent

    def copy(self) -> Tree:
        """A tree of its own that starts like this one."""
        other = Tree(tuple([account.queue for account in self.accounts.values()]))
        for mine, theirs in zip(self.accounts.values(), other.accounts.values(), strict=True):
            theirs.share, theirs.allocated = mine.share.copy(), mine.allocated.copy()
            theirs.fixed, theirs.demand = mine.fixed.copy(), mine.demand.copy()
            theirs.allowed = mine.allowed
        return other

    def add(self, leaf: Account, amounts: Vector, *, fixed: Vector = NOTHING, sign: int = 1) -> None:
        """Count what tasks hold, from their leaf to the root. fixed: how much of it is never evicted."""
        for account in leaf.path:
            _count(account.allocated, amounts, sign)
            if fixed is not NOTHING:
                _count(account.fixed, fixed, sign)

    def want(self, leaf: Account, amounts: Vector, *, sign: int = 1) -> None:
        """Count what work holds or waits for as demand, from its leaf to the root."""
        for account in leaf.path:
            _count(account.demand, amounts, sign)

    def divide(self, capacity: Vector, fairness_k: int) -> list[str]:
        """Set every share; demand must be there. Returns a sentence for each level whose quotas had to be cut."""
        warnings: list[str] = []
        _divide(self.roots, capacity, fairness_k, "the cluster", warnings)
        for account in self.accounts.values():
            most = map(min, account.limit, map(max, account.quota, account.share))
            account.allowed = tuple(
                [amount if amount < UNLIMITED else all_ for amount, all_ in zip(most, capacity, strict=True)]
            )
        return warnings

    def rows(self) -> Iterable[Share]:
        """The shares as the decision reports them; call it before anything is placed."""
        for account in self.accounts.values():
            for position, resource in enumerate(RESOURCES):
                yield Share(
                    account.name, resource, account.quota[position], account.share[position],
                    account.allocated[position], account.demand[position],
                )  # fmt: skip


def _count(sums: list[int], amounts: Vector, sign: int) -> None:
    sums[0] += sign * amounts[0]
    sums[1] += sign * amounts[1]
    sums[2] += sign * amounts[2]


def claims_of(siblings: list[Account], position: int) -> list[Claim]:
    """Each queue's side of the division of one resource."""
    return [
        Claim(
            account.name, account.quota[position], account.want(position),
            account.weight[position], account.queue.priority,
            account.queue.created_ms, account.usage[position],
        )
        for account in siblings
    ]  # fmt: skip


def _divide(
    siblings: list[Account], capacity: Vector, fairness_k: int, owner: str, warnings: list[str]
) -> None:
    for position, resource in enumerate(RESOURCES):
        claims = claims_of(siblings, position)
        if quota_cut(capacity[position], claims):
            written = sum(min(claim.quota, claim.want) for claim in claims)
            say = format_memory if resource == "memory" else format_count
            warnings.append(
                f"quotas of {resource} in {owner} exceed what there is ({say(written)} of "
                f"{say(capacity[position])}): cut by priority, then in proportion"
            )
        shares = divide(capacity[position], claims, unit=UNITS[position], fairness_k=fairness_k)
        for account, share in zip(siblings, shares, strict=True):
            account.share[position] = share
    for account in siblings:
        if account.children:
            _divide(account.children, account.share, fairness_k, f"queue {account.name}", warnings)
