"""What stays in a cluster when the chart goes: our kinds of objects with all queues, and nothing else that anybody has to clear away."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.helm import Document, Helm
from controlplane.installation import SPACE, installation, scheduler_of, webhook_of
from controlplane.leftovers import CRDS, clear
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import QUEUES

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SPACE}/leases/gpumax"


@pytest.fixture
def plane(bare: ControlPlane) -> ControlPlane:
    """A control plane without our kinds of objects."""
    clear(bare, kinds_too=True)
    return bare


def ours(plane: ControlPlane) -> set[str]:
    """All objects that are called as ours are, as kind and name, but for events and for what the API server makes of kinds."""
    groups = ["/api/v1"]
    for group in plane.api.get("/apis").json()["groups"]:
        groups.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    found = set()
    for group in groups:
        for kind in _rows(plane, group, "resources"):
            if "list" in kind["verbs"] and kind["name"] not in ("events", "apiservices"):
                rows = _rows(plane, f"{group}/{kind['name']}", "items")
                found |= {f"{kind['name']}/{row['metadata']['name']}" for row in rows}
    return {name for name in found if name.partition("/")[2].startswith("gpumax") or "gpumax.dev" in name}


def _rows(plane: ControlPlane, path: str, name: str) -> list[Document]:
    """A list; nothing of a kind that went while it was asked for."""
    answer = plane.api.get(path)
    found: list[Document] = answer.json()[name] if answer.status_code == 200 else []
    return found


def test_only_our_kinds_and_the_queues_stay_when_the_chart_goes(
    plane: ControlPlane, helm: Helm, tmp_path: Path
) -> None:
    """The scheduler has held its lease and the webhook has written its certificates; a new installation finds the queues again."""
    before = ours(plane)
    with installation(helm, plane) as objects:
        with scheduler_of(plane, objects, tmp_path), webhook_of(plane, objects, tmp_path):
            eventually(
                lambda: plane.api.get(f"{QUEUES}/default").status_code == 200, "a first queue is there"
            )
            assert plane.api.get(LEASE).json()["spec"]["leaseTransitions"] == 1
        assert len(ours(plane) - before) > 20
    kinds = {f"customresourcedefinitions/{name}.gpumax.dev" for name in ("gangs", "queues", "topologies")}
    # Deployments go in the background, and with them what they own.
    stays = before | kinds | {f"namespaces/{SPACE}"}
    eventually(lambda: ours(plane) <= stays, "all else is gone")
    assert all(plane.api.get(f"{CRDS}/{name.partition('/')[2]}").status_code == 200 for name in kinds)
    assert plane.api.get(f"{QUEUES}/default").status_code == 200


def test_a_lease_that_somebody_deletes_is_made_anew(plane: ControlPlane, helm: Helm, tmp_path: Path) -> None:
    """So nobody has to upgrade the chart to have pods scheduled again."""
    with installation(helm, plane) as objects, scheduler_of(plane, objects, tmp_path) as running:
        before = plane.api.get(LEASE).json()["metadata"]["uid"]
        plane.api.delete(LEASE).raise_for_status()
        eventually(
            lambda: plane.api.get(LEASE).json()["metadata"].get("uid", before) != before,
            "there is another",
            running.program,
        )
        holder = plane.api.get(LEASE).json()["spec"]["holderIdentity"]
        assert f"-{running.program.pid}-" in holder
