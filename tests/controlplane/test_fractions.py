"""Parts of GPUs on a real API server: claims that the scheduler allocates, and who reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import msgspec
import pytest

from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually
from controlplane.stage import Document, Stage
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.admission.fractions import patch
from gpumax.engines.kubernetes.claims import document, status
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.grants import Amount, Given, Grant
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device
from gpumax.model.snapshot import Policy
from kubelet import Kubelet

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


class Agent:
    """The agent of a node as a process, and the kubelet that it speaks to. driver: the environment in which it finds one; None: made-up devices."""

    def __init__(
        self, stage: Stage, name: str, folder: Path, *more: str, driver: Mapping[str, str] | None = None
    ) -> None:
        self.node = f"{stage.name}-{name}"
        self.kubelet = Kubelet(folder)
        (folder / "layer").mkdir()
        argv = [
            sys.executable, "-m", "gpumax.apps.cli.main", "agent", "--node-name", self.node,
            *(("--devices", "1xH100:80Gi") if driver is None else ()), *more, "--kubelet-dir", str(folder), "--cdi-dir", str(self.kubelet.cdi), "--layer", str(folder / "layer"),
        ]  # fmt: skip
        env = {"KUBECONFIG": str(stage.plane.kubeconfig()), **(driver or {})}
        self.program = Program(argv, folder / "agent.log", env=env)
        self._stage = stage

    def start(self) -> None:
        """Start it, and wait until cluster and kubelet know it."""
        self.program.start()
        eventually(self._found, "the kubelet finds the driver", self.program)
        eventually(self.published, "its devices are published", self.program)

    def published(self) -> bool:
        """Whether the cluster knows its devices."""
        return self._stage.api.get(f"{SLICES}/gpumax.dev-{self.node}").status_code == 200

    def _found(self) -> bool:
        try:
            return self.kubelet.look() == ["gpu.gpumax.dev"]
        except grpc.RpcError:
            return False


@pytest.fixture
def agent(stage: Stage) -> Iterator[Agent]:
    """A node with an agent and one device of 80 GiB. Its folder has a short name, as sockets need it."""
    stage.node("n1", 0)
    with TemporaryDirectory(prefix="gpumax-") as folder:
        made = Agent(stage, "n1", Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.program.stop()
            assert "Traceback" not in made.program.said()
            stage.api.delete(f"{SLICES}/gpumax.dev-{made.node}")


def test_a_container_gets_what_the_scheduler_decided(stage: Stage, agent: Agent) -> None:
    """By way of its claim: the kubelet has it made ready, and the runtime finds the part's environment."""
    queue = stage.queue("q", 8)
    stage.steer()
    part(stage, "a", queue, gpu_memory="20Gi")
    part(stage, "b", queue, gpu_memory="60Gi")
    part(stage, "c", queue, gpu_memory="1Gi")
    eventually(lambda: stage.where().count("n1") == 2, "20 and 60 of 80 GiB are given out")
    made = claims(stage)
    there = {name: agent.kubelet.added(agent.kubelet.prepare(claim)).env for name, claim in made.items()}
    assert there["gpumax-a"] == {
        "CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "void", "GPUMAX_VIRTUAL_DEVICES": "1",
        "GPUMAX_SHARE": "0.25", "GPUMAX_LIMIT": str(20 << 30),
    }  # fmt: skip
    assert there["gpumax-b"]["GPUMAX_LIMIT"] == str(60 << 30)
    older = Kubelet(agent.kubelet.folder, knows=("v1beta1.DRAPlugin",))
    assert older.look() == ["gpu.gpumax.dev"]
    assert older.added(older.prepare(made["gpumax-a"])).env == there["gpumax-a"]
    stage.api.delete(f"{stage.pods_path}/b")
    agent.kubelet.unprepare(made["gpumax-b"])
    # What is just being written has another name.
    assert len(list(agent.kubelet.cdi.glob("*.json"))) == 1
    eventually(lambda: stage.where() == ["n1", "n1"], "c gets room that b left")


