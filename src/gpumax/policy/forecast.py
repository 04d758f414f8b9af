"""When waiting work will start, if nothing else comes: the cluster is played forward from one known end to the next.

Work ends at its max_duration after its start, minimum runtimes end, what ends nobody knows when stays, and whoever starts
runs for its own max_duration. The next moments are decided as this one was, with every pass. Where that would cost too
much, those at the head of the order are played on with free room alone: nobody is evicted, and no new room is kept.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Container, Iterable, Iterator
from copy import copy
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.model.snapshot import Snapshot
from gpumax.policy.allocate import allocate
from gpumax.policy.ask import Ask
from gpumax.policy.future import Future, protects, stopped
from gpumax.policy.gang import Gang, total
from gpumax.policy.held import Held, summed
from gpumax.policy.kept import Kept
from gpumax.policy.minimum import NOBODY
from gpumax.policy.order import Order
from gpumax.policy.timeline import End, end_ms, ending, running
from gpumax.policy.tree import NOTHING, Account
from gpumax.policy.world import World


class Effort(NamedTuple):
    """How far to look. tasks: so many are decided on again, over all moments; then so many of the gangs that wait, first in
    order, are played on, looking so often at one of them.
    """

    tasks: int
    gangs: int
    looks: int


QUICK: Final = Effort(1_500, 64, 2_000)
"""What every decision spends."""
THOROUGH: Final = Effort(10_000, 512, 20_000)
"""What is spent on one workload that somebody asks about."""
NONE: Final = Effort(0, 0, 0)
"""Where nobody wants to know."""

FEWEST: Final = 5
"""Decisions for which there must be tasks enough, or none is made: fewer tell too little for what they cost."""

_moment = attrgetter("moment")


def forecasts(
    world: World,
    able: Callable[[Gang], bool],
    again: Callable[[Snapshot], World],
    effort: Effort,
) -> dict[str, int]:
    """By workload the moment at which some of it starts; not for those of whom none is known, or who are too far behind.

    world: with all passes run. able: whether a gang could start at all. again: decides on a snapshot as it was decided here.
    """
    starts: dict[str, int] = {}
    if effort == NONE or not (world.census.timed() or protects(world.snapshot)):
        return starts
    names = {gang.workload.name for gang in world.waiting if not gang.placed}
    if not names:
        return starts
    world = _decided(world, names, again, effort.tasks, starts)
    ends = _ends(world)
    if ends and not names <= starts.keys():
        gangs = islice((gang for gang in _in_turn(world) if able(gang)), effort.gangs)
        _Ahead(world, ends, gangs, effort.looks, starts).run()
    return starts


def _decided(
    world: World, names: set[str], again: Callable[[Snapshot], World], tasks: int, starts: dict[str, int]
) -> World:
    """Decide on one moment after the other; the world that was decided on last."""
    future = Future()
    if tasks < FEWEST * sum([len(work.tasks) for work in world.snapshot.workloads]):
        return world
    while not names <= starts.keys():
        tasks -= sum([len(work.tasks) for work in world.snapshot.workloads])
        if tasks < 0:
            break
        now_ms = world.snapshot.now_ms
        snapshot = future.follow(world)
        starts.update((name, now_ms) for name in future.started if name in names and name not in starts)
        if snapshot is None:
            break
        world = again(snapshot)
    return world


def _in_turn(world: World) -> Iterator[Gang]:
    """Those who wait in the order in which they would be served if there were room for one after the other."""
    tree = world.tree.copy()
    known = {gang.workload.name: gang for gang in world.waiting}
    order = Order([gang.copy(tree.accounts[gang.account.name]) for gang in world.waiting])
    while (gang := order.pop()) is not None:
        yield known[gang.workload.name]
        tree.add(gang.account, gang.asked(), fixed=gang.asked() if gang.fixed else NOTHING)
        order.done(gang, again=False)


class _Ahead:
    """The world as it will be. It shares with the present what no moment changes."""

    def __init__(
        self, world: World, ends: list[End], gangs: Iterable[Gang], looks: int, starts: dict[str, int]
    ) -> None:
        self.starts = starts
        self._looks = looks
        self._until = {end.workload.name: end.moment for end in ends}  # when each run ends
        self._capacity = world.capacity()
        room = world.ledger.later.copy()
        self._world = then = copy(world)
        then.ledger = world.ledger.on(room, room)
        then.ledger.leaving.clear()
        then.tree = world.tree.copy()
        then.ends = ends
        then.placed, then.evictions, then.evicted, then.ended = {}, [], set(), set()
        then.kept, then.reserved, then.released = [], {}, False
        again = {gang.workload.name: gang for gang in _again(world)}
        found = [again.pop(gang.workload.name, gang) for gang in gangs]
        then.waiting = [gang.copy(self._there(gang)) for gang in (*found, *again.values())]
        for kept in world.kept:
            self._keep(kept)

    def run(self) -> None:
        """From end to end, until all have started, nothing ends any more, or enough was looked at."""
        then = self._world
        assert then.ends is not None
        while then.ends and then.waiting and self._looks > 0:
            moment = then.ends[0].moment
            count = bisect_right(then.ends, moment, key=_moment)
            over, then.ends = then.ends[:count], then.ends[count:]
            then.snapshot = replace(then.snapshot, now_ms=moment)
            for end in over:
                self._end(end)
            self._serve(moment)

    def _there(self, gang: Gang) -> Account:
        return self._world.tree.accounts[gang.account.name]

    def _keep(self, kept: Kept) -> None:
        """One for whom room is kept has it from now on, as far as others see: it starts when they have ended who are in it."""
        then, workload = self._world, kept.gang.workload
        then.waiting = [gang for gang in then.waiting if gang.workload.name != workload.name]
        helds = [spot.held for spot in kept.spots]
        for held in helds:
            then.ledger.now.take(held)
        amounts = summed(helds)
        never = kept.gang.fixed
        then.tree.add(self._there(kept.gang), amounts, fixed=amounts if never else NOTHING)
        self.starts.setdefault(workload.name, kept.moment)
        self._ends_at(
            None if workload.max_duration_ms is None else kept.moment + workload.max_duration_ms,
            kept.gang,
            helds,
            {held.task for held in helds} if never else NOBODY,
        )

    def _end(self, end: End) -> None:
        """A workload is over, and so is what still waits of it."""
        then = self._world
        for held in end.helds:
            then.ledger.now.take(held, sign=-1)
        if end.account is not None:
            account = then.tree.accounts[end.account.name]
            then.tree.add(account, end.amounts, fixed=end.fixed, sign=-1)
            then.tree.want(account, end.amounts, sign=-1)
        for gang in then.waiting:
            if gang.workload.name == end.workload.name:
                then.tree.want(gang.account, total(gang.everything()), sign=-1)
        then.waiting = [gang for gang in then.waiting if gang.workload.name != end.workload.name]

    def _serve(self, moment: int) -> None:
        """Give out what is free at a moment."""
        then, waiting = self._world, self._world.waiting
        self._looks -= 1
        fits = {ask for ask in {want.ask for gang in waiting for want in gang.chunk()} if self._fits(ask)}
        # With room somewhere for each of its tasks; the others would be tried in vain.
        may = [gang for gang in waiting if all(want.ask in fits for want in gang.chunk())]
        if not may:
            return
        self._looks -= len(may)
        then.tree.divide(self._capacity, then.snapshot.policy.fairness_k)
        then.waiting = may
        allocate(then, reserve=False)
        looked = set(may)
        then.waiting += [gang for gang in waiting if gang not in looked]
        for name, gang in then.placed.items():
            self.starts.setdefault(name, moment)
            until = self._until.get(name) or end_ms(gang.workload, moment)
            self._ends_at(until, gang, [spot.held for spot in gang.placed], gang.safe)
            gang.placed = []
        then.placed = {}

    def _fits(self, ask: Ask) -> bool:
        room, fits = self._world.ledger.now, self._world.fits
        return any(fits.fitting(room, ask, at).any() for at in range(len(ask.gpu)))

    def _ends_at(self, moment: int | None, gang: Gang, helds: list[Held], safe: Container[str]) -> None:
        """Note when what was placed ends; what comes later of a run ends with it."""
        if moment is None:
            return
        workload = gang.workload
        self._until[workload.name] = moment
        end = ending(moment, workload, helds, gang.account, safe)
        assert self._world.ends is not None
        insort(self._world.ends, end, key=_moment)


def _ends(world: World) -> list[End]:
    """The known ends of what will run when the decision is carried out: who waits for others to leave, does so for no time."""
    now_ms, accounts = world.snapshot.now_ms, world.tree.accounts
    runs = [(gang.workload, [spot.held for spot in gang.placed], gang.safe) for gang in world.placed.values()]
    if world.pool is not None:
        for part, going in world.pool.going.items():
            runs.append((stopped(part.workload, world.evicted), [spot.held for spot in going.moved], NOBODY))
    found = running(world).copy()
    for workload, helds, safe in runs:
        moment = end_ms(workload, now_ms)
        if moment is not None and helds:
            found.append(ending(moment, workload, helds, accounts.get(workload.queue), safe))
    return sorted(found, key=_moment)


def _again(world: World) -> Iterator[Gang]:
    """Those who are stopped in this decision, and wait again."""
    tasks = {row.task for row in world.evictions if row.restarts_on is None}
    if not tasks:
        return
    for workload in world.snapshot.workloads:
        account = world.tree.accounts.get(workload.queue)
        if account is None or not any(task.name in tasks for task in workload.tasks):
            continue
        then = stopped(workload, tasks)
        pending = [task for task in then.tasks if task.state == "pending"]
        yield Gang(then, account, world.wants(then, pending))
