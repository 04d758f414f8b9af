"""Preempt: inside one queue, work of lower priority makes way for work of higher priority."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from gpumax.model.decision import Cause
from gpumax.policy.admit import over_quota
from gpumax.policy.gang import Gang, Want
from gpumax.policy.minimum import loose
from gpumax.policy.rights import Rights
from gpumax.policy.runtime import preempt_ms
from gpumax.policy.take import take
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally
from gpumax.policy.world import World


def preempt(world: World) -> None:
    """Serve waiting work at the cost of work in its own queue; what stays unserved stays in `world.waiting`."""
    if not world.held or not world.waiting:
        return
    lowest = _lowest(world)

    def could(gang: Gang) -> bool:
        return lowest.get(gang.workload.queue, gang.workload.priority) < gang.workload.priority

    take(world, lambda gang, wants: [Seniority(gang, wants)], [gang for gang in world.waiting if could(gang)])


def _lowest(world: World) -> dict[str, int]:
    """By queue in which work waits, the lowest priority of what may be evicted there."""
    asking = {gang.workload.queue for gang in world.waiting}
    lowest: dict[str, int] = {}
    for workload in world.snapshot.workloads:
        if workload.queue not in asking or workload.priority >= lowest.get(workload.queue, inf):
            continue
        if loose(workload):
            lowest[workload.queue] = workload.priority
    return lowest


class Seniority(Rights):
    """The rules of preempt (rule 7 of policy.md): strictly lower priority, same queue; limits hold when they have gone."""

    cause: ClassVar[Cause] = "preempt"
    weighs: ClassVar[bool] = False

    def __init__(self, gang: Gang, wants: list[Want]) -> None:
        super().__init__(gang, wants, gang.account.path)
        self.below = gang.workload.priority

    def eligible(self, gang: Gang) -> bool:
        """Victims hold none of the quota for non-preemptible work, so that has to have room as it is."""
        return not gang.fixed or over_quota(gang.account, self.asked) is None

    def key(self) -> object:
        """Equal for attempts that may take from the same parts by the same rules."""
        return (self.asker.index, self.below)

    def bound(self, account: Account, resource: int) -> int:
        """Its limit: what its own queue holds above its share is nobody's business here."""
        return account.limit[resource]

    def narrowed(self) -> tuple[Account | None, ...]:
        """All victims are in one queue."""
        return (None,)

    def may_be_asked(self, account: Account, kinds: tuple[int, ...]) -> bool:
        """Its own queue's work."""
        return account is self.asker

    def protected_ms(self, victim: Account) -> int:
        """Set at the queue, or else at the nearest above."""
        return preempt_ms(victim)

    def may_go(self, tally: Tally, part: Part) -> bool:
        """Always: what could be asked may go."""
        return True

    def may_give(self, tally: Tally, account: Account) -> bool:
        """Always."""
        return True
