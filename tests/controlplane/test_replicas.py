"""The scheduler as a process: installed with one option, two replicas of which one schedules, and neither writes what isn't its to write."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from audit import check
from controlplane.middle import Answer, Gate, Pass, binds
from controlplane.plane import Cluster, ControlPlane
from controlplane.processes import Program, eventually

GPU = "nvidia.com/gpu"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/gpumax"


@pytest.fixture
def plane(cluster: Cluster) -> Iterator[ControlPlane]:
    """A control plane of its own with one node of eight GPUs, played by kwok."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    kwok = cluster.own.start_kwok()
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
    node = {
        "apiVersion": "v1", "kind": "Node", "status": {"allocatable": room, "capacity": room},
        "metadata": {"name": "replicas", "labels": {"for": "replicas"}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
    }  # fmt: skip
    cluster.own.api.post("/api/v1/nodes", json=node).raise_for_status()
    yield cluster.own
    cluster.own.api.delete("/api/v1/nodes/replicas")
    cluster.own.api.delete(LEASE)
    kwok.stop()


class Replica:
    """One process, known to the API server by a name of its own, unless it goes another way."""

    def __init__(
        self, plane: ControlPlane, name: str, home: Path, *options: str, way: Path | None = None
    ) -> None:
        self.name = name
        self.log = home / f"{name}.log"
        argv = [
            sys.executable,
            "-m",
            "gpumax.apps.cli.main",
            "up",
            "--kubernetes",
            "--data",
            str(home / name),
            *options,
        ]
        env = {"KUBECONFIG": str(way or plane.kubeconfig(name, "system:masters"))}
        self.program = Program(argv, self.log, env=env)
        self.program.start()

    def said(self) -> str:
        """What it printed."""
        return self.log.read_text()


def pod(
    plane: ControlPlane,
    gpus: int = 1,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> str:
    """A pod for the queue `default`; its name."""
    name = f"p{uuid.uuid4().hex[:8]}"
    body: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": name, "labels": {"gpumax.dev/queue": "default", **(labels or {})}, "annotations": dict(annotations or {}),
        },
        "spec": {
            "schedulerName": "gpumax", "terminationGracePeriodSeconds": 0, "nodeSelector": {"for": "replicas"},
            "containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: str(gpus)}}}],
        },
    }  # fmt: skip
    answer = plane.api.post("/api/v1/namespaces/default/pods", json=body)
    assert answer.status_code == 201, answer.text
    return name


def bound(plane: ControlPlane, name: str) -> bool:
    """Whether the pod has a node."""
    return bool(plane.api.get(f"/api/v1/namespaces/default/pods/{name}").json()["spec"].get("nodeName"))


def writers(plane: ControlPlane, since: str = "") -> set[str]:
    """Who wrote to pods since a moment."""
    return {
        entry["user"]["username"]
        for entry in plane.audited()
        if entry["requestReceivedTimestamp"] > since
        and entry.get("objectRef", {}).get("resource") == "pods"
        and entry["verb"] not in ("get", "list", "watch")
        and entry["user"].get("username", "").startswith("replica-")
    }


def test_a_cluster_without_our_kinds_is_told_what_to_do(plane: ControlPlane, tmp_path: Path) -> None:
    """One line, no traceback; with the option it says what it added."""
    if plane.api.get("/apis/gpumax.dev/v1alpha1/queues").status_code == 404:
        lost = Replica(plane, "replica-0", tmp_path)
        eventually(lost.program.ended, "it ends")
        assert "up --kubernetes --install" in lost.said()
        assert "Traceback" not in lost.said()
    added = Replica(plane, "replica-1", tmp_path, "--install")
    eventually(
        lambda: "steers pods whose schedulerName is gpumax" in added.said(), "it steers", added.program
    )
    name = pod(plane)
    eventually(lambda: bound(plane, name), "a pod of the queue default is bound", added.program)
    added.program.stop()
    assert "Traceback" not in added.said()
    plane.api.delete(f"/api/v1/namespaces/default/pods/{name}")


