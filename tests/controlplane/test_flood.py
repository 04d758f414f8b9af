"""One tenant makes twenty thousand pods, half of them nonsense, on a control plane of their own: who else comes meanwhile is served, and nobody is forgotten."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from audit import check
from controlplane.plane import Cluster, ControlPlane
from controlplane.processes import Program, eventually
from controlplane.stage import GPU, QUEUES

PODS = 20_000
SOUND = PODS // 2
KEPT_BACK = 500
"""The last of them come when the others have been served, so that those were served during the flood."""
PARTS = 8
FEW, MORE = 4, 200
"""GPUs that the tenant's queue may have, first and then."""
MOST_MIB = 400
TELLS = re.compile(r'"objectRef":{[^}]*"resource":"pods"[^}]*"subresource":"status"')
NODES = "/api/v1/nodes"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def plane(cluster: Cluster, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of its own, with two namespaces and a node. Nobody minds its nodes, and no kubelet is there: pods are bound, and that is all."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    made = ControlPlane(cluster.own.version, tmp_path)
    try:
        made.start()
        for name in ("flood", "other"):
            post(made, "/api/v1/namespaces", "v1", "Namespace", {"name": name})
            made.await_account(name)
        made.controllers.kill()
        room = {"cpu": "1k", "memory": "1Ti", "pods": "1k", GPU: "300"}
        status = {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True"}]}
        post(made, NODES, "v1", "Node", {"name": "n1"}, status=status)
        # Every new node is kept free until somebody has looked after it.
        made.api.patch(f"{NODES}/n1", json={"spec": {"taints": None}}, headers=MERGE).raise_for_status()
        yield made
    finally:
        made.stop()


@pytest.fixture
def scheduler(plane: ControlPlane, tmp_path: Path) -> Iterator[Program]:
    """gpumax, and a queue for each of the two."""
    command = [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--kubernetes", "--install"]
    program = Program(
        [*command, "--data", str(tmp_path / "data")],
        tmp_path / "gpumax.log",
        env={"KUBECONFIG": str(plane.kubeconfig())},
    )
    program.start()
    try:
        eventually(lambda: plane.api.get(QUEUES).status_code == 200, "queues are served", program)
        for name, gpus in (("flood", FEW), ("other", 100)):
            spec = {"quota": {"gpu": gpus, "cpu": "unlimited", "memory": "unlimited"}, "limit": {"gpu": gpus}}
            post(plane, QUEUES, "gpumax.dev/v1alpha1", "Queue", {"name": name}, spec=spec)
        yield program
    finally:
        program.stop()
    assert "Traceback" not in program.said(1 << 20)


class Flood:
    """The tenant at work, in a thread: as many pods as the API server takes, but for the last, which wait for `let_end`."""

    def __init__(self, plane: ControlPlane) -> None:
        self.asked = 0
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=lambda: plane.crowd(path("flood"), self._pods()))
        self._thread.start()

    def _pods(self) -> Iterator[dict[str, Any]]:
        for number in range(PODS):
            if number == PODS - KEPT_BACK:
                self._may_end.wait()
            self.asked = number
            yield pod("flood", f"p{number:05}", sound=number % 2 == 0)

    def let_end(self) -> None:
        """The last of them may come; wait for them."""
        self._may_end.set()
        self._thread.join()


def test_others_are_served_during_a_flood_of_pods_and_nobody_is_forgotten(
    plane: ControlPlane, scheduler: Program
) -> None:
    """What the other makes is bound or told what is wrong with it while the flood comes; memory stays small; when there is room for more of the
    flood they get it, and all others are known to wait.
    """
    flood = Flood(plane)
    try:
        most_mib = 0.0
        for part in range(1, PARTS + 1):
            due = part * (PODS - KEPT_BACK) // PARTS - 1
            eventually(lambda due=due: flood.asked >= due, "so much of the flood has come", scheduler)  # type: ignore[misc]
            plane.api.post(path("other"), json=pod("other", f"p{part}")).raise_for_status()
            plane.api.post(path("other"), json=pod("other", f"bad{part}", sound=False)).raise_for_status()
            eventually(lambda part=part: bound(plane, "other") == part, "the other's is bound", scheduler)  # type: ignore[misc]
            eventually(lambda part=part: told(plane, f"bad{part}") == "Invalid", "it is told", scheduler)  # type: ignore[misc]
            most_mib = max(most_mib, psutil.Process(scheduler.pid).memory_info().rss / (1 << 20))
    finally:
        flood.let_end()
    eventually(lambda: waiting(plane) == SOUND - FEW, "all of the flood is known to wait", scheduler)
    eventually(lambda: bound(plane, "flood") == FEW, "as many as may be are bound", scheduler)
    limit = {"spec": {"limit": {"gpu": MORE}}}
    plane.api.patch(f"{QUEUES}/flood", json=limit, headers=MERGE).raise_for_status()
    eventually(lambda: waiting(plane) == SOUND - MORE, "more of it has room", scheduler)
    most_mib = max(most_mib, psutil.Process(scheduler.pid).memory_info().rss / (1 << 20))
    # A queue says what was decided; the binds may still be on their way.
    eventually(lambda: bound(plane, "flood") == MORE, "they are bound", scheduler)
    assert most_mib < MOST_MIB
    assert check(proofs(plane)) == []


def post(plane: ControlPlane, where: str, version: str, kind: str, meta: dict[str, Any], **more: Any) -> None:
    """Make an object."""
    body = {"apiVersion": version, "kind": kind, "metadata": meta, **more}
    plane.api.post(where, json=body).raise_for_status()


def path(space: str) -> str:
    """Of its pods."""
    return f"/api/v1/namespaces/{space}/pods"


def pod(queue: str, name: str, *, sound: bool = True) -> dict[str, Any]:
    """A pod that asks for a GPU, or for a part of one in words that nobody can mean."""
    limits = {GPU: "1"} if sound else {}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "labels": {"gpumax.dev/queue": queue},
            "annotations": {} if sound else {"gpu-fraction": "x" * 1000},
        },
        "spec": {"schedulerName": "gpumax", "containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}]},
    }  # fmt: skip


def bound(plane: ControlPlane, space: str) -> int:
    """How many pods of a namespace have a node."""
    query = {"fieldSelector": "spec.nodeName=n1"}
    return len(plane.api.get(path(space), params=query).raise_for_status().json()["items"])


def told(plane: ControlPlane, name: str) -> str:
    """The reason that one of the other's pods is told."""
    conditions = plane.api.get(f"{path('other')}/{name}").json()["status"].get("conditions", [])
    return next((str(row["reason"]) for row in conditions if row["type"] == "PodScheduled"), "")


def waiting(plane: ControlPlane) -> int:
    """How many workloads of the flood wait, as its queue says."""
    status = plane.api.get(f"{QUEUES}/flood").json().get("status") or {}
    return int((status.get("waiting") or {}).get("workloads", -1))


def proofs(plane: ControlPlane) -> Iterator[dict[str, Any]]:
    """The log of audits without what pods are told, which proves nothing here and is most of it."""
    with plane.audit_log.open() as lines:
        for line in lines:
            if line.endswith("\n") and not TELLS.search(line):
                yield json.loads(line)