def test_a_killed_agent_goes_on_where_it_was(stage: Stage, agent: Agent) -> None:
    """Parts that were given out stay, one whose pod went meanwhile is removed, and one that a reboot took is written again."""
    queue = stage.queue("q", 8)
    stage.steer()
    for name in ("a", "b", "c"):
        part(stage, name, queue, gpu_fraction="0.3")
    eventually(lambda: stage.where().count("n1") == 3, "all are bound")
    made = claims(stage)
    names = {name: agent.kubelet.prepare(claim) for name, claim in made.items()}
    before = agent.kubelet.added(names["gpumax-a"])
    agent.program.kill()
    stage.api.delete(f"{stage.pods_path}/b")
    eventually(lambda: "gpumax-b" not in claims(stage), "the claim has gone")
    (agent.kubelet.cdi / f"gpu.gpumax.dev-part_{made['gpumax-c']['metadata']['uid']}.json").unlink()
    agent.start()
    eventually(
        lambda: len(list(agent.kubelet.cdi.glob("*.json"))) == 2, "what is over is removed", agent.program
    )
    assert agent.kubelet.added(names["gpumax-a"]) == before
    eventually(lambda: _resolves(agent.kubelet, names["gpumax-c"]), "what was lost is there", agent.program)
    assert agent.kubelet.prepare(made["gpumax-a"]) == names["gpumax-a"]
    agent.kubelet.unprepare(made["gpumax-b"])


def _resolves(kubelet: Kubelet, names: list[str]) -> bool:
    try:
        return bool(kubelet.added(names))
    except AssertionError:
        return False


def test_a_new_scheduler_moves_no_part(stage: Stage) -> None:
    """Two devices with three quarters, and the small one of a pod that came between: what a new process decides from is what was decided."""
    stage.node("n1", 0)
    offer(stage, "n1", 2)
    queue = stage.queue("q", 8)
    stage.steer()
    for number in range(4):
        part(stage, f"p{number}", queue, gpu_fraction="0.4")
    eventually(lambda: stage.where().count("n1") == 4, "all are bound")
    stage.api.delete(f"{stage.pods_path}/p0")
    stage.api.delete(f"{stage.pods_path}/p1")
    eventually(lambda: len(stage.pods()) == 2, "two have gone")
    part(stage, "q0", queue, gpu_fraction="0.6")
    eventually(lambda: "" not in stage.where(), "another came")
    made = claims(stage)  # maybe with those of pods that went, which hold nothing any more
    decided = {name: results(made[f"gpumax-{name}"])[0]["device"] for name in ("p2", "p3", "q0")}
    again = KubernetesCluster(access_from((stage.plane.kubeconfig(),)), lambda: None, scheduler=stage.name)
    try:
        again.start()
        found = again.snapshot(stage.now_ms(), Policy())
    finally:
        again.close()
    held = {
        task.name.partition("/")[2]: f"gpu-{task.devices[0].index}"
        for row in found.workloads
        for task in row.tasks
    }
    assert held == decided


def owned_claim(stage: Stage, name: str, owner: str) -> Document:
    """A claim by the name that a pod of ours has for its own, which belongs to another or the same pod."""
    pod = stage.pods()[owner]
    body = document(pod["metadata"], Given(Grant({0: Amount(1000)}), f"gpumax-{name}"))
    body["metadata"].pop("finalizers")
    stage.post(CLAIMS.format(stage.name), body)
    return pod


