"""A scheduler with fewer rights than it asks for: what it can do without it does without, and says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from controlplane.pilot import Pilot
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Document, Stage
from gpumax.engines.kubernetes.rights import RIGHTS
from gpumax.errors import Stale

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


def rules(*without: tuple[str, str]) -> list[Document]:
    """What the scheduler needs, but for these resources."""
    return [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": [*right.verbs]}
        for right in RIGHTS
        if (right.group, right.resource) not in without
    ]


@pytest.fixture
def pilot(stage: Stage, plane: ControlPlane) -> Iterator[Pilot]:
    """One with a user of its own, who has no rights yet."""
    made = Pilot(plane.kubeconfig(f"user-{stage.name}"), stage.name)
    yield made
    made.close()


def grant(stage: Stage, *without: tuple[str, str]) -> None:
    """Give that user a scheduler's rights but for these resources."""
    body: Document = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": stage.name}, "rules": rules(*without),
    }  # fmt: skip
    if stage.api.get(f"{ROLES}/{stage.name}").status_code == 200:
        stage.api.put(f"{ROLES}/{stage.name}", json=body).raise_for_status()
        return
    stage.post(ROLES, body)
    who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"user-{stage.name}"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": stage.name}
    stage.post(
        BINDINGS,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": stage.name}, "roleRef": role, "subjects": [who],
        },
    )  # fmt: skip


def test_it_goes_on_without_what_it_may_not_watch(
    stage: Stage, pilot: Pilot, caplog: pytest.LogCaptureFixture
) -> None:
    """Pods are bound; what isn't looked at is said; given the right, it follows that without a new start."""
    grant(stage, ("gpumax.dev", "topologies"), ("gpumax.dev", "gangs"))
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.pod("p", queue)
    with caplog.at_level(logging.WARNING, "gpumax.kubernetes"):
        pilot.steer()
    eventually(lambda: stage.where("p") == ["n1"], "the pod is bound")
    missing = {
        f"goes on without {name}.gpumax.dev: no right to list and watch them"
        for name in ("topologies", "gangs")
    }
    # What was granted just before it started may have been denied once, and is asked for again.
    eventually(lambda: set(pilot.cluster.left_out) == missing, "the others are known")
    assert pilot.cluster.unready() == ()
    assert all(any(words in row.getMessage() for row in caplog.records) for words in missing)
    grant(stage)
    eventually(lambda: pilot.cluster.left_out == (), "they are known when that is allowed")
    body = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"name": "two"},
        "spec": {"min": 2},
    }
    stage.post(f"/apis/gpumax.dev/v1alpha1/namespaces/{stage.name}/gangs", body)
    stage.pod("g0", queue, labels={"gpumax.dev/gang": "two"})
    eventually(lambda: stage.told("g0").get("reason") == "GangIncomplete", "a gang waits for its second pod")


def test_what_it_can_not_do_without_is_named(stage: Stage, pilot: Pilot) -> None:
    """With where to look for the rights that lack."""
    grant(stage, ("", "nodes"))
    with pytest.raises(
        Stale, match=r"nodes aren't known yet: .*forbidden.*gpumax doctor --engine kubernetes"
    ):
        pilot.cluster.start(patience_s=3)
