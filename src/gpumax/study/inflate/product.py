"""gpumax itself: the code that decides where a waiting task goes, workload after workload on one world."""

from __future__ import annotations

from typing import ClassVar

from gpumax.model.amounts import BOUNDLESS
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot, Strategy
from gpumax.model.trace import Arrival
from gpumax.model.workload import Group, Request, Task, Workload
from gpumax.policy.place import Placer
from gpumax.policy.world import World
from gpumax.study.inflate.field import Field, Shape, request, shape_of

QUEUE = "all"


class Gpumax:
    """Places as `decide` would whose snapshot holds all that runs and what has just come. What finds no place is gone again.

    All work is of one queue without bounds and never moved, so that placement alone is measured.
    """

    name: ClassVar[str] = "gpumax"
    strategy: ClassVar[Strategy] = "dense"

    def __init__(self, field: Field, arrivals: tuple[Arrival, ...], seed: int) -> None:
        placement = Placement(self.strategy, self.strategy)
        queues = (Queue(QUEUE, quota=BOUNDLESS),)
        self._world = World(
            Snapshot(nodes=field.nodes.nodes, queues=queues, policy=Policy(placement=placement))
        )
        self._placer = Placer(self._world.fits, self._world.scores)
        self._requests: dict[Shape, Request] = {}
        field.room = self._world.ledger.now

    def place(self, arrival: Arrival) -> int | None:
        """Place an arrival; the milli-devices that it holds, None where it fits nowhere."""
        world, work = self._world, workload(arrival, self._request(arrival))
        dense = world.scores.dense
        if dense is not None:
            dense.demand.add(work.tasks[0].request)
        for wants in world.variants(world.wants(work, list(work.tasks))):
            found = self._placer.place(world.ledger, wants)
            if found is not None:
                world.ledger, (spot,) = found
                return spot.held.gpu
        if dense is not None:
            dense.demand.add(work.tasks[0].request, -1)
        return None

    def _request(self, arrival: Arrival) -> Request:
        """One object for all equal requests: the policy tells them apart by identity first."""
        shape = shape_of(arrival)
        known = self._requests.get(shape)
        if known is None:
            known = self._requests[shape] = request(shape)
        return known


class GpumaxPack(Gpumax):
    """The same with the strategy that pools have where nothing else is said, but for its last wish: what typically comes isn't known."""

    name = "gpumax-pack"
    strategy = "pack"


def workload(arrival: Arrival, asked: Request) -> Workload:
    """An arrival as it waits."""
    task = Task(f"{arrival.name}-0", request=asked)
    return Workload(arrival.name, QUEUE, preemptible=False, groups=(Group("", 1),), tasks=(task,))
