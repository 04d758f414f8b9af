"""The loop steers a real cluster: pods are bound, gangs start together, queues take back what is theirs, and everybody is told why."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml

from audit import check
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from gpumax.engines.kubernetes import crds
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.loop.steer import Steering
from gpumax.ports.clock import SystemClock
from gpumax.ports.journal import MemoryJournal

GPU: Final = "nvidia.com/gpu"
QUEUES: Final = "/apis/gpumax.dev/v1alpha1/queues"
Document = dict[str, Any]


class Stage:
    """A namespace of a test's own in a real cluster, with nodes and queues, and who steers it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.api = plane.api
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.pods_path = f"/api/v1/namespaces/{self.name}/pods"
        self._made: list[str] = []
        self._loops: list[Steering] = []
        self._post(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        )
        self.cluster = KubernetesCluster(
            access_from((plane.kubeconfig(),)),
            lambda: [loop.wake() for loop in self._loops],
            scheduler=self.name,
        )
        self.steering = Steering(self.cluster, MemoryJournal(), SystemClock())
        self._thread = Thread(target=self.steering.run, daemon=True)

    def steer(self) -> None:
        """Begin."""
        self.cluster.start()
        self._loops.append(self.steering)
        self._thread.start()

    def node(self, name: str, gpus: int) -> None:
        """A node that kwok plays, for this test alone."""
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
        full = f"{self.name}-{name}"
        self._post(
            "/api/v1/nodes",
            {
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": full, "labels": {"stage": self.name}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
                "status": {"allocatable": room, "capacity": room},
            },
        )  # fmt: skip
        eventually(lambda: _ready(self.api.get(f"/api/v1/nodes/{full}").json()), f"node {full} is ready")

    def queue(self, name: str, gpus: int, **spec: Any) -> str:
        """A queue of this test's own."""
        full = f"{self.name}-{name}"
        quota = {"gpu": gpus, "cpu": "unlimited", "memory": "unlimited"}
        self._post(
            QUEUES,
            {
                "apiVersion": "gpumax.dev/v1alpha1",
                "kind": "Queue",
                "metadata": {"name": full},
                "spec": {"quota": quota, **spec},
            },
        )
        return full

    def pod(self, name: str, queue: str, gpus: int = 1, **meta: Any) -> None:
        """A pod that asks for us."""
        self._post(
            self.pods_path,
            {"apiVersion": "v1", "kind": "Pod", **self._template(queue, gpus, name=name, **meta)},
        )

    def gang(self, name: str, queue: str, size: int, gpus: int = 1) -> None:
        """An indexed Job all of whose pods run at once."""
        self._post(
            f"/apis/batch/v1/namespaces/{self.name}/jobs",
            {
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                "spec": {
                    "completionMode": "Indexed", "completions": size, "parallelism": size,
                    "template": self._template(queue, gpus),
                },
            },
        )  # fmt: skip

    def pods(self) -> dict[str, Document]:
        """All pods, by name."""
        return {row["metadata"]["name"]: row for row in self.api.get(self.pods_path).json()["items"]}

    def where(self, start: str = "") -> list[str]:
        """Nodes of the pods whose names start so; an empty text for each that has none."""
        return [
            row["spec"].get("nodeName", "").removeprefix(f"{self.name}-")
            for name, row in sorted(self.pods().items())
            if name.startswith(start)
        ]

    def told(self, name: str) -> Document:
        """What the pod is told of its scheduling; empty where nothing is."""
        conditions = self.pods()[name]["status"].get("conditions", [])
        return next((row for row in conditions if row["type"] == "PodScheduled"), {})

    def events(self) -> set[tuple[str, str]]:
        """Reasons of our events, with the pods that they are of."""
        rows = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{self.name}/events").json()["items"]
        return {
            (row["reason"], row["regarding"]["name"])
            for row in rows
            if row.get("reportingController", "").startswith("gpumax.dev/")
        }

    def close(self) -> None:
        """Nothing of it stays."""
        self.steering.stop()
        if self._thread.is_alive():
            self._thread.join()
        self.cluster.close()
        self.api.delete(
            f"/apis/batch/v1/namespaces/{self.name}/jobs", params={"propagationPolicy": "Background"}
        )
        self.api.delete(self.pods_path)
        for path in reversed(self._made):
            self.api.delete(path)

    def _template(self, queue: str, gpus: int, **meta: Any) -> Document:
        labels = {"gpumax.dev/queue": queue, **meta.pop("labels", {})}
        return {
            "metadata": {"labels": labels, **meta},
            "spec": {
                "schedulerName": self.name, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "nodeSelector": {"stage": self.name},
                "containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: str(gpus)}}}],
            },
        }  # fmt: skip

    def _post(self, path: str, body: Document) -> None:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        self._made.append(f"{path}/{body['metadata']['name']}")


def _ready(node: Document) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)


