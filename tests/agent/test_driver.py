"""The agent's driver of claims: what a container gets, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines.kubernetes.stub import story
from gpumax.apps.agent.driver import Driver
from gpumax.apps.agent.giving import Place
from gpumax.apps.agent.parts import Parts, of_vendor
from gpumax.apps.agent.wire import kubelet_pb2 as wire
from gpumax.devices import open_devices
from gpumax.devices.nvml import NvmlDevices
from gpumax.engines.kubernetes.claims import Claim, status
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, Status
from gpumax.engines.kubernetes.grants import Amount, Given, Grant, Mapped
from gpumax.model.node import Device

GIB = 1024
UID = "130122b9-fcf5-452f-92d0-5d18fb32647a"
HALF = Grant({0: Amount(500, 40 * GIB)})


def given(grant: Grant, *containers: int) -> Given:
    """What a pod gets; containers: how many devices each asks for by resource."""
    mapped = (Mapped(f"c{place}", "nvidia.com/gpu", number) for place, number in enumerate(containers))
    return Given(grant, "gpumax-a", tuple(mapped))


class RealLooking(NvmlDevices):
    """Devices as the driver would report them: known by UUIDs."""

    def __init__(self) -> None:
        """No driver is asked."""

    def read(self) -> tuple[Device, ...]:
        """Two."""
        return (Device(0, "H100", 80 * GIB), Device(1, "H100", 80 * GIB))

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """By UUID."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(f"GPU-{index}" for index in indexes)}

    def uuids(self) -> dict[int, str]:
        """By index."""
        return {0: "GPU-0", 1: "GPU-1"}


def claim(grant: Grant = HALF, *, node: str = "n1", uid: str = UID, **changes: Any) -> Claim:
    """A claim as the API has it; changes: of its status, by name."""
    document = {
        "metadata": {"name": "gpumax-a", "namespace": "ml", "uid": uid},
        "status": status(node, {"namespace": "ml", "name": "a", "uid": "p"}, given(grant)) | changes,
    }
    return msgspec.json.decode(msgspec.json.encode(document), type=Claim)


class Node:
    """A node with a driver, and the claims of its cluster."""

    def __init__(self, folder: Path, devices: str = "2xH100:80Gi") -> None:
        self.folder = folder
        self.claims: dict[str, Claim | Exception] = {}
        self.place = Place("n1", open_devices(devices), folder / "layer")
        self.restart()

    def restart(self) -> None:
        """A new process in the place of one that was killed."""
        self.driver = Driver(self.place, Parts(self.folder / "cdi", self.folder / "kept"), self.read)

    async def read(self, _space: str, name: str) -> Claim:
        """What the API answers."""
        found = self.claims.get(name, ApiRefused(404, Status(reason="NotFound")))
        if isinstance(found, Exception):
            raise found
        return found

    async def prepare(self, uid: str = UID) -> wire.PreparedClaim:
        """The kubelet asks for the claim."""
        asked = wire.Claims(claims=[wire.Claim(namespace="ml", name="gpumax-a", uid=uid)])
        return (await self.driver.prepare(asked, None)).claims[uid]

    async def unprepare(self, uid: str = UID) -> wire.UnpreparedClaim:
        """The kubelet gives it up."""
        asked = wire.Claims(claims=[wire.Claim(namespace="ml", name="gpumax-a", uid=uid)])
        return (await self.driver.unprepare(asked, None)).claims[uid]

    @property
    def specs(self) -> list[dict[str, Any]]:
        """What the runtime finds."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "cdi").iterdir())]

    @property
    def env(self) -> dict[str, str]:
        """Of the one part that there is."""
        (spec,) = self.specs
        return dict(line.split("=", 1) for line in spec["devices"][0]["containerEdits"]["env"])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose cluster has one claim."""
    made = Node(tmp_path)
    made.claims["gpumax-a"] = claim()
    return made


@story
async def test_a_claim_becomes_a_device_for_the_runtime(node: Node) -> None:
    """Found by its full name; asked for again it is the same."""
    (device,) = (await node.prepare()).devices
    assert device.cdi_device_ids == [f"gpu.gpumax.dev/part=part-{UID}"]
    assert (device.pool_name, device.device_name, list(device.request_names)) == ("n1", "gpu-0", ["gpu"])
    (spec,) = before = node.specs
    assert (spec["cdiVersion"], spec["kind"]) == ("0.3.0", "gpu.gpumax.dev/part")
    assert [row["name"] for row in spec["devices"]] == [f"part-{UID}"]
    node.restart()
    assert (await node.prepare()).devices[0] == device
    assert node.specs == before


