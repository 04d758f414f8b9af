"""What the API server itself keeps of decisions and devices: policies that hold whoever asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controlplane.guards import (
    SIGNED,
    TENANTS,
    apply,
    bind,
    grant,
    made_by,
)
from controlplane.leftovers import heed
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Document
from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.guard import objects


@pytest.fixture(scope="module")
def decisions(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the guard of decisions in force, and a tenant who may do anything to pods of namespace `tenants`."""
    made = apply(system, "decisions")
    made += grant(
        system, "tenants", "tenant", ["pods", "pods/status", "pods/binding", "pods/ephemeralcontainers"]
    )
    heed(system)
    yield system
    for path in reversed(made):
        system.api.delete(path)


PART = {"gpu-fraction": "0.5"}
GIVEN = {"gpumax.dev/devices": '{"devices": {}}'}


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (
            {"annotations": {"gpumax.dev/devices": '{"0":500}'}},
            "leave it out, and ask by gpumax.dev/gpu-fraction",
        ),
        ({"node": "n1"}, "the scheduler gpumax chooses the node"),
        ({"annotations": PART, "env": {"NVIDIA_VISIBLE_DEVICES": "all"}}, "leave them out of its env"),
        *[({"labels": PART, "env": {name: "1"}}, "leave them out of its env") for name in keys.PART_ENV],
    ],
)
def test_a_tenant_can_name_neither_device_nor_node_nor_share(
    decisions: ControlPlane, words: Document, wrong: str
) -> None:
    """Refused in words that say what to do instead; pods of other schedulers are not looked at."""
    with decisions.client("tenant") as tenant:
        answer = made_by(tenant, **words)
        assert (answer.status_code, wrong in answer.json()["message"]) == (403, True), answer.text
        assert made_by(tenant, scheduler="default-scheduler", **words).status_code == 201
        fine: Document = {"env": {"PATH": "/bin"}, "labels": {"gpumax.dev/queue": "q"}, "annotations": PART}
        assert made_by(tenant, **fine).status_code == 201


def test_what_a_placed_pod_asked_for_stays_as_it_was(
    decisions: ControlPlane, scheduler: httpx.Client
) -> None:
    """By no way that leads to its metadata; a pod that waits may ask for something else, and other words may change."""
    name = "changes"
    merge = {"Content-Type": "application/merge-patch+json"}
    with decisions.client("tenant") as tenant:
        made_by(tenant, name, dry=False, labels={"gpumax.dev/queue": "mine", "app": "a"}).raise_for_status()
        try:

            def change(part: str = "", who: httpx.Client = tenant, **meta: Any) -> int:
                path = f"{TENANTS}/{name}{part}"
                return who.patch(path, json={"metadata": meta}, headers=merge).status_code

            assert change(labels={"gpumax.dev/queue": "ours"}) == 200
            assert change(annotations=GIVEN) == 403
            given = bind(tenant, "", "tenants", name, "n1", annotations=GIVEN)
            assert (given.status_code, "only the scheduler" in given.text) == (403, True)
            bind(scheduler, SIGNED, "tenants", name, "n1", annotations=GIVEN).raise_for_status()
            for part in ("", "/status"):
                for meta in (
                    {"labels": {"gpumax.dev/queue": "theirs"}}, {"labels": {"gpumax.dev/queue": None}},
                    {"labels": {"kai.scheduler/queue": "theirs"}}, {"annotations": {"runai/queue": "theirs"}},
                    {"annotations": {"gpu-fraction": "0.1"}}, {"annotations": {"priorityClassName": "inference"}},
                    {"annotations": {"gpumax.dev/devices": None}}, {"labels": {"gpumax.dev/preemptible": "false"}},
                ):  # fmt: skip
                    assert change(part, **meta) == 403, (part, meta)
                assert change(part, labels={"app": "b"}, annotations={"note": "x" * 200_000}) == 200
            assert change(who=scheduler, annotations={"gpumax.dev/devices": "[]"}) == 200
        finally:
            decisions.api.delete(f"{TENANTS}/{name}", params={"gracePeriodSeconds": 0})


def test_every_word_that_counts_is_guarded(decisions: ControlPlane) -> None:
    """A name that is added to those that are read, and not to the policy, would be one that tenants can change later."""
    policy = next(body for body in objects("decisions") if body["kind"] == "ValidatingAdmissionPolicy")
    rows = {row["name"]: row["expression"] for row in policy["spec"]["variables"]}
    pattern = rows["ours"].strip("'").replace("\\\\", "\\")
    assert [key for key in sorted(keys.READ) if not re.search(pattern, key)] == []
    assert all(f"'{key}'" in rows["asksForPart"] for key in (*keys.FRACTION, *keys.MEMORY))
    assert keys.GIVEN in str(policy["spec"]["validations"])


def test_in_a_namespace_that_is_ours_alone_no_other_scheduler_gives_devices(system: ControlPlane) -> None:
    """Whatever the vendor and the container, claims included; pods without devices, and other namespaces, are not looked at."""
    made = apply(system, "only")
    space = {"metadata": {"name": "ours-alone", "labels": {"gpumax.dev/only": "true"}}}
    system.api.post("/api/v1/namespaces", json=space)
    system.await_account("ours-alone")
    (policy, _) = objects("only")
    listed = policy["spec"]["variables"][0]["expression"]
    assert all(f"'{name}'" in listed for name in (*quantities.GPUS, keys.PART))

    def refused(
        resource: str, scheduler: str = "default-scheduler", where: str = "ours-alone", **spec: Any
    ) -> bool:
        limits = {resource: "1"} if resource else {}
        one = {"name": "main", "image": "none", "resources": {"limits": limits}}
        body = {"metadata": {"name": "p"}, "spec": {"schedulerName": scheduler, "containers": [one], **spec}}
        path = f"/api/v1/namespaces/{where}/pods"
        return "'gpumax-only'" in system.api.post(path, json=body, params={"dryRun": "All"}).text

    try:
        eventually(lambda: refused("nvidia.com/gpu"), "it is in force")
        for resource in (*quantities.GPUS, "nvidia.com/mig-1g.10gb", keys.PART):
            assert refused(resource), resource
        first = [{"name": "first", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
        assert refused("", initContainers=first)
        assert refused("", resourceClaims=[{"name": "c", "resourceClaimName": "c"}])
        assert not refused("")
        assert not refused("nvidia.com/gpu", "gpumax")
        assert not refused("nvidia.com/gpu", where="default")
    finally:
        for path in reversed(made):
            system.api.delete(path)
