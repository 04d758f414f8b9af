"""A real cluster takes the exam of all that can be steered, which the fake takes, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from contract.cluster_exam import ClusterExam
from controlplane.processes import eventually
from controlplane.stage import Stage
from gpumax.errors import Stale
from gpumax.model.snapshot import Policy, Snapshot


class Real:
    """A corner of a real cluster that nobody steers but the exam."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.cluster = stage.cluster
        stage.cluster.start()

    def node(self, name: str, gpus: int) -> None:
        """See Subject."""
        self._stage.node(name, gpus)
        full = f"{self._stage.name}-{name}"
        self.until(
            lambda seen: next(node for node in seen.nodes if node.name == full).open,
            "the node is known, and that it is ready",
        )

    def queue(self, name: str, gpus: int) -> None:
        """Of the exam's own; other tests have theirs."""
        full = self._stage.queue(name, gpus)
        self.until(lambda seen: any(one.name == full for one in seen.queues), "the queue is known")

    def work(self, name: str, queue: str) -> str:
        """A pod."""
        self._stage.pod(name, f"{self._stage.name}-{queue}")
        return f"{self._stage.name}/{name}"

    def take(self, task: str, node: str) -> None:
        """Another scheduler binds it."""
        name = task.rpartition("/")[2]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self._stage.api.post(f"{self._stage.pods_path}/{name}/binding", json=body).raise_for_status()

    def snapshot(self) -> Snapshot:
        """The nodes of this corner alone: others are other tests'."""
        seen = self.cluster.snapshot(self._stage.now_ms(), Policy())
        mine = tuple(node for node in seen.nodes if node.name.startswith(f"{self._stage.name}-"))
        return replace(seen, nodes=mine)

    def until(self, true: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """Wait until the API has told."""
        found: list[Snapshot] = []

        def shows() -> bool:
            try:
                found[:] = [self.snapshot()]
                return true(found[0])
            except (Stale, StopIteration):  # not all is known yet, or who is asked about isn't there
                return False

        eventually(shows, what)
        return found[0]


class TestKubernetes(ClusterExam):
    """Kubernetes."""

    @pytest.fixture
    def subject(self, stage: Stage) -> Real:
        """A stage."""
        return Real(stage)