@pytest.fixture(scope="module")
def prepared(cluster: Any) -> Iterator[ControlPlane]:
    """The control plane with our kinds of objects, and kubelets that are played; pods run until they are told to go."""
    plane: ControlPlane | None = cluster.own
    if plane is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    kwok = plane.start_kwok()
    for path in sorted(Path(crds.__file__).parent.glob("*.yaml")):
        body = yaml.safe_load(path.read_text())
        answer = plane.api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=body)
        assert answer.status_code in (201, 409), answer.text
    eventually(lambda: plane.api.get(QUEUES).status_code == 200, "queues are served")
    yield plane
    kwok.stop()


@pytest.fixture
def stage(prepared: ControlPlane) -> Iterator[Stage]:
    """A namespace of the test's own."""
    made = Stage(prepared)
    try:
        yield made
    finally:
        made.close()
        assert check(prepared.audited(), limits={}) == []


def test_pods_are_bound_where_they_fit(stage: Stage) -> None:
    """Packed on one node, as placement says, whatever was there before we came."""
    stage.node("n1", 4)
    stage.node("n2", 4)
    queue = stage.queue("a", 8)
    stage.pod("early", queue, 2)
    stage.steer()
    eventually(lambda: stage.where() != [""], "the pod that waited is bound")
    stage.pod("late", queue, 2)
    eventually(lambda: "" not in stage.where(), "both are bound")
    first, second = stage.where()
    assert first == second


def test_a_gang_starts_together_or_not_at_all(stage: Stage) -> None:
    """Six of eight GPUs are taken: the gang of four waits, is told so once, and starts when there is room for all of it."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    for number in range(3):
        stage.pod(f"b{number}", queue, 2)
    stage.steer()
    eventually(lambda: "" not in stage.where("b"), "those before it are bound")
    stage.gang("g", queue, 4)
    eventually(lambda: len(stage.where("g")) == 4, "its pods are there")
    (one, *_) = [name for name in stage.pods() if name.startswith("g")]
    eventually(lambda: "4 x 1 GPU together" in stage.told(one).get("message", ""), "it is told why it waits")
    assert stage.where("g") == ["", "", "", ""]
    assert stage.told(one)["reason"] == "Unschedulable"
    eventually(lambda: ("GangNoRoom", one) in stage.events(), "there is an event, too")
    stage.api.delete(f"{stage.pods_path}/b0")
    eventually(lambda: stage.where("g") == ["n1"] * 4, "the gang is bound")


def test_a_queue_takes_back_what_it_is_due(stage: Stage) -> None:
    """b used all of the cluster; the gang of a gets its four, and b keeps its own."""
    stage.node("n1", 8)
    a, b = stage.queue("a", 4), stage.queue("b", 4)
    for number in range(8):
        stage.pod(f"b{number}", b)
    stage.steer()
    eventually(lambda: "" not in stage.where("b"), "b is bound")
    stage.gang("g", a, 4)
    eventually(lambda: stage.where("g") == ["n1"] * 4, "a is bound")
    assert len(stage.where("b")) == 4
    assert len([name for reason, name in stage.events() if reason == "Reclaimed"]) == 4


def test_what_is_wrong_with_a_pod_is_told_on_it(stage: Stage) -> None:
    """And the others are served."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    stage.pod("wrong", queue, 1, annotations={"gpu-fraction": "1.5"})
    stage.pod("lost", f"{stage.name}-nobody")
    stage.pod("right", queue)
    eventually(lambda: stage.where("right") == ["n1"], "the sound one is bound")
    eventually(lambda: stage.told("wrong").get("reason") == "Invalid", "the fault is told")
    assert "gpu-fraction" in stage.told("wrong")["message"]
    eventually(
        lambda: stage.told("lost").get("reason") == "QueueNotFound", "a queue that isn't there is told"
    )


def test_nobody_who_was_bound_is_told_that_they_wait(stage: Stage) -> None:
    """However fast pods come: what was to be told of a pod that was bound since is dropped."""
    stage.node("n1", 64)
    queue = stage.queue("a", 64)
    stage.steer()
    for number in range(8):
        stage.gang(f"g{number}", queue, 4)
    eventually(lambda: len(stage.where()) == 32 and "" not in stage.where(), "all are bound")
    stage.cluster.settle()
    assert {stage.told(name)["status"] for name in stage.pods()} == {"True"}


def test_evictions_that_a_budget_forbids_are_not_asked_for_again_and_again(stage: Stage) -> None:
    """The pods stay, and so does who wants their room; others can be taken instead."""
    stage.node("n1", 4)
    a, b = stage.queue("a", 4), stage.queue("b", 0)
    for number in range(2):
        stage.pod(f"kept{number}", b, labels={"app": "kept"})
    stage.pod("b0", b)
    stage.pod("b1", b)
    stage._post(
        f"/apis/policy/v1/namespaces/{stage.name}/poddisruptionbudgets",
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kept"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "kept"}}},
        },
    )  # fmt: skip
    stage.steer()
    eventually(lambda: "" not in stage.where(), "b is bound")
    stage.pod("a0", a, 2)
    eventually(lambda: stage.where("a0") == ["n1"], "a gets its two")
    assert stage.where("kept") == ["n1", "n1"]
    assert stage.cluster.counts["evictions"] <= 4
