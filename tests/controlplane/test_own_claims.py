"""Pods that bring claims of their own along, for devices that gpumax's agents offer: nobody allocates those, and the pods are told so."""

from __future__ import annotations

from controlplane.processes import eventually
from controlplane.stage import Document, Stage
from controlplane.test_fractions import offer
from gpumax.engines.kubernetes import keys

RESOURCES = "/apis/resource.k8s.io/v1"


def asks_for_one(stage: Stage) -> Document:
    """The spec of a claim for a whole device of our agents."""
    return {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": stage.name}}]}}


def brings(stage: Stage, name: str, queue: str, claim: dict[str, str]) -> None:
    """A pod with a claim of its own."""
    body = stage.template(queue, 1, name=name)
    body["spec"]["resourceClaims"] = [{"name": "mine", **claim}]
    body["spec"]["containers"][0]["resources"] = {"claims": [{"name": "mine"}]}
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **body})


def test_a_pod_with_a_claim_of_its_own_is_told_what_to_write_instead(stage: Stage) -> None:
    """By its condition and an event, whether the claim is named or made from a template; the claim stays as it was, and others are served."""
    selectors = [{"cel": {"expression": f'device.driver == "{keys.DRIVER}"'}}]
    stage.post(
        f"{RESOURCES}/deviceclasses",
        {
            "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": stage.name},
            "spec": {"selectors": selectors},
        },
    )  # fmt: skip
    space = f"{RESOURCES}/namespaces/{stage.name}"
    meta = {"apiVersion": "resource.k8s.io/v1", "metadata": {"name": "own"}}
    stage.post(f"{space}/resourceclaims", {**meta, "kind": "ResourceClaim", "spec": asks_for_one(stage)})
    template = {**meta, "kind": "ResourceClaimTemplate", "spec": {"spec": asks_for_one(stage)}}
    stage.post(f"{space}/resourceclaimtemplates", template)
    stage.node("n1", 0)
    offer(stage, "n1", 2)
    stage.node("n2", 1)
    queue = stage.queue("a", 4)
    stage.steer()
    brings(stage, "named", queue, {"resourceClaimName": "own"})
    brings(stage, "templated", queue, {"resourceClaimTemplateName": "own"})
    stage.pod("plain", queue)
    eventually(lambda: stage.where("plain") == ["n2"], "others are served")
    for name in ("named", "templated"):
        eventually(lambda name=name: ("Invalid", name) in stage.events(), f"{name} is told by an event")  # type: ignore[misc]
        told = stage.told(name)
        assert told["reason"] == "Invalid"
        assert told["message"].startswith(
            'spec.resourceClaims[0]: found "mine"; wanted whole GPUs by the containers\' resources'
        )
        assert stage.where(name) == [""]
    assert "allocation" not in stage.api.get(f"{space}/resourceclaims/own").json().get("status", {})
