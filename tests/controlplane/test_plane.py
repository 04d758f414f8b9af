"""The control plane of the tests is a real one, and nothing of it stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from controlplane.build import kubernetes_version
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int) -> dict[str, Any]:
    """A node that nothing runs on but what kwok plays."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": room, "capacity": room},
    }


def pod(name: str, gpus: int) -> dict[str, Any]:
    """A pod that Kubernetes' own scheduler is to place."""
    container = {"name": "main", "image": "nothing", "resources": {"limits": {GPU: str(gpus)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def ready(plane: ControlPlane, name: str) -> bool:
    """Whether a node says that it is."""
    conditions = plane.api.get(f"/api/v1/nodes/{name}").json()["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_it_serves_the_version_that_its_module_pins(plane: ControlPlane) -> None:
    """What is tested against is what go.mod says."""
    told = plane.api.get("/version").json()
    assert told["gitVersion"] == kubernetes_version(plane.version)
    assert f"v{told['major']}.{told['minor']}." in told["gitVersion"]


def test_who_one_is_comes_from_the_certificate(plane: ControlPlane) -> None:
    """Rights hold: a user of no group may look at nothing."""
    with plane.client("alice", "team-a") as alice:
        refused = alice.get("/api/v1/namespaces/default/pods")
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        told = alice.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json=review).json()
    assert refused.status_code == 403
    assert told["status"]["userInfo"]["username"] == "alice"
    assert "team-a" in told["status"]["userInfo"]["groups"]


def test_a_pod_is_bound_and_runs_though_no_kubelet_is_there(plane: ControlPlane) -> None:
    """Kubernetes' scheduler binds to a node that kwok plays; the audit log holds the bind with all that was in it."""
    scheduler, kwok = plane.start_scheduler(), plane.start_kwok()
    plane.api.post("/api/v1/nodes", json=node("played", 8)).raise_for_status()
    eventually(lambda: ready(plane, "played"), "the node is ready", kwok)
    pods = "/api/v1/namespaces/default/pods"
    plane.api.post(pods, json=pod("first", 2)).raise_for_status()

    def runs() -> bool:
        seen = plane.api.get(f"{pods}/first").json()
        return bool(seen["spec"].get("nodeName") == "played" and seen["status"]["phase"] == "Running")

    eventually(runs, "the pod runs on the node", scheduler, kwok)
    wanted = {"subresource": "binding", "namespace": "default", "name": "first"}
    (bind,) = (entry for entry in plane.audited() if wanted.items() <= entry.get("objectRef", {}).items())
    assert bind["user"]["username"] == "system:kube-scheduler"
    assert bind["requestObject"]["target"]["name"] == "played"
    plane.api.delete(f"{pods}/first")
    plane.api.delete("/api/v1/nodes/played")
    for program in (scheduler, kwok):
        program.stop()


def test_the_api_server_comes_back_with_what_it_knew(plane: ControlPlane) -> None:
    """Killed and started again, it serves under the same address what was written before."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}
    plane.api.post("/api/v1/namespaces", json=space).raise_for_status()
    plane.apiserver.kill()
    plane.apiserver.start()
    plane.await_ready()
    assert plane.api.get("/api/v1/namespaces/kept").status_code == 200
    plane.api.delete("/api/v1/namespaces/kept")


def test_nothing_outlives_a_test_run_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the tests takes every program with it that they started."""
    start = (
        "import sys, time; from pathlib import Path; from controlplane.processes import Program\n"
        "program = Program(['sleep', '600'], Path(sys.argv[1])); program.start()\n"
        "print(program.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", start, str(tmp_path / "log")],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    started = psutil.Process(int(run.stdout.readline()))
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    eventually(lambda: _gone(started), "the program is gone")


def _gone(program: psutil.Process) -> bool:
    """Whether it has ended; who is to take note of that may be slow to."""
    try:
        return program.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_program_that_ends_too_soon_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Who waits for something that can't come is told why, not after how long."""
    program = Program(["sh", "-c", "echo no such flag >&2; exit 1"], tmp_path / "log")
    program.start()
    with pytest.raises(AssertionError, match="no such flag"):
        eventually(lambda: False, "it serves", program)
    program.stop()
