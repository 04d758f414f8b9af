"""What a cluster is given before it is steered."""

from __future__ import annotations

import pytest

from engines.kubernetes.stub import Script, says, story, stub
from gpumax.apps.scheduler import install
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Anonymous
from gpumax.engines.kubernetes.guard import kind_of, objects

OURS = "/apis/gpumax.dev/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADDED = says(200, {"metadata": {"name": "x", "uid": "1", "resourceVersion": "1"}})
EMPTY = says(200, {"metadata": {"resourceVersion": "1"}, "items": []})


def known(*names: str) -> Script:
    """What the API server tells who asks what it serves."""
    verbs = ["list", "watch"]
    return says(200, {"resources": [{"name": name, "kind": name, "verbs": verbs} for name in names]})


def test_it_is_installed_when_all_our_kinds_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Served one after the other, and told to be later still: a scheduler that began before would follow only some of them."""
    monkeypatch.setattr(install, "_PAUSE_S", 0.0)

    @story
    async def told() -> None:
        async with stub() as served:
            for body in install.kinds():
                served.plays(f"{CRDS}/{body['metadata']['name']}", ADDED)
            for body in (*objects("decisions"), *objects("only")):
                served.plays(f"{kind_of(body).path()}/{body['metadata']['name']}", ADDED)
            served.plays(
                f"{OURS}/queues",
                says(404),
                EMPTY,
                EMPTY,
                EMPTY,
                EMPTY,
                says(201, {"metadata": {"name": "default"}}),
            )
            served.plays(f"{OURS}/gangs", EMPTY)
            served.plays(f"{OURS}/topologies", says(404), says(404), EMPTY)
            served.plays(
                OURS,
                known("queues"),
                known("queues", "gangs"),
                known("queues", "gangs"),
                known("queues", "gangs", "topologies"),
            )
            done = await install.install(Access(name="test", server=served.url, credential=Anonymous()))
            assert "queue default" in done[-1]
            asked = [one.path for one in served.asked]
            assert asked.count(OURS) == 4
            made = next(number for number, one in enumerate(served.asked) if one.method == "POST")
            assert OURS not in asked[made:]

    told()
