"""The scheduler as a process: installed with one option, two replicas of which one schedules, and neither writes what isn't its to write."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audit import check
from controlplane.leftovers import clear
from controlplane.middle import Answer, Gate, Pass, binds
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.schedulers import Scheduler, running
from controlplane.stage import TOGETHER_S, moment

GPU = "nvidia.com/gpu"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@contextmanager
def node(bare: ControlPlane) -> Iterator[None]:
    """One of eight GPUs, played by kwok."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
    node = {
        "apiVersion": "v1", "kind": "Node", "status": {"allocatable": room, "capacity": room},
        "metadata": {"name": "replicas", "labels": {"for": "replicas"}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
    }  # fmt: skip
    bare.api.post("/api/v1/nodes", json=node).raise_for_status()
    yield
    bare.api.delete("/api/v1/nodes/replicas")


@pytest.fixture
def plane(bare: ControlPlane) -> Iterator[ControlPlane]:
    """A control plane with that node."""
    with node(bare):
        yield bare


@pytest.fixture
def lease(plane: ControlPlane) -> Iterator[str]:
    """One that no other test knows, `namespace/name`."""
    name = f"l{uuid.uuid4().hex[:8]}"
    yield f"default/{name}"
    plane.api.delete(f"{LEASES}/{name}")


@contextmanager
def ended(*replicas: Scheduler) -> Iterator[None]:
    """They run, end in order, and have nothing to complain of."""
    with running(*replicas):
        yield
    for each in replicas:
        assert "Traceback" not in each.said()


def holder(plane: ControlPlane, lease: str) -> str:
    """Who holds it; empty where nobody does."""
    spec = plane.api.get(f"{LEASES}/{lease.rpartition('/')[2]}").json()["spec"]
    return str(spec.get("holderIdentity", ""))


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


def writers(plane: ControlPlane, since: str) -> set[str]:
    """Which of the replicas wrote to pods since a moment."""
    return {
        entry["user"]["username"]
        for entry in plane.audited()
        if entry["requestReceivedTimestamp"] > since
        and entry.get("objectRef", {}).get("resource") == "pods"
        and entry["verb"] not in ("get", "list", "watch")
        and entry["user"].get("username", "").startswith("replica-")
    }


def delete(plane: ControlPlane, *names: str) -> None:
    """These pods."""
    for name in names:
        plane.api.delete(f"/api/v1/namespaces/default/pods/{name}")


def test_a_cluster_without_our_kinds_is_told_what_to_do(bare: ControlPlane, tmp_path: Path) -> None:
    """One line, no traceback; with the option it says what it added."""
    clear(bare, kinds_too=True)
    lost = Scheduler(bare, tmp_path, "replica-0")
    with ended(lost):
        eventually(lost.program.ended, "it ends")
    assert "up --kubernetes --install" in lost.said()
    added = Scheduler(bare, tmp_path, "replica-1", "--install")
    with ended(added), node(bare):
        eventually(
            lambda: "steers pods whose schedulerName is gpumax" in added.said(), "it steers", added.program
        )
        name = pod(bare)
        eventually(lambda: bound(bare, name), "a pod of the queue default is bound", added.program)
        delete(bare, name)


def test_a_leader_that_ends_gives_its_lease_back(plane: ControlPlane, lease: str, tmp_path: Path) -> None:
    """So the next one, in a rolling update, need not wait until the lease runs out."""
    replica, follower = (
        Scheduler(plane, tmp_path, f"replica-{number}", "--install", "--lease", lease) for number in (1, 2)
    )
    with ended(replica):
        eventually(lambda: "steering, epoch 1" in replica.said(), "it leads", replica.program)
        assert f"-{replica.program.pid}-" in holder(plane, lease)
    assert not holder(plane, lease)
    with ended(follower):
        eventually(lambda: "steering, epoch 2" in follower.said(), "the next one leads", follower.program)


def test_when_the_leader_is_stopped_another_takes_over_and_the_first_writes_nothing(
    plane: ControlPlane, lease: str, tmp_path: Path
) -> None:
    """Stopped for longer than its lease, then woken in the middle of its work: its time is over by its own clock."""
    began = moment()
    both = [
        Scheduler(plane, tmp_path, f"replica-{number}", "--install", "--lease", lease) for number in (1, 2)
    ]
    programs = [replica.program for replica in both]
    with ended(*both):
        first = pod(plane)
        eventually(lambda: bound(plane, first), "one of them schedules", *programs)
        leads = [f"-{program.pid}-" in holder(plane, lease) for program in programs].index(True)
        programs[leads].signal(signal.SIGSTOP)
        second = pod(plane)
        eventually(lambda: bound(plane, second), "the other one took over", programs[1 - leads])
        woken = moment()
        programs[leads].signal(signal.SIGCONT)
        names = [pod(plane) for _ in range(4)]
        eventually(lambda: all(bound(plane, name) for name in names), "pods are bound on", *programs)
        assert writers(plane, woken) == {f"replica-{2 - leads}"}
        assert check(plane.audited(), lease=lease, since=began) == []
    delete(plane, first, second, *names)


def test_both_replicas_are_killed_in_the_middle_of_a_gang(
    plane: ControlPlane, lease: str, tmp_path: Path
) -> None:
    """Two of its four are bound, the binds of the others are still on their way: the next replica makes it whole, whenever those arrive."""
    began = moment()
    options = ("--install", "--lease", lease)
    late = Gate()
    with (
        plane.middle() as middle,
        middle.rule(binds, as_it_is, most=2),
        middle.rule(binds, late.before) as rule,
    ):
        both = [
            Scheduler(plane, tmp_path, f"replica-{number}", *options, way=middle.kubeconfig)
            for number in (3, 4)
        ]
        programs = [replica.program for replica in both]
        for program in programs:
            program.start()
        names = [
            pod(plane, labels={"gpumax.dev/gang": "four"}, annotations={"gpumax.dev/min": "4"})
            for _ in range(4)
        ]

        def half() -> bool:
            return rule.met >= 2 and [bound(plane, name) for name in names].count(True) == 2

        eventually(half, "half of it is bound", *programs)
        for program in programs:
            program.kill()
        third = Scheduler(plane, tmp_path, "replica-5", *options)
        with ended(third):
            eventually(lambda: all(bound(plane, name) for name in names), "the gang is whole", third.program)
            late.open()
            eventually(lambda: middle.waiting == 0, "the late binds have arrived")
    assert check(plane.audited(), together_s=TOGETHER_S, since=began) == []
    delete(plane, *names)


async def as_it_is(go: Pass) -> Answer:
    """Nothing happens to it."""
    return await go()
