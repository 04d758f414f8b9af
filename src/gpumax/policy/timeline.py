"""When running work ends, as far as anybody knows, and the room that there is then.

Work ends at the latest at its max_duration after its start; work without one, or past it, never ends as far as anybody
knows. What a decision has placed counts, too: it starts now.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from gpumax.model.workload import ACTIVE, Workload
from gpumax.policy.ledger import Held, Room, summed
from gpumax.policy.tree import Account, Vector
from gpumax.policy.world import World

NOBODY: Container[str] = frozenset()


class End(NamedTuple):
    """A workload ends: when, what it leaves, and whose it was. fixed: it is non-preemptible."""

    moment: int
    helds: list[Held]
    amounts: Vector
    account: Account | None
    fixed: bool


def end_ms(workload: Workload, now_ms: int) -> int | None:
    """The moment by which it has ended: of its run, or of one that starts now; None where nobody knows."""
    if workload.max_duration_ms is None:
        return None
    if workload.started_ms is None or not any(task.state in ACTIVE for task in workload.tasks):
        return now_ms + workload.max_duration_ms
    end = workload.started_ms + workload.max_duration_ms
    return end if end >= now_ms else None


class Timeline:
    """The known ends of what runs and of what was placed, in their order. gone: tasks that leave before."""

    def __init__(self, world: World, gone: Container[str] = NOBODY) -> None:
        self._ends = sorted(_ends(world, gone), key=lambda end: end.moment)
        self.moments = sorted({end.moment for end in self._ends})

    def room(self, later: Room, moment: int) -> Room:
        """The room at a moment: what will be free anyway, and what is left by then."""
        room = later.copy()
        helds = [held for end in self._until(moment) for held in end.helds]
        if helds:
            room.take_all(helds, sign=-1)
        return room

    def held(self, account: Account, moment: int, *, fixed: bool = False) -> list[int]:
        """What a queue still holds at a moment; fixed: its non-preemptible work only."""
        held = list(account.fixed if fixed else account.allocated)
        for end in self._until(moment):
            if end.account is not None and account in end.account.path and (end.fixed or not fixed):
                held = [amount - less for amount, less in zip(held, end.amounts, strict=True)]
        return held

    def _until(self, moment: int) -> list[End]:
        return [end for end in self._ends if end.moment <= moment]


def _ends(world: World, gone: Container[str]) -> list[End]:
    now_ms, accounts = world.snapshot.now_ms, world.tree.accounts
    found = []
    for workload in world.timed():
        moment = end_ms(workload, now_ms)
        if moment is None:
            continue
        helds = [
            world.held[task.name]
            for task in workload.tasks
            if task.state in ACTIVE
            and task.name in world.held
            and task.name not in world.evicted
            and task.name not in gone
        ]
        if helds:
            found.append(
                End(moment, helds, summed(helds), accounts.get(workload.queue), not workload.preemptible)
            )
    for gang in world.placed.values():
        moment = end_ms(gang.workload, now_ms)
        # Who waits for others starts later, nobody knows when.
        if moment is not None and not any(spot.after for spot in gang.placed):
            helds = [spot.held for spot in gang.placed]
            found.append(End(moment, helds, summed(helds), gang.account, not gang.workload.preemptible))
    return found
