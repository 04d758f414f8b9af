"""When running work ends, as far as anybody knows, and the room that there is then.

Work ends at the latest at its max_duration after its start; work without one, or past it, never ends as far as anybody
knows. What a decision has placed counts, too: it starts now.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator
from typing import NamedTuple

from gpumax.model.workload import ACTIVE, Workload
from gpumax.policy.free import Room
from gpumax.policy.held import Held, summed
from gpumax.policy.minimum import NOBODY, fixed
from gpumax.policy.tree import NOTHING, Account, Vector
from gpumax.policy.world import World


class End(NamedTuple):
    """A workload ends: when, what it leaves, and whose it was. fixed: how much of it was non-preemptible."""

    moment: int
    workload: Workload
    helds: list[Held]
    amounts: Vector
    account: Account | None
    fixed: Vector


def end_ms(workload: Workload, now_ms: int) -> int | None:
    """The moment by which it has ended: of its run, or of one that starts now; None where nobody knows."""
    if workload.max_duration_ms is None:
        return None
    if workload.started_ms is None or not any(task.state in ACTIVE for task in workload.tasks):
        return now_ms + workload.max_duration_ms
    end = workload.started_ms + workload.max_duration_ms
    return end if end >= now_ms else None


class Timeline:
    """The known ends of what runs and of what was placed, in their order. gone: tasks that leave before.

    until: later ends are of no interest.
    """

    def __init__(self, world: World, gone: Container[str] = NOBODY, until: int | None = None) -> None:
        self._ends = sorted([*running(world, gone, until), *_placed(world)], key=lambda end: end.moment)
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
            if end.account is not None and account in end.account.path:
                left = end.fixed if fixed else end.amounts
                held = [amount - less for amount, less in zip(held, left, strict=True)]
        return held

    def _until(self, moment: int) -> list[End]:
        return self._ends[: bisect_right(self._ends, moment, key=lambda end: end.moment)]


def ends_of(world: World) -> list[End]:
    """The known ends of what runs when the decision begins, in their order; looked up once."""
    if world.ends is None:
        now_ms, accounts = world.snapshot.now_ms, world.tree.accounts
        found = []
        for workload in world.census.timed():
            moment = end_ms(workload, now_ms)
            if moment is not None:
                helds = [
                    world.held[task.name]
                    for task in workload.tasks
                    if task.state in ACTIVE and task.name in world.held
                ]
                if helds:
                    found.append(ending(moment, workload, helds, accounts.get(workload.queue)))
        world.ends = sorted(found, key=lambda end: end.moment)
    return world.ends


def running(world: World, gone: Container[str] = NOBODY, until: int | None = None) -> list[End]:
    """The known ends of what runs and is not told to go, in their order."""
    ends = ends_of(world)
    if until is not None:
        ends = ends[: bisect_right(ends, until, key=lambda end: end.moment)]
    if not world.evicted and gone is NOBODY:
        return ends
    found = []
    for end in ends:
        helds = [held for held in end.helds if held.task not in world.evicted and held.task not in gone]
        if len(helds) == len(end.helds):
            found.append(end)
        elif helds:
            found.append(ending(end.moment, end.workload, helds, end.account))
    return found


def _placed(world: World) -> Iterator[End]:
    now_ms = world.snapshot.now_ms
    for gang in world.placed.values():
        moment = end_ms(gang.workload, now_ms)
        # Who waits for others starts later, nobody knows when.
        if moment is not None and not any(spot.after for spot in gang.placed):
            helds = [spot.held for spot in gang.placed]
            yield ending(moment, gang.workload, helds, gang.account, gang.safe)


def ending(
    moment: int,
    workload: Workload,
    helds: list[Held],
    account: Account | None,
    safe: Container[str] | None = None,
) -> End:
    """The end of a run that holds this then. safe: who of semi-preemptible work is never evicted; None: of what runs."""
    amounts = summed(helds)
    never = NOTHING if workload.preemptible else amounts
    if workload.preemptible == "semi":
        names = fixed(workload) if safe is None else safe
        never = summed([held for held in helds if held.task in names])
    return End(moment, workload, helds, amounts, account, never)