@story
async def test_several_devices_are_one_part(node: Node) -> None:
    """All of them are visible; the runtime is told of them once."""
    node.claims["gpumax-a"] = claim(Grant({0: Amount(250, 20 * GIB), 1: Amount(500, 10 * GIB)}))
    devices = (await node.prepare()).devices
    assert [(row.device_name, len(row.cdi_device_ids)) for row in devices] == [("gpu-0", 1), ("gpu-1", 0)]
    assert node.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert (node.env["GPUMAX_SHARE"], node.env["GPUMAX_LIMIT"]) == ("0.25", str(10 << 30))


@story
async def test_containers_that_ask_by_resource_get_each_their_own(node: Node) -> None:
    """Of one claim, by its requests; all of them are given up together."""
    whole = given(Grant({0: Amount(1000, 80 * GIB), 1: Amount(1000, 80 * GIB)}), 1, 0, 1)
    assert whole.mappings == [
        {"containerName": "c0", "resourceName": "nvidia.com/gpu", "requestName": "gpu-0"},
        {"containerName": "c1", "resourceName": "nvidia.com/gpu", "requestName": "gpu-0"},
        {"containerName": "c1", "resourceName": "nvidia.com/gpu", "requestName": "gpu-1"},
        {"containerName": "c2", "resourceName": "nvidia.com/gpu", "requestName": "gpu-1"},
    ]
    pod = {"namespace": "ml", "name": "a", "uid": "p"}
    node.claims["gpumax-a"] = claim(**status("n1", pod, whole))
    devices = (await node.prepare()).devices
    assert [(row.device_name, list(row.request_names)) for row in devices] == [
        ("gpu-0", ["gpu-0"]),
        ("gpu-1", ["gpu-1"]),
    ]
    seen = [spec["devices"][0]["containerEdits"]["env"][0] for spec in node.specs]
    assert seen == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]
    await node.driver.sweep()
    assert len(node.specs) == 2
    await node.unprepare()
    assert node.specs == []
    assert list((node.folder / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("grant", "limit_mib"),
    [
        (Grant({0: Amount(500, 40 * GIB)}), 40 * GIB),
        (Grant({0: Amount(500, 40 * GIB)}, Amount(1000)), 80 * GIB),
        (Grant({0: Amount(250, 20 * GIB)}, Amount(0, 30 * GIB)), 30 * GIB),
        (Grant({0: Amount(500)}), 0),
    ],
)
@story
async def test_memory_is_limited_by_what_was_given_or_by_the_limit(
    node: Node, grant: Grant, limit_mib: int
) -> None:
    """In bytes; where nobody knows how much a device has, not at all."""
    node.claims["gpumax-a"] = claim(grant)
    await node.prepare()
    assert node.env.get("GPUMAX_LIMIT", "0") == str(limit_mib << 20)


@story
async def test_real_devices_are_named_by_uuid(node: Node) -> None:
    """For CUDA and for the vendor's runtime; where its toolkit wrote a spec, that counts, too."""
    vendor = node.folder / "vendor"
    vendor.mkdir()
    (vendor / "nvidia.yaml").write_text("kind: nvidia.com/gpu\ndevices: [{name: '0'}, {name: GPU-0}]\n")
    (vendor / "broken.yaml").write_text("kind: [")
    node.place = Place("n1", RealLooking(), node.folder / "layer", (vendor, node.folder / "nowhere"))
    node.restart()
    (device,) = (await node.prepare()).devices
    assert device.cdi_device_ids[1:] == ["nvidia.com/gpu=GPU-0"]
    assert node.env["CUDA_VISIBLE_DEVICES"] == node.env["NVIDIA_VISIBLE_DEVICES"] == "GPU-0"
    assert of_vendor([vendor], ["GPU-1"]) == []


@story
async def test_the_layer_under_cuda_comes_along_where_it_is(node: Node) -> None:
    """As files that the container can't change."""
    node.place.layer.mkdir()
    (node.place.layer / "libgpumax-cuda.so").touch()
    await node.prepare()
    (spec,) = node.specs
    (mount,) = spec["devices"][0]["containerEdits"]["mounts"]
    assert mount["hostPath"] == str(node.place.layer / "libgpumax-cuda.so")
    assert "ro" in mount["options"]
    assert node.env["LD_PRELOAD"] == mount["containerPath"] == "/usr/local/lib/gpumax/libgpumax-cuda.so"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lambda: claim(uid="another"), "another one now"),
        (lambda: claim(node="n2"), "nothing of node n1 is allocated to it"),
        (lambda: claim(allocation=None), "nothing of node n1 is allocated to it"),
        (lambda: claim(Grant({7: Amount(500)})), "this node has no GPU 7; it has 2"),
        (lambda: claim(Grant({})), "nothing of node n1 is allocated to it"),
        (lambda: NoAnswer("nobody is there"), "nobody is there"),
        (lambda: ApiRefused(404, Status(reason="NotFound")), "NotFound"),
    ],
)
@story
async def test_what_cannot_be_made_ready_is_told(
    node: Node, found: Callable[[], Claim | Exception], words: str
) -> None:
    """To the kubelet, which tells it on the pod and asks again; nothing is left behind."""
    node.claims["gpumax-a"] = found()
    assert words in (await node.prepare()).error
    assert node.specs == []


