"""Replicas that don't schedule say why, and one that schedules alone beside another is warned."""

from __future__ import annotations

import uuid
from pathlib import Path

from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.schedulers import Scheduler
from controlplane.test_replicas import ended, lease, plane

__all__ = ["lease", "plane"]
STEERS = (200, "ready, and steers\n")


def test_a_lease_without_its_namespace_is_told_and_taken_when_that_is_made(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """The replica says what to do, isn't ready, and goes on by itself when it was done."""
    space = f"late-{uuid.uuid4().hex[:8]}"
    replica = Scheduler(plane, tmp_path, "replica-1", "--install", "--lease", f"{space}/gpumax")
    with ended(replica):
        words = f"`kubectl create namespace {space}`"
        eventually(lambda: words in replica.said(), "it says what to do", replica.program)
        missing = f"there is no namespace {space}"
        eventually(lambda: missing in replica.ask("/readyz")[1], "so does its probe", replica.program)
        assert replica.ask("/readyz")[0] == 503
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        plane.api.post("/api/v1/namespaces", json=body).raise_for_status()
        eventually(lambda: replica.ask("/readyz") == STEERS, "it steers", replica.program)
    plane.api.delete(f"/api/v1/namespaces/{space}")


def test_a_standby_and_one_without_a_lease_say_who_schedules(
    plane: ControlPlane, lease: str, tmp_path: Path
) -> None:
    """The first waits for its turn; the second is warned, since it keeps nobody away."""
    leader = Scheduler(plane, tmp_path, "replica-1", "--install", "--lease", lease)
    second = Scheduler(plane, tmp_path, "replica-2", "--lease", lease)
    alone = Scheduler(plane, tmp_path, "replica-3")
    trial = Scheduler(plane, tmp_path, "replica-4", "--dry-run")
    with ended(leader):
        eventually(lambda: leader.ask("/readyz") == STEERS, "it steers", leader.program)
        with ended(second, alone, trial):
            words = f"holds the lease {lease}, epoch 1"
            eventually(lambda: words in second.said(), "it says so", second.program)
            told = (200, "ready to take over; another replica steers, epoch 1\n")
            eventually(lambda: second.ask("/readyz") == told, "so does its probe", second.program)
            warned = f"too, which holds the lease {lease}"
            eventually(lambda: warned in alone.said(), "it is warned", alone.program)
            eventually(
                lambda: "and writes nothing" in trial.said(), "a dry run is free to look", trial.program
            )
    assert "too, which holds" not in trial.said()
