"""A loop on fakes: a store and an engine in memory, and a clock that moves when told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpumax.loop.cycle import Loop
from gpumax.model.amounts import BOUNDLESS, Amounts
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.records import TaskRecord, Wish, WorkloadRecord
from gpumax.model.snapshot import Policy
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.workload import DeviceAsk, Request
from gpumax.ports.clock import ManualClock
from gpumax.ports.engine_fake import FakeEngine
from gpumax.ports.journal import MemoryJournal
from gpumax.ports.store_fake import MemoryStore
from gpumax.units import MILLI, UNLIMITED

NOW_MS = 1_000_000_000_000
MINUTE_MS = 60_000


def machine(name: str = "n1", gpus: int = 8) -> Node:
    """A node with so many GPUs."""
    devices = tuple(Device(index, "H100", 80 * 1024) for index in range(gpus))
    return Node(name, cpu_milli=96_000, memory_mib=1 << 20, devices=devices)


def queue(name: str, quota: int = 0, **fields: Any) -> Queue:
    """A queue measured in GPUs."""
    return Queue(
        name,
        quota=Amounts(quota * MILLI, UNLIMITED, UNLIMITED),
        weight=Amounts((quota or 1) * MILLI, 1000, 1000),
        **{"limit": BOUNDLESS, **fields},
    )


def spec(
    name: str, project: str, gpu: int = 1, tasks: int = 1, *, least: int = 0, **fields: Any
) -> WorkloadSpec:
    """A workload of one group of tasks. least: its minimum, where that is less than all."""
    group = GroupSpec("", least or tasks, tasks, Request(gpu=(DeviceAsk(gpu),)) if gpu else Request(), "true")
    return WorkloadSpec(name, project, (group,), **fields)


class Rig:
    """Everything that a loop stands on, with two queues of four GPUs each. `loop` is made anew by `restart`."""

    def __init__(
        self, data: Path, nodes: Sequence[Node] = (), queues: Sequence[Queue] = (), **engine: Any
    ) -> None:
        self.data = data
        self.clock = ManualClock(NOW_MS)
        self.store = MemoryStore()
        self.engine = FakeEngine(nodes or (machine(),), clock=self.clock, **engine)
        self.journal = MemoryJournal()
        self.policy = Policy()
        for row in queues or (queue("a", 4), queue("b", 4)):
            self.store.set_queue(row, now_ms=NOW_MS)
        self._ids = 0
        self.loop = self.restart()

    def restart(self) -> Loop:
        """A new loop on the same store and engine, as the next server makes one."""
        self.loop = Loop(
            self.store, self.engine, self.journal, self.clock, self.data, self.policy, new_id=self._new_id
        )
        return self.loop

    def _new_id(self) -> str:
        self._ids += 1
        return f"attempt-{self._ids:04}"

    def submit(self, *specs: WorkloadSpec) -> tuple[WorkloadRecord, ...]:
        """Submit workloads together."""
        return self.store.submit(specs, key="", digest="", now_ms=self.clock.now_ms())

    def wish(self, name: str, wish: Wish) -> None:
        """Want something of a workload."""
        self.store.wish(name, wish, now_ms=self.clock.now_ms())

    def cycle(self, times: int = 1) -> None:
        """So many cycles."""
        for _ in range(times):
            self.loop.cycle()

    def settle(self, most: int = 30) -> None:
        """Cycle until a cycle changes no record."""
        for _ in range(most):
            before = self.store.live()
            self.loop.cycle()
            if self.store.live() == before:
                return
        raise AssertionError(f"the loop has not settled after {most} cycles")

    def record(self, name: str) -> WorkloadRecord:
        """A workload's record."""
        found = self.store.find(name)
        assert found is not None, name
        return found[0]

    def tasks(self, name: str) -> tuple[TaskRecord, ...]:
        """A workload's tasks."""
        found = self.store.find(name)
        assert found is not None, name
        return found[1]

    def states(self, name: str) -> list[str]:
        """The states of a workload's tasks."""
        return [task.state for task in self.tasks(name)]

    def events(self, kind: str, workload: str = "") -> list[str]:
        """The messages of all events of a kind."""
        rows = self.store.events(limit=10_000)
        return [row.message for row in rows if row.kind == kind and workload in ("", row.workload)]

    def started(self) -> list[str]:
        """The tasks that the engine started, in order; a name comes again with every attempt."""
        return [launch.task for launch in self.engine.launches.values()]


def until(condition: Callable[[], bool], wait: Callable[[], object], times: int = 200) -> None:
    """Wait again and again until the condition holds; AssertionError where it never does."""
    for _ in range(times):
        if condition():
            return
        wait()
    raise AssertionError("never happened")
