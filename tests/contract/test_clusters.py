"""The fake cluster takes the exam that the real one takes (tests/controlplane/test_exam.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from msgspec.structs import replace

from contract.cluster_exam import ClusterExam
from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import DeviceAsk, DeviceShare, Group, Request, Task, Workload
from gpumax.ports.cluster_fake import FakeCluster
from gpumax.units import UNLIMITED


class Puppets:
    """The fake: what happens to it is said to it."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self._coming: list[Callable[[], None]] = []

    def node(self, name: str, gpus: int) -> None:
        """See Subject."""
        devices = tuple(Device(number, "H100", 81920) for number in range(gpus))
        self.cluster.nodes[name] = Node(name, cpu_milli=64_000, memory_mib=1 << 19, devices=devices)

    def queue(self, name: str, gpus: int) -> None:
        """See Subject."""
        self.cluster.queues[name] = Queue(name, quota=Amounts(gpus * 1000, UNLIMITED, UNLIMITED))

    def work(self, name: str, queue: str) -> str:
        """See Subject."""
        task = Task(f"ml/{name}", request=Request(gpu=(DeviceAsk(1),)))
        self.cluster.workloads[name] = Workload(name, queue, tasks=(task,), groups=(Group("", 1),))
        return task.name

    def take(self, task: str, node: str) -> None:
        """Its own binds come too late; it learns of this when it looks the next time."""
        self.cluster.refused.add(task)
        self._coming.append(partial(self._bind, task, node))

    def snapshot(self) -> Snapshot:
        """See Subject."""
        return self.cluster.snapshot(0, Policy())

    def until(self, true: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """All is true as soon as somebody looks."""
        while self._coming:
            self._coming.pop()()
        seen = self.snapshot()
        assert true(seen), what
        return seen

    def _bind(self, name: str, node: str) -> None:
        for key, workload in self.cluster.workloads.items():
            (task,) = workload.tasks
            if task.name == name:
                self.cluster.workloads[key] = replace(
                    workload,
                    tasks=(replace(task, state="bound", node=node, devices=(DeviceShare(0, 1000),)),),
                )


class TestFake(ClusterExam):
    """The fake."""

    @pytest.fixture
    def subject(self) -> Puppets:
        """One with nothing in it."""
        return Puppets()
