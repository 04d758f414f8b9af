"""With the policy of the API server: a pod goes to the queues that its account may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from controlplane.guards import (
    TENANTS,
    allow,
    apply,
    grant,
    made_by,
)
from controlplane.leftovers import heed
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Document
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.guard import kind_of


@pytest.fixture(scope="module")
def queues(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the right to use queues required: `mine` and `too` are for the namespace `tenants`, `personal` for the tenant alone."""
    made = apply(system, "queues")
    made += grant(system, "tenants", "tenant", ["pods", "serviceaccounts"])
    made += allow(system, "tenants", "mine", {"kind": "Group", "name": "system:serviceaccounts:tenants"})
    made += allow(
        system, "tenants", "too", {"kind": "ServiceAccount", "name": "default", "namespace": "tenants"}
    )
    made += allow(system, "tenants", "personal", {"kind": "User", "name": "tenant"})
    heed(system)
    yield system
    for path in reversed(made):
        system.api.delete(path)


@pytest.mark.parametrize("key", keys.QUEUE)
@pytest.mark.parametrize("part", ["labels", "annotations"])
def test_a_pod_goes_only_to_queues_that_its_account_may_use(
    queues: ControlPlane, part: str, key: str
) -> None:
    """Whatever the name of the word, and where it stands. Who makes it says nothing: mostly that is a controller."""
    with queues.client("tenant") as tenant:
        made: dict[str, httpx.Response] = {}
        for queue in ("mine", "personal", "theirs", "default"):
            words: Document = {part: {key: queue}}
            made[queue] = made_by(tenant, **words)
        codes = {queue: answer.status_code for queue, answer in made.items()}
        assert codes == {"mine": 201, "personal": 403, "theirs": 403, "default": 403}
        wanted = "found queue theirs; wanted one that service account tenants/default may use"
        assert wanted in made["theirs"].json()["message"]


def test_the_rights_of_the_page_let_a_namespace_use_a_queue(queues: ControlPlane) -> None:
    """As docs/explanation/security.md has them, for its namespace and no other."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
    text = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    queues.api.post("/api/v1/namespaces", json={"metadata": {"name": "team-a"}})
    queues.await_account("team-a")
    made = []
    for body in yaml.safe_load_all(text):
        path = kind_of(body).path(body["metadata"].get("namespace", ""))
        assert queues.api.post(path, json=body).status_code == 201
        made.append(f"{path}/{body['metadata']['name']}")
    label = {"gpumax.dev/queue": "research"}
    eventually(lambda: made_by(queues.api, where="team-a", labels=label).status_code == 201, "it may")
    assert made_by(queues.api, where="tenants", labels=label).status_code == 403
    for path in made:
        queues.api.delete(path)


def test_the_queue_of_the_namespace_counts_where_a_pod_says_none(queues: ControlPlane) -> None:
    """It was given by whoever may change namespaces; and the word of the pod goes first."""
    merge = {"Content-Type": "application/merge-patch+json"}

    def given(queue: str | None) -> None:
        body = {"metadata": {"labels": {"kai.scheduler/queue": queue}}}
        queues.api.patch("/api/v1/namespaces/tenants", json=body, headers=merge).raise_for_status()

    with queues.client("tenant") as tenant:
        assert made_by(tenant).status_code == 403
        given("mine")
        try:
            eventually(lambda: made_by(tenant).status_code == 201, "the namespace's queue is mine")
            assert made_by(tenant, labels={"runai/queue": "theirs"}).status_code == 403
        finally:
            given(None)
            eventually(lambda: made_by(tenant).status_code == 403, "it has none again")


def test_a_waiting_pod_can_move_only_to_queues_that_it_may_use(queues: ControlPlane) -> None:
    """What else changes about it is nobody's business here, also after a right was taken away."""
    merge = {"Content-Type": "application/merge-patch+json"}
    with queues.client("tenant") as tenant:
        made_by(tenant, "moves", dry=False, labels={"gpumax.dev/queue": "mine"}).raise_for_status()
        try:

            def change(part: str, value: str) -> int:
                body = {"metadata": {"labels": {part: value}}}
                return tenant.patch(f"{TENANTS}/moves", json=body, headers=merge).status_code

            assert change("gpumax.dev/queue", "theirs") == 403
            assert change("gpumax.dev/queue", "too") == 200
            assert change("app", "x") == 200
        finally:
            queues.api.delete(f"{TENANTS}/moves", params={"gracePeriodSeconds": 0})