@pytest.mark.parametrize("source", ["FromClaim", ""])
@story
async def test_what_a_tenant_wrote_into_a_claim_gives_nothing(node: Node, source: str) -> None:
    """Parameters count only where they come from the scheduler."""
    pod = {"namespace": "ml", "name": "a", "uid": "p"}
    forged = status("n1", pod, given(Grant({0: Amount(1000)})))["allocation"]
    forged["devices"]["config"][0]["source"] = source
    node.claims["gpumax-a"] = claim(allocation=forged)
    assert "gpumax's scheduler writes that" in (await node.prepare()).error


@story
async def test_what_is_given_up_is_gone(node: Node) -> None:
    """Without asking anybody: the claim is gone by then. What was never there is given up, too."""
    await node.prepare()
    node.claims.clear()
    assert (await node.unprepare()).error == ""
    assert node.specs == []
    assert list((node.folder / "kept").iterdir()) == []
    assert (await node.unprepare()).error == ""


@pytest.mark.parametrize("uid", ["../../etc/passwd", "a/b", "", ".", "x" * 200])
@story
async def test_a_uid_that_is_none_becomes_no_file(node: Node, uid: str) -> None:
    """Wherever it came from."""
    node.claims["gpumax-a"] = claim(uid=uid)
    assert "wanted a uid" in (await node.prepare(uid)).error
    assert "wanted a uid" in (await node.unprepare(uid)).error


@pytest.mark.parametrize(
    ("found", "stays"),
    [
        (lambda: claim(), True),
        (lambda: NoAnswer("nobody is there"), True),
        (lambda: ApiRefused(403, Status(reason="Forbidden")), True),
        (lambda: ApiRefused(404, Status(reason="NotFound")), False),
        (lambda: claim(allocation=None), False),
        (lambda: claim(node="n2"), False),
        (lambda: claim(uid="another"), False),
    ],
)
@story
async def test_a_sweep_removes_what_is_over_and_no_more(
    node: Node, found: Callable[[], Claim | Exception], *, stays: bool
) -> None:
    """Who can't be asked may still be there."""
    await node.prepare()
    node.claims["gpumax-a"] = found()
    node.restart()
    await node.driver.sweep()
    assert len(node.specs) == stays


@story
async def test_a_sweep_writes_again_what_a_reboot_took(node: Node) -> None:
    """The runtime's folder is empty then; the kubelet believes that the claim is ready."""
    await node.prepare()
    before = node.specs
    for path in (node.folder / "cdi").iterdir():
        path.unlink()
    node.restart()
    await node.driver.sweep()
    assert node.specs == before


@story
async def test_a_kill_at_any_moment_leaves_nothing_that_a_sweep_does_not_mend(node: Node) -> None:
    """A file half written, a spec that belongs to nobody, a record that says nothing."""
    (node.folder / "cdi" / f".gpu.gpumax.dev-part_{UID}.json.new").write_text("{")
    (node.folder / "cdi" / "gpu.gpumax.dev-part_lost.json").write_text("{}")
    (node.folder / "cdi" / "other.json").write_text("{}")
    (node.folder / "kept" / f".{UID}.json.new").write_text("{")
    (node.folder / "kept" / "nonsense.json").write_text("{")
    node.restart()
    await node.driver.sweep()
    assert [path.name for path in (node.folder / "cdi").iterdir()] == ["other.json"]
    assert list((node.folder / "kept").iterdir()) == []