def test_a_leader_that_ends_gives_its_lease_back(plane: ControlPlane, tmp_path: Path) -> None:
    """So the next one, in a rolling update, need not wait until the lease runs out."""
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases/given-back"
    replica = Replica(plane, "replica-1", tmp_path, "--install", "--lease", "default/given-back")
    eventually(lambda: "steering, epoch 1" in replica.said(), "it leads", replica.program)
    assert f"-{replica.program.pid}-" in plane.api.get(leases).json()["spec"]["holderIdentity"]
    replica.program.stop()
    assert not plane.api.get(leases).json()["spec"].get("holderIdentity")
    follower = Replica(plane, "replica-2", tmp_path, "--lease", "default/given-back")
    eventually(lambda: "steering, epoch 2" in follower.said(), "the next one leads", follower.program)
    follower.program.stop()
    plane.api.delete(leases)


def test_when_the_leader_is_stopped_another_takes_over_and_the_first_writes_nothing(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """Stopped for longer than its lease, then woken in the middle of its work: its time is over by its own clock."""
    options = ("--install", "--lease", "default/gpumax")
    replicas = {name: Replica(plane, name, tmp_path, *options) for name in ("replica-1", "replica-2")}
    programs = [replica.program for replica in replicas.values()]
    first = pod(plane)
    eventually(lambda: bound(plane, first), "one of them schedules", *programs)
    (leader,) = writers(plane) - {"replica-0"} if len(writers(plane)) == 1 else {_holder(plane, replicas)}
    other = next(name for name in replicas if name != leader)
    os.kill(replicas[leader].program.pid, signal.SIGSTOP)
    second = pod(plane)
    eventually(lambda: bound(plane, second), "the other one took over", replicas[other].program)
    moment = plane.audited()[-1]["requestReceivedTimestamp"]
    os.kill(replicas[leader].program.pid, signal.SIGCONT)
    names = [pod(plane) for _ in range(4)]
    eventually(lambda: all(bound(plane, name) for name in names), "pods are bound on", *programs)
    assert writers(plane, moment) == {other}
    assert check(plane.audited(), lease="default/gpumax") == []
    for replica in replicas.values():
        replica.program.stop()
        assert "Traceback" not in replica.said()
    for name in (first, second, *names):
        plane.api.delete(f"/api/v1/namespaces/default/pods/{name}")


def test_both_replicas_are_killed_in_the_middle_of_a_gang(plane: ControlPlane, tmp_path: Path) -> None:
    """Two of its four are bound, the binds of the others are still on their way: the next replica makes it whole, whenever those arrive."""
    options = ("--install", "--lease", "default/gpumax")
    late = Gate()
    with (
        plane.middle() as middle,
        middle.rule(binds, as_it_is, most=2),
        middle.rule(binds, late.before) as rule,
    ):
        replicas = [
            Replica(plane, name, tmp_path, *options, way=middle.kubeconfig)
            for name in ("replica-3", "replica-4")
        ]
        names = [
            pod(plane, labels={"gpumax.dev/gang": "four"}, annotations={"gpumax.dev/min": "4"})
            for _ in range(4)
        ]
        programs = [replica.program for replica in replicas]

        def half() -> bool:
            return rule.met == 2 and [bound(plane, name) for name in names].count(True) == 2

        eventually(half, "half of it is bound", *programs)
        for replica in replicas:
            replica.program.kill()
        third = Replica(plane, "replica-5", tmp_path, *options)
        eventually(lambda: all(bound(plane, name) for name in names), "the gang is whole", third.program)
        late.open()
        eventually(lambda: middle.waiting == 0, "the late binds have arrived")
    third.program.stop()
    assert check(plane.audited(), together_s=60) == []
    for name in names:
        plane.api.delete(f"/api/v1/namespaces/default/pods/{name}")


async def as_it_is(go: Pass) -> Answer:
    """Nothing happens to it."""
    return await go()


def _holder(plane: ControlPlane, replicas: dict[str, Replica]) -> str:
    """Which replica holds the lease, by the process that it names."""
    holder = plane.api.get(LEASE).json()["spec"]["holderIdentity"]
    return next(name for name, replica in replicas.items() if f"-{replica.program.pid}-" in holder)
