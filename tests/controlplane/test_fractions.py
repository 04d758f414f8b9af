"""Parts of GPUs on a real API server: claims that the scheduler allocates, and who reads them."""

from __future__ import annotations

from typing import Any

from controlplane.processes import eventually
from controlplane.stage import Document, Stage
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device

GIB = 1024
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


def part(stage: Stage, name: str, queue: str, **annotations: str) -> None:
    """A pod that asks for a part, as the webhook leaves it."""
    wish = {key.replace("_", "-"): value for key, value in annotations.items()}
    body = stage.template(queue, 0, name=name, annotations=wish)
    body["spec"]["resourceClaims"] = [{"name": keys.CLAIM, "resourceClaimName": f"gpumax-{name}"}]
    body["spec"]["containers"][0]["resources"] = {"claims": [{"name": keys.CLAIM}]}
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **body})


def offer(stage: Stage, name: str, devices: int) -> None:
    """What an agent on that node would publish."""
    node = f"{stage.name}-{name}"
    uid = stage.api.get(f"/api/v1/nodes/{node}").json()["metadata"]["uid"]
    rows = [Device(index, "H100", 80 * GIB) for index in range(devices)]
    body = slice_of(node, uid, rows, {index: f"GPU-{index}" for index in range(devices)})
    stage.post(SLICES, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **body})


def claims(stage: Stage) -> dict[str, Document]:
    """All claims, by name."""
    rows = stage.api.get(CLAIMS.format(stage.name)).json()["items"]
    return {row["metadata"]["name"]: row for row in rows}


def results(claim: Document) -> list[dict[str, Any]]:
    """The devices that a claim holds."""
    found: list[dict[str, Any]] = claim["status"]["allocation"]["devices"]["results"]
    return found


def test_halves_share_a_device_and_the_third_waits(stage: Stage) -> None:
    """Each with a claim of its own that is allocated and reserved before the pod is bound."""
    stage.node("n1", 0)
    offer(stage, "n1", 1)
    queue = stage.queue("q", 8)
    stage.steer()
    for name in ("a", "b", "c"):
        part(stage, name, queue, gpu_fraction="0.5")
    eventually(lambda: stage.where().count("n1") == 2, "two are bound")
    eventually(lambda: "NoRoom" in str(stage.events()), "the third is told why it waits")
    made = claims(stage)
    assert len(made) == 2
    for name, claim in made.items():
        (row,) = results(claim)
        assert (row["driver"], row["pool"], row["device"]) == ("gpu.gpumax.dev", f"{stage.name}-n1", "gpu-0")
        assert [user["name"] for user in claim["status"]["reservedFor"]] == [name.removeprefix("gpumax-")]
    first = next(name for name, row in stage.pods().items() if row["spec"].get("nodeName"))
    stage.api.delete(f"{stage.pods_path}/{first}")
    eventually(lambda: stage.where() == ["n1", "n1"], "the third gets the room")
    eventually(lambda: f"gpumax-{first}" not in claims(stage), "its claim has gone with it")
