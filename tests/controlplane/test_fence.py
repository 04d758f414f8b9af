"""The fence in the API server: whoever writes as the scheduler does so in the epoch of its lease, whatever they believe."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from controlplane.guards import (
    LEASES,
    SCHEDULER,
    SIGNED,
    apply,
    tried,
)
from controlplane.leftovers import heed
from controlplane.pilot import Pilot
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Document, Stage
from gpumax.engines.kubernetes.lease import Fence


@pytest.fixture(scope="module")
def fenced(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the fence, in force, and a lease of epoch 1 that replica `a` holds."""
    made = apply(system, "fence")
    heed(system)
    hold(system, "a", 1)
    yield system
    for path in made:
        system.api.delete(path)
    system.api.delete(f"{LEASES}/gpumax")


def hold(plane: ControlPlane, holder: str, epoch: int) -> None:
    """Have this replica hold the lease, and the server know it."""
    spec = {"holderIdentity": holder, "leaseTransitions": epoch, "leaseDurationSeconds": 15}
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "gpumax"},
        "spec": spec,
    }
    if plane.api.post(LEASES, json=body).status_code == 409:
        merge = {"Content-Type": "application/merge-patch+json"}
        plane.api.patch(f"{LEASES}/gpumax", json={"spec": spec}, headers=merge).raise_for_status()
    with plane.client(SCHEDULER, "system:masters") as client:
        eventually(
            lambda: (
                (tried(client, "").status_code, tried(client, f"gpumax/{epoch}/{holder}").status_code)
                == (403, 404)
            ),
            "the server knows who holds it",
        )


def signatures(plane: ControlPlane, stage: Stage, pod: str) -> set[str]:
    """How the binds of a pod that the server carried out were signed."""
    return {
        parse_qs(urlsplit(entry["requestURI"]).query).get("fieldManager", [""])[0]
        for entry in plane.audited()
        if entry.get("objectRef", {}).get("subresource") == "binding"
        and (entry["objectRef"]["namespace"], entry["objectRef"]["name"]) == (stage.name, pod)
        and entry.get("responseStatus", {}).get("code") == 201
    }


@pytest.mark.parametrize("stamp", ["", "gpumax", "gpumax/0/a", "gpumax/1/b", "gpumax/2/a", "gpumax/1/a/"])
def test_binds_of_another_epoch_are_refused_by_the_server(
    fenced: ControlPlane, scheduler: httpx.Client, stamp: str
) -> None:
    """Whoever doesn't hold the lease, held it in an earlier epoch, or doesn't say: 403, in words that name both."""
    answer = tried(scheduler, stamp)
    assert answer.status_code == 403
    assert "is held by gpumax/1/a" in answer.json()["message"]


def test_writes_of_the_lease_s_epoch_pass_and_those_of_others_are_not_looked_at(
    fenced: ControlPlane, scheduler: httpx.Client
) -> None:
    """The holder's binds reach the pod registry, and so do those of whoever is not the scheduler."""
    assert tried(scheduler, "gpumax/1/a").status_code == 404
    with fenced.client("system:kube-scheduler", "system:masters") as other:
        assert tried(other, "").status_code == 404


def test_status_evictions_and_statuses_of_our_objects_are_fenced_alike(
    fenced: ControlPlane, scheduler: httpx.Client, stage: Stage
) -> None:
    """All that the scheduler writes, not binds alone."""
    stage.queue("team", 1)
    stage.pod("one", f"{stage.name}-team")
    merge = {"Content-Type": "application/merge-patch+json"}
    pod = f"{stage.pods_path}/one"
    asked: list[tuple[str, str, Document]] = [
        ("PATCH", f"{pod}/status", {"status": {"reason": "Told"}}),
        ("PATCH", f"/apis/gpumax.dev/v1alpha1/queues/{stage.name}-team/status", {"status": {}}),
        (
            "POST",
            f"{pod}/eviction",
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "one"}},
        ),
    ]
    for method, path, body in asked:
        headers = merge if method == "PATCH" else {}
        codes = [
            scheduler.request(
                method, path, json=body, headers=headers, params={"fieldManager": stamp}
            ).status_code
            for stamp in ("gpumax/0/z", "gpumax/1/a")
        ]
        assert codes[0] == 403, path
        assert codes[1] in (200, 201), path


def test_a_leader_whose_clock_stands_still_writes_nothing_once_another_holds_the_lease(
    fenced: ControlPlane,
) -> None:
    """Its own fence stays open for ever; the server refuses its writes, it notices, and the next leader's pass."""
    first, second = Fence(now_s=lambda: 0.0), Fence(now_s=lambda: 0.0)
    first.renewed(0.0, 1, "a")
    hold(fenced, "a", 1)
    stage = Stage(fenced, SCHEDULER, first)
    try:
        queue = stage.queue("team", 4)
        stage.node("n1", 4)
        stage.steer()
        stage.pod("before", queue)
        eventually(lambda: stage.where("before") == ["n1"], "the leader binds")
        hold(fenced, "b", 2)
        stage.pod("after", queue)
        eventually(lambda: stage.cluster.counts["fenced"] > 0, "it is told")
        assert stage.where("after") == [""]
        assert not first.open
        second.renewed(0.0, 2, "b")
        other = Pilot(fenced.kubeconfig(SCHEDULER, "system:masters"), stage.name, fence=second)
        try:
            other.steer()
            eventually(lambda: stage.where("after") == ["n1"], "the next leader binds")
        finally:
            other.close()
        assert signatures(fenced, stage, "after") == {"gpumax/2/b"}
    finally:
        stage.close()
        hold(fenced, "a", 1)


def test_a_lease_that_nobody_holds_lets_nobody_write(fenced: ControlPlane, scheduler: httpx.Client) -> None:
    """It was given up, or is empty: whoever held it last is not its holder."""
    merge = {"Content-Type": "application/merge-patch+json"}
    try:
        for spec in ({"holderIdentity": None}, None):
            body = {"spec": spec}
            fenced.api.patch(f"{LEASES}/gpumax", json=body, headers=merge).raise_for_status()
            eventually(lambda: tried(scheduler, SIGNED).status_code == 403, "the server knows it")
            assert {tried(scheduler, stamp).status_code for stamp in ("gpumax/1/", "gpumax/0/", "")} == {403}
    finally:
        hold(fenced, "a", 1)


def test_where_there_is_no_lease_nobody_is_fenced(fenced: ControlPlane, scheduler: httpx.Client) -> None:
    """Nobody can have taken over where there is nothing to take; and nobody else's binds fail for want of it."""
    fenced.api.delete(f"{LEASES}/gpumax").raise_for_status()
    try:
        eventually(lambda: tried(scheduler, "").status_code == 404, "the server knows that it is gone")
        with fenced.client("system:kube-scheduler", "system:masters") as other:
            assert tried(other, "").status_code == 404
    finally:
        hold(fenced, "a", 1)
