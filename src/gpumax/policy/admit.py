"""What the queue says before any node is looked at: limits, and quota for non-preemptible work."""

from __future__ import annotations

from typing import NamedTuple

from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import HoldCode
from gpumax.policy.tree import Account, Vector


class Barrier(NamedTuple):
    """The queue that forbids it, why, and by how much it would be exceeded."""

    code: HoldCode
    account: Account
    resource: int
    bound: int
    used: int
    excess: dict[str, int]


def barrier(leaf: Account, amounts: Vector, *, fixed: bool) -> Barrier | None:
    """The first thing on the way to the root that forbids the amounts; None where nothing does. fixed: of work that is never evicted."""
    for account in leaf.path:
        found = _over("OverLimit", account, account.limit, account.allocated, amounts)
        if found is None and fixed:
            found = _over("OverQuotaNonPreemptible", account, account.quota, account.fixed, amounts)
        if found is not None:
            return found
    return None


def over_quota(leaf: Account, amounts: Vector) -> Barrier | None:
    """The first queue on the way to the root whose quota non-preemptible work of these amounts would exceed."""
    for account in leaf.path:
        found = _over("OverQuotaNonPreemptible", account, account.quota, account.fixed, amounts)
        if found is not None:
            return found
    return None


def exceeds(bounds: Vector, used: Vector, amounts: Vector) -> bool:
    """Whether more of a resource would be used than may be. Written out, as it is asked of each queue above each gang."""
    gpu, cpu, memory = amounts
    return (
        (gpu > 0 and used[0] + gpu > bounds[0])
        or (cpu > 0 and used[1] + cpu > bounds[1])
        or (memory > 0 and used[2] + memory > bounds[2])
    )


def _over(
    code: HoldCode, account: Account, bounds: Vector, used: list[int], amounts: Vector
) -> Barrier | None:
    if not exceeds(bounds, used, amounts):
        return None
    over = {
        resource: used[resource] + amounts[resource] - bounds[resource]
        for resource in range(3)
        if amounts[resource] > 0 and used[resource] + amounts[resource] > bounds[resource]
    }
    first = next(iter(over))
    excess: dict[str, int] = {RESOURCES[resource]: amount for resource, amount in over.items()}
    return Barrier(code, account, first, bounds[first], used[first], excess)
