"""What the doctor says where pods ask for parts of GPUs in another way than agents give them."""

from __future__ import annotations

import pytest

from engines.kubernetes.stub import Json, api_of, page, says, story, stub
from gpumax.apps.doctor import guards
from gpumax.apps.doctor.patient import Patient
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.offers import annotation_of
from gpumax.model.node import Device
from manifests import node

HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/gpumax"
ANSWERED: dict[str, Json] = {
    "by claim": {
        "resourceClaims": [{"name": "gpumax", "resourceClaimName": "gpumax-x"}],
        "containers": [{"name": "none"}],
    },
    "by ticket": {"containers": [{"name": "none", "resources": {"limits": {keys.PART: "1"}}}]},
    "not asked": {"containers": [{"name": "none"}]},
}


def plugged() -> Json:
    """A node whose agent is a device plugin."""
    there = node("n1", 0)
    there["metadata"]["annotations"] = {keys.OFFERED: annotation_of((Device(0, "H100", 81_920),))}
    there["status"]["capacity"] = {**there["status"]["allocatable"], keys.PART: "256"}
    return there


@pytest.mark.parametrize(
    ("asks", "there", "told"),
    [
        ("by claim", plugged(), "it has pods ask for parts of GPUs by claims, and all agents are device plugins: such pods wait"),
        ("by ticket", plugged(), ""),
        ("not asked", plugged(), ""),
        ("by claim", node("n1"), ""),
    ],
)  # fmt: skip
def test_a_webhook_that_asks_otherwise_than_agents_give_is_named(
    monkeypatch: pytest.MonkeyPatch, asks: str, there: Json, told: str
) -> None:
    """By a pod that is tried and not made; where there are no agents, or nothing is known of how pods ask, nothing is said."""
    monkeypatch.setattr(guards, "_ends_s", lambda _: None)

    @story
    async def look() -> None:
        async with stub() as server:
            hook = {"clientConfig": {"caBundle": "eA=="}}
            server.plays(HOOKS, says(200, {"metadata": {"name": "gpumax"}, "webhooks": [hook]}))
            server.plays("/api/v1/namespaces/default/pods", says(201, {"spec": ANSWERED[asks]}))
            server.plays("/apis/resource.k8s.io/v1", says(404, {}))
            server.plays("/api/v1/nodes", says(200, page(1, there)))
            async with api_of(server) as api:
                patient = Patient(api, "somebody", frozenset(), "gpumax-system", "gpumax", 0.0)
                rows = [row async for row in guards.webhook(patient)]
            (made,) = [asked for asked in server.asked if asked.method == "POST"]
            assert made.query["dryRun"] == "All"
        assert rows[0].state == "ok"
        assert [row.found for row in rows[1:]] == ([told] if told else [])
        assert all("agent.plugin=true" in row.wish for row in rows[1:])

    look()
