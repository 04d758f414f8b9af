"""Replicas that don't schedule say why, and one that schedules alone beside another is warned."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx

from controlplane.plane import ControlPlane
from controlplane.processes import HOST, eventually, free_ports
from controlplane.test_replicas import Replica, plane

__all__ = ["plane"]


class Standby(Replica):
    """One that answers how it is."""

    def __init__(self, plane: ControlPlane, name: str, home: Path, *options: str) -> None:
        (port,) = free_ports(1)
        super().__init__(plane, name, home, *options, "--listen", f"{HOST}:{port}")
        self._url = f"http://{HOST}:{port}/readyz"

    def ready(self) -> tuple[int, str]:
        """The answer of its probe; 0 before there is any."""
        try:
            answer = httpx.get(self._url, trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text


def test_a_lease_without_its_namespace_is_told_and_taken_when_that_is_made(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """The replica says what to do, isn't ready, and goes on by itself when it was done."""
    space = f"late-{uuid.uuid4().hex[:8]}"
    replica = Standby(plane, "replica-1", tmp_path, "--install", "--lease", f"{space}/gpumax")
    eventually(
        lambda: f"`kubectl create namespace {space}`" in replica.said(), "it says what to do", replica.program
    )
    eventually(
        lambda: f"there is no namespace {space}" in replica.ready()[1], "so does its probe", replica.program
    )
    assert replica.ready()[0] == 503
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
    plane.api.post("/api/v1/namespaces", json=body).raise_for_status()
    eventually(lambda: replica.ready() == (200, "ready, and steers\n"), "it steers", replica.program)
    replica.program.stop()
    plane.api.delete(f"/api/v1/namespaces/{space}")


def test_a_standby_and_one_without_a_lease_say_who_schedules(plane: ControlPlane, tmp_path: Path) -> None:
    """The first waits for its turn; the second is warned, since it keeps nobody away."""
    lease = f"default/standby-{uuid.uuid4().hex[:8]}"
    leader = Standby(plane, "replica-1", tmp_path, "--install", "--lease", lease)
    eventually(lambda: leader.ready() == (200, "ready, and steers\n"), "it steers", leader.program)
    second = Standby(plane, "replica-2", tmp_path, "--lease", lease)
    eventually(lambda: f"holds the lease {lease}, epoch 1" in second.said(), "it says so", second.program)
    told = (200, "ready to take over; another replica steers, epoch 1\n")
    eventually(lambda: second.ready() == told, "so does its probe", second.program)
    alone = Replica(plane, "replica-3", tmp_path)
    eventually(lambda: f"too, which holds the lease {lease}" in alone.said(), "it is warned", alone.program)
    trial = Replica(plane, "replica-4", tmp_path, "--dry-run")
    eventually(lambda: "and writes nothing" in trial.said(), "a dry run is free to look", trial.program)
    for replica in (trial, alone, second, leader):
        replica.program.stop()
        assert "Traceback" not in replica.said()
    assert "too, which holds" not in trial.said()
    plane.api.delete("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}".format(*lease.split("/")))