def test_an_allocation_that_came_to_nothing_is_made_anew(stage: Stage) -> None:
    """A scheduler wrote that the pod gets a device of n2, and was killed before it bound the pod. Now n2 is gone."""
    stage.node("n1", 0)
    offer(stage, "n1", 1)
    queue = stage.queue("q", 8)
    part(stage, "a", queue, gpu_fraction="0.5")
    pod = owned_claim(stage, "a", "a")
    early = status(f"{stage.name}-n2", pod["metadata"], Given(Grant({3: Amount(500)})))
    path = f"{CLAIMS.format(stage.name)}/gpumax-a"
    answer = stage.api.patch(
        f"{path}/status",
        content=msgspec.json.encode({"status": early}),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text
    stage.steer()
    eventually(lambda: stage.where() == ["n1"], "it is bound")
    (row,) = results(claims(stage)["gpumax-a"])
    assert (row["pool"], row["device"]) == (f"{stage.name}-n1", "gpu-0")


def test_a_claim_that_somebody_else_made_gives_nothing(stage: Stage) -> None:
    """It isn't touched; the pod is told, and others are served."""
    stage.node("n1", 0)
    offer(stage, "n1", 1)
    queue = stage.queue("q", 8)
    stage.pod("other", queue, 1)
    part(stage, "a", queue, gpu_fraction="0.5")
    owned_claim(stage, "a", "other")
    stage.steer()
    part(stage, "b", queue, gpu_fraction="0.5")
    eventually(lambda: stage.where("b") == ["n1"], "another pod is bound")
    eventually(lambda: "made by somebody else" in stage.told("a").get("message", ""), "a is told")
    assert stage.where("a") == [""]
    assert not (claims(stage)["gpumax-a"].get("status") or {}).get("allocation")


def test_whole_devices_by_resource_come_from_the_agent_beside_parts(
    plane: ControlPlane, stage: Stage, agent: Agent
) -> None:
    """Of a kubelet that takes claims for resources, manifests run as they are: the pod's status names the claim, and which container it is for."""
    if plane.version == "oldest":
        pytest.skip("its kubelets take no claims for resources yet")
    queue = stage.queue("q", 8)
    stage.steer()
    stage.pod("whole", queue, 1)
    eventually(lambda: "whole GPUs are asked for by" in stage.told("whole").get("message", ""), "it waits")
    answer = stage.api.patch(
        f"/api/v1/nodes/{agent.node}/status",
        content=msgspec.json.encode({"status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}}}),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text
    eventually(lambda: stage.where("whole") == ["n1"], "it is bound", agent.program)
    part(stage, "half", queue, gpu_fraction="0.5")
    kept = stage.pods()["whole"]["status"]["extendedResourceClaimStatus"]
    assert kept["requestMappings"] == [
        {"containerName": "main", "resourceName": "nvidia.com/gpu", "requestName": "gpu"}
    ]
    env = agent.kubelet.added(agent.kubelet.prepare(claims(stage)[kept["resourceClaimName"]])).env
    assert (env["CUDA_VISIBLE_DEVICES"], env["GPUMAX_SHARE"]) == ("0", "1")
    eventually(lambda: ("NoRoom", "half") in stage.events(), "the half waits for room")
    stage.api.delete(f"{stage.pods_path}/whole")
    eventually(lambda: stage.where("half") == ["n1"], "and gets it")


@pytest.fixture
def plugin(stage: Stage) -> Iterator[Agent]:
    """A node whose agent is a device plugin."""
    stage.node("n1", 0)
    with TemporaryDirectory(prefix="gpumax-") as folder:
        made = Agent(stage, "n1", Path(folder), "--plugin")
        made.kubelet.serve()
        made.program.start()
        try:
            yield made
        finally:
            made.program.stop()
            made.kubelet.stop()
            assert "Traceback" not in made.program.said()


def asks(stage: Stage, name: str, queue: str, wish: dict[str, str]) -> None:
    """A pod that asks for a part, as the webhook leaves it where claims aren't served."""
    body = stage.template(queue, 0, name=name, annotations=wish)
    for step in patch(body, "unused", claims=False):
        assert step["path"].startswith("/spec/containers/0/resources")
    body["spec"]["containers"][0]["resources"] = {"limits": {keys.PART: "1"}, "requests": {keys.PART: "1"}}
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **body})


def advertise(stage: Stage, agent: Agent) -> None:
    """What a kubelet writes into the node's status of what its plugins have."""
    eventually(lambda: agent.kubelet.offered(keys.PART) > 0, "the plugin is registered", agent.program)
    count = str(agent.kubelet.offered(keys.PART))
    body = {"status": {"capacity": {keys.PART: count}, "allocatable": {keys.PART: count}}}
    answer = stage.api.patch(
        f"/api/v1/nodes/{agent.node}/status",
        content=msgspec.json.encode(body),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text


def test_without_claims_a_device_plugin_gives_what_was_decided(stage: Stage, plugin: Agent) -> None:
    """Tickets are all alike, and containers start in another order than they were placed: each gets its own part."""
    queue = stage.queue("q", 8)
    stage.steer()
    advertise(stage, plugin)
    asks(stage, "a", queue, {"gpumax.dev/gpu-memory": "20Gi"})
    asks(stage, "b", queue, {"gpumax.dev/gpu-memory": "60Gi"})
    asks(stage, "c", queue, {"gpumax.dev/gpu-memory": "1Gi"})
    eventually(lambda: stage.where().count("n1") == 2, "20 and 60 of 80 GiB are given out", plugin.program)
    pods = stage.pods()
    names = {name: plugin.kubelet.admit(pods[name], keys.PART) for name in ("b", "a")}
    for name in ("a", "b"):
        plugin.kubelet.start(pods[name], keys.PART)
    env = {name: plugin.kubelet.added(own).env for name, own in names.items()}
    assert [env[name]["GPUMAX_LIMIT"] for name in ("a", "b")] == [str(20 << 30), str(60 << 30)]
    assert env["a"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_device_plugin_outlives_kubelets_and_kills(stage: Stage, plugin: Agent) -> None:
    """It registers with each kubelet that starts; a ticket that went to another pod gives that one's part; what is over is removed."""
    queue = stage.queue("q", 8)
    stage.steer()
    advertise(stage, plugin)
    asks(stage, "a", queue, {"gpu-fraction": "0.25"})
    eventually(lambda: stage.where() == ["n1"], "it is bound", plugin.program)
    first = stage.pods()["a"]
    names = plugin.kubelet.admit(first, keys.PART)
    plugin.kubelet.start(first, keys.PART)
    stage.api.delete(f"{stage.pods_path}/a")
    plugin.kubelet.forget(first)
    plugin.program.kill()
    plugin.kubelet.serve()
    plugin.program.start()
    eventually(lambda: plugin.kubelet.offered(keys.PART) > 0, "it registers again", plugin.program)
    eventually(lambda: not list(plugin.kubelet.cdi.iterdir()), "what is over is removed", plugin.program)
    plugin.kubelet.serve()
    eventually(lambda: plugin.kubelet.offered(keys.PART) > 0, "and with a new kubelet", plugin.program)
    asks(stage, "b", queue, {"gpu-fraction": "0.75"})
    eventually(lambda: stage.where("b") == ["n1"], "b is bound", plugin.program)
    second = stage.pods()["b"]
    assert plugin.kubelet.admit(second, keys.PART) == names
    plugin.kubelet.start(second, keys.PART)
    assert plugin.kubelet.added(names).env["GPUMAX_SHARE"] == "0.75"


def test_a_pod_that_was_given_nothing_does_not_start(stage: Stage, plugin: Agent) -> None:
    """Bound by somebody else, it may ask for the resource as it likes."""
    advertise(stage, plugin)
    asks(stage, "a", "none", {"gpu-fraction": "0.25"})
    made = stage.pods()["a"]
    target = {"apiVersion": "v1", "kind": "Node", "name": plugin.node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": target}
    assert stage.api.post(f"{stage.pods_path}/a/binding", json=body).status_code == 201
    plugin.kubelet.admit(made, keys.PART)
    with pytest.raises(grpc.RpcError, match="was given no part of a GPU here"):
        plugin.kubelet.start(made, keys.PART)
    assert not list(plugin.kubelet.cdi.iterdir())
