"""A test's own corner of a real cluster: a namespace, nodes that kwok plays, queues, and who steers it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from audit import check
from controlplane.elsewhere import Elsewhere
from controlplane.pilot import Pilot
from controlplane.plane import ADMIN, ControlPlane
from controlplane.processes import eventually
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.lease import Fence
from gpumax.errors import Stale
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.ports.clock import SystemClock

GPU: Final = "nvidia.com/gpu"
QUEUES: Final = "/apis/gpumax.dev/v1alpha1/queues"
TOGETHER_S: Final = 60.0
UNSEEN_S: Final = 30.0
"""How long a gang may take to start here, and what others did may be unknown: long, for machines that have other things to do as well."""
Document = dict[str, Any]


def moment() -> str:
    """Now, as the log of audits writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Stage:
    """A namespace of a test's own in a real cluster, with nodes and queues, and who steers it."""

    def __init__(
        self,
        plane: ControlPlane | Elsewhere,
        user: str = ADMIN,
        fence: Fence | None = None,
        *,
        require_use: bool = False,
    ) -> None:
        """user: as whom it is steered, with all rights; fence: while and as what it may write."""
        self.plane = plane
        self.api = plane.api
        self.began = moment()
        self._log_from = plane.audit_end
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.pods_path = f"/api/v1/namespaces/{self.name}/pods"
        self._made: list[str] = []
        self.post(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        )
        plane.await_account(self.name)
        self._pilot = Pilot(
            plane.kubeconfig(user, "system:masters"), self.name, fence=fence, require_use=require_use
        )
        self.cluster, self.steering = self._pilot.cluster, self._pilot.steering

    def steer(self) -> None:
        """Look at what is there, and steer from then on."""
        self._pilot.steer()

    def begin(self) -> None:
        """Steer from now on."""
        self._pilot.begin()

    def now_ms(self) -> int:
        """The time."""
        return SystemClock().now_ms()

    def sees(
        self, true: Callable[[Snapshot], bool], what: str, cluster: KubernetesCluster | None = None
    ) -> None:
        """Wait until something is true of the cluster as its scheduler, ours or another, knows it: what was just written it hears of later."""

        def shows() -> bool:
            try:
                return true((cluster or self.cluster).snapshot(self.now_ms(), Policy()))
            except Stale:
                return False

        eventually(shows, what)

    def sees_no_way_to(self, name: str, cluster: KubernetesCluster | None = None) -> None:
        """Wait until its scheduler knows that nothing new goes to a node."""
        full = f"{self.name}-{name}"
        self.sees(
            lambda seen: not any(node.name == full and node.open and not node.taints for node in seen.nodes),
            f"it is known that nothing goes to {full}",
            cluster,
        )

    def node(self, name: str, gpus: int) -> None:
        """A node that kwok plays, for this test alone."""
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
        full = f"{self.name}-{name}"
        self.post(
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
        self.post(
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
        self.post(
            self.pods_path,
            {"apiVersion": "v1", "kind": "Pod", **self.template(queue, gpus, name=name, **meta)},
        )

    def gang(self, name: str, queue: str, size: int, gpus: int = 1, **meta: Any) -> None:
        """An indexed Job all of whose pods run at once."""
        self.post(
            f"/apis/batch/v1/namespaces/{self.name}/jobs",
            {
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **meta},
                "spec": {
                    "completionMode": "Indexed", "completions": size, "parallelism": size,
                    "template": self.template(queue, gpus),
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
        self._pilot.close()
        self.api.delete(
            f"/apis/batch/v1/namespaces/{self.name}/jobs", params={"propagationPolicy": "Background"}
        )
        self.api.delete(self.pods_path)
        for path in reversed(self._made):
            self.api.delete(path)

    def judge(self) -> None:
        """Of all that happened here since it began, nothing was wrong by the log of audits."""
        assert check(self.happened(), together_s=TOGETHER_S, unseen_s=UNSEEN_S) == []

    def happened(self) -> list[Document]:
        """What the log of audits has of this namespace and of what is in none, since it began."""
        rows = self.plane.audited(self._log_from)
        return [row for row in rows if row.get("objectRef", {}).get("namespace", "") in ("", self.name)]

    def template(self, queue: str, gpus: int, **meta: Any) -> Document:
        """A pod that asks for us, without its kind."""
        labels = {"gpumax.dev/queue": queue, **meta.pop("labels", {})}
        return {
            "metadata": {"labels": labels, **meta},
            "spec": {
                "schedulerName": self.name, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "nodeSelector": {"stage": self.name},
                "containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: str(gpus)}}}],
            },
        }  # fmt: skip

    def post(self, path: str, body: Document) -> None:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        self.made(f"{path}/{body['metadata']['name']}")

    def made(self, path: str) -> None:
        """It is this test's own, and goes with it."""
        self._made.append(path)


def _ready(node: Document) -> bool:
    """Whether it says so, and is no longer kept free for not having said so."""
    if node["spec"].get("taints"):
        return False
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)
