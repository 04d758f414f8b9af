"""What an agent tells its cluster of who shares the node's GPUs, and of processes that got around their parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from agent.test_driver import RealLooking
from agent.test_holder import brokers
from engines.kubernetes.stub import story
from gpumax.apps.agent.container import Container
from gpumax.apps.agent.holder import Holder
from gpumax.apps.agent.parts import Origin, Parts
from gpumax.apps.agent.pods import Pods
from gpumax.apps.agent.publish import tell_residents
from gpumax.apps.agent.reporting import Report
from gpumax.apps.agent.residents import LATER_S, LONGEST, SILENT_S, SOON_S, Latest, Residents, shown, text_of
from gpumax.apps.agent.telling import AGAIN_S, MOST_A_MINUTE, UNTOLD_S, Teller
from gpumax.apps.cli.commands.gpu_list import drawn
from gpumax.apps.doctor.hardware import shares
from gpumax.apps.doctor.patient import Patient
from gpumax.apps.gpu.keeper import Keeper
from gpumax.apps.kubernetes.residents import shared, unfenced, waits
from gpumax.broker.control import uuid
from gpumax.broker.status import (
    ClientStatus,
    DeviceStatus,
    GroupStatus,
    HoldingStatus,
    Status,
    Swaps,
    Unfenced,
)
from gpumax.devices.emulated import EmulatedDevices
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.errors import Status as Refusal
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.grants import Amount, Grant
from gpumax.engines.kubernetes.offers import Slice
from gpumax.engines.kubernetes.views import NodeObject
from gpumax.errors import GpumaxError
from gpumax.model.node import Device
from gpumax.ports.devices import Devices
from interposer.emulated import BARE

GIB = 1 << 30
GPU = uuid("0" * 32)
CLAIM = "130122b9-fcf5-452f-92d0-5d18fb32647a"
POD = "7d8dcd3e-1111-2222-3333-444455556666"
STRANGER = "99999999-1111-2222-3333-444455556666"
ESCAPED = Unfenced(5_000_077, 3 * GIB, "it has declared nothing: it runs without the layer, or got around it")


class One(RealLooking):
    """One device that a driver knows."""

    def uuids(self) -> dict[int, str]:
        """By index."""
        return {0: GPU.upper().replace("GPU-", "GPU-")}


class Cluster:
    """The API as far as an agent and whoever looks need it: one slice, one node, events, and pods that go."""

    def __init__(self) -> None:
        self.access = Access("test", "https://nowhere")
        self.annotations: dict[str, str] = {}
        self.writes = 0
        self.events: list[dict[str, Any]] = []
        self.deleted: list[tuple[str, str, str]] = []
        self.refuses: GpumaxError | None = None

    def _maybe(self) -> None:
        if self.refuses is not None:
            raise self.refuses

    async def patch(self, _kind: Kind[Any], name: str, change: Any) -> None:
        """Of the slice or the node."""
        self._maybe()
        assert name in ("gpumax.dev-n1", "n1")
        self.writes += 1
        written = {**self.annotations, **change["metadata"]["annotations"]}
        self.annotations = {key: value for key, value in written.items() if value is not None}

    async def create(self, _kind: Kind[Any], body: dict[str, Any], namespace: str) -> None:
        """An event."""
        self._maybe()
        assert body["metadata"]["namespace"] == namespace
        self.events.append(body)

    async def delete(self, _kind: Kind[Any], name: str, namespace: str, *, uid: str) -> None:
        """A pod."""
        self._maybe()
        self.deleted.append((namespace, name, uid))

    async def list(self, kind: Kind[Any], **_: str) -> Any:
        """The slice; the node says nothing."""
        document = {
            "metadata": {"name": "gpumax.dev-n1", "annotations": self.annotations},
            "spec": {"nodeName": "n1"},
        }
        items = [document] if kind.plural == "resourceslices" else [{"metadata": {"name": "n1"}}]
        return SimpleNamespace(items=tuple(kind.decoders.one(json.dumps(one).encode()) for one in items))


class Node:
    """An agent's reports, with a clock that is told to move, and processes that are files."""

    def __init__(self, folder: Path, *, evict: bool = False) -> None:
        self.now_s = 1000.0
        self.cluster = Cluster()
        self.parts = Parts(folder / "cdi", folder / "kept")
        self.parts.write(CLAIM, Origin("ml", "gpumax-a", CLAIM, "train-0", POD), Container({}))
        self.proc = folder / "proc"
        self.latest = Latest(lambda: self.now_s)
        self.notes: deque[tuple[str, str]] = deque()
        self.pods = Pods(self.parts, self.proc)
        self.teller = Teller(
            cast(Any, self.cluster), "n1", self.pods, self.notes, evict=evict, now_s=lambda: self.now_s
        )
        self.reports(One())

    def reports(self, devices: Devices) -> None:
        """Of these devices."""
        residents = Residents(self._write, lambda: self.now_s)
        self.report = Report(devices, self.latest, self.pods, self.teller, residents)

    async def until(self, true: Callable[[], bool]) -> None:
        """Look, as time goes by, until it is so."""
        while not true():
            self.now_s += 0.05
            await self.report.look()
            await asyncio.sleep(0.02)

    async def _write(self, text: str | None) -> None:
        await tell_residents(cast(Any, self.cluster), "n1", text, claims=True)

    def process(self, pid: int, pod: str) -> None:
        """One in a container of a pod, as the kubelet calls its control group under systemd."""
        (self.proc / str(pid)).mkdir(parents=True)
        name = f"kubepods-burstable-pod{pod.replace('-', '_')}.slice"
        text = f"0::/../../kubepods-burstable.slice/{name}/cri-containerd-{'a' * 64}.scope\n"
        (self.proc / str(pid) / "cgroup").write_text(text)

    async def look(self, *beyond: Unfenced, resident: int = 8 * GIB, after_s: float = 0.0) -> None:
        """The broker says this, and it is told."""
        self.now_s += after_s
        self.latest.look(status(*beyond, resident=resident))
        await self.report.look()

    @property
    def residents(self) -> Any:
        """What the cluster knows of the first device."""
        nothing = {"residents": None, "unfenced": None}
        return json.loads(self.cluster.annotations.get(keys.RESIDENTS, "{}")).get("0", nothing)

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Of whom, why, and in whose namespace."""
        rows = self.cluster.events
        return [(row["regarding"]["name"], row["reason"], row["metadata"]["namespace"]) for row in rows]


def status(*beyond: Unfenced, resident: int = 8 * GIB, groups: int = 1) -> Status:
    """A broker with a device, and a part of it."""
    holding = HoldingStatus(resident, 2 * GIB, 0, 10 * GIB)
    names = [CLAIM, *(f"{number:036d}" for number in range(1, groups))]
    rows = tuple(
        GroupStatus(
            name, "fair", 0.5, 10 * GIB, 12 * GIB, True, (ClientStatus(4, 1, "granted", {GPU: holding}),), Swaps(),
            f"its turn: {CLAIM} has {GPU}", (GPU,),
        )
        for name in names
    )  # fmt: skip
    device = DeviceStatus(GPU, "A100", 38 * GIB, 10 * GIB, "busy", beyond, CLAIM)
    return Status(1, (device,), rows)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """One with a part."""
    return Node(tmp_path)


@story
async def test_whoever_looks_sees_who_shares_the_gpus_of_a_node(node: Node) -> None:
    """By the names of pods, and as it is drawn of one machine."""
    node.process(5_000_077, STRANGER)
    node.process(5_000_078, POD)
    await node.look(ESCAPED, Unfenced(5_000_078, GIB, "it has declared 2 MiB of it"))

    found = await shared(cast(Api, node.cluster))

    (part,) = found.values()
    assert list(found) == [("n1", 0)]
    assert (part.holder, part.residents[0].workload, part.residents[0].swapped) == (
        "ml/train-0",
        "ml/train-0",
        2 * GIB,
    )
    assert waits(found, {"ml/train-0", "ml/other"}) == [f"its turn: ml/train-0 has {GPU}"]
    assert waits(found, {"other/train-0"}) == []
    assert [(row["node"], row["pid"], row["workload"]) for row in unfenced(found)] == [
        ("n1", 5_000_077, ""),
        ("n1", 5_000_078, "ml/train-0"),
    ]
    patient = Patient(cast(Api, node.cluster), "me", frozenset(), "gpumax-system", "gpumax", 0)
    (check,) = [check async for check in shares(patient)]
    assert (
        check.found
        == "unfenced: 2 processes, which no part holds: 5000077 on n1, 5000078 on n1 in pod ml/train-0"
    )
    item = {"node": "n1", "index": 0, "model": "A100", "shared": part.model_dump()}
    picture = drawn({"items": [item]}, "table", quiet=False)
    assert "a ml/train-0" in picture
    assert "2Gi swapped" in picture
    assert "UNFENCED: process 5000078 in pod ml/train-0 uses 1Gi" in picture


@story
async def test_it_is_written_when_somebody_comes_or_goes_and_else_as_often_as_a_node_says_that_it_lives(
    node: Node,
) -> None:
    """However fast amounts change; and what hasn't changed isn't written again."""
    await node.look()
    for _ in range(5):
        await node.look()
    assert node.cluster.writes == 1
    await node.look(resident=7 * GIB, after_s=SOON_S)
    assert node.cluster.writes == 1
    await node.look(ESCAPED, resident=7 * GIB)
    assert (node.cluster.writes, len(node.residents["unfenced"])) == (2, 1)
    await node.look(ESCAPED, resident=6 * GIB, after_s=LATER_S - 1)
    assert node.cluster.writes == 2
    await node.look(ESCAPED, resident=5 * GIB, after_s=1)
    assert (node.cluster.writes, node.residents["residents"][0]["resident"]) == (3, 5 * GIB)


@story
async def test_nothing_is_said_of_a_broker_that_is_silent(node: Node) -> None:
    """It ended for want of groups, or nobody knows what it does; what an earlier agent wrote goes, too."""
    node.cluster.annotations = {keys.RESIDENTS: "{}", "other": "stays"}
    await node.report.look()
    assert node.cluster.annotations == {"other": "stays"}
    await node.look(after_s=SOON_S)
    assert keys.RESIDENTS in node.cluster.annotations
    node.now_s += SILENT_S
    await node.report.look()
    assert node.cluster.annotations == {"other": "stays"}


@story
async def test_what_cannot_be_written_is_written_later(node: Node) -> None:
    """The slice may not be there yet, or the API server be away."""
    node.cluster.refuses = ApiRefused(404, Refusal(reason="NotFound"))
    await node.look()
    node.cluster.refuses = None
    await node.look(after_s=SOON_S)
    assert node.residents["used"] == 10 * GIB
    node.report.residents.forget()
    await node.look(after_s=SOON_S)
    assert node.cluster.writes == 2


def test_what_is_written_is_bounded() -> None:
    """However many share a device: those left out are counted."""

    class Nobody:
        def name_of_part(self, key: str) -> str:
            return f"{'n' * 60}/{key}"

        def name_of_process(self, _pid: int) -> str:
            return ""

    many = status(*(Unfenced(pid, GIB, "w" * 80) for pid in range(500)), groups=400)
    text = text_of(shown(many, {"0" * 32: 0}, cast(Pods, Nobody())))
    assert len(text) <= LONGEST
    part = json.loads(text)["0"]
    assert len(part["residents"]) + len(part["unfenced"]) + part["unlisted"] == 900


@story
async def test_a_process_that_got_around_its_part_is_told_of_on_the_node_and_on_its_pod(node: Node) -> None:
    """Once, however long it stays; anew where it comes back."""
    node.process(5_000_077, POD)
    for _ in range(3):
        await node.look(ESCAPED)
    assert node.told == [("n1", "Unfenced", "default"), ("train-0", "Unfenced", "ml")]
    (of_node, of_pod) = node.cluster.events
    assert "it's in pod ml/train-0" in of_node["note"]
    assert of_node["regarding"]["kind"] == "Node"
    assert of_pod["regarding"]["uid"] == POD
    assert of_pod["note"].startswith(f"process {ESCAPED.pid} is unfenced: it uses 3072 MiB of GPU-")
    assert node.cluster.deleted == []
    await node.look()
    await node.look(ESCAPED)
    assert len(node.told) == 4


@pytest.mark.parametrize("pod", ["", STRANGER])
@story
async def test_one_that_belongs_to_no_part_is_told_of_on_the_node_alone(tmp_path: Path, pod: str) -> None:
    """A process of the node itself, or of a pod of which no more than its uid is known; it is left alone."""
    node = Node(tmp_path, evict=True)
    if pod:
        node.process(5_000_077, pod)
    await node.look(ESCAPED)
    assert node.told == [("n1", "Unfenced", "default")]
    assert pod in node.cluster.events[0]["note"]
    assert node.cluster.deleted == []


@story
async def test_where_it_is_wished_the_pod_goes(tmp_path: Path) -> None:
    """The very one, by its uid; tried again where it is still there after a while, or the API server was away."""
    node = Node(tmp_path, evict=True)
    node.process(5_000_077, POD)
    node.cluster.refuses = GpumaxError("away")
    await node.look(ESCAPED)
    assert node.cluster.deleted == []
    node.cluster.refuses = None
    await node.look(ESCAPED, after_s=AGAIN_S)
    await node.look(ESCAPED)
    assert node.cluster.deleted == [("ml", "train-0", POD)]
    assert node.told[-1] == ("train-0", "UnfencedEvicted", "ml")
    assert node.cluster.events[-1]["action"] == "Evict"


@story
async def test_what_the_cluster_could_not_be_told_it_is_told_later(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """In its order, once, with the moment at which it was. The log says meanwhile that nobody knows."""
    node.process(5_000_077, POD)
    node.cluster.refuses = GpumaxError("away")
    for _ in range(3):
        await node.look(ESCAPED, after_s=UNTOLD_S)
    assert node.told == []
    assert len([line for line in caplog.messages if "nobody was told yet that process" in line]) == 2
    node.cluster.refuses = None
    await node.look(ESCAPED, after_s=0)
    assert node.told == [], "not at once: an API server that comes back has much to do"
    for _ in range(2):
        await node.look(ESCAPED, after_s=UNTOLD_S)
    assert node.told == [("n1", "Unfenced", "default"), ("train-0", "Unfenced", "ml")]


@story
async def test_what_the_cluster_refuses_for_good_is_said_once_in_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """A namespace that is going away takes no event."""
    node.process(5_000_077, POD)
    node.cluster.refuses = ApiRefused(403, Refusal(), asked="events")
    await node.look(ESCAPED)
    node.cluster.refuses = None
    await node.look(ESCAPED, after_s=UNTOLD_S)
    assert node.told == []
    assert len([line for line in caplog.messages if "nobody was told that process" in line]) == 2


@story
async def test_no_more_is_told_in_a_minute_than_anybody_reads(node: Node) -> None:
    """Whoever begins processes without end floods no cluster."""
    for pid in range(3):
        await node.look(*(Unfenced(1000 * pid + each, GIB, "it has declared nothing") for each in range(50)))
    assert len(node.cluster.events) == MOST_A_MINUTE
    await node.look(Unfenced(9999, GIB, "it has declared nothing"), after_s=60)
    assert len(node.cluster.events) == MOST_A_MINUTE + 1


@story
async def test_a_pod_is_told_where_its_memory_cannot_be_moved(node: Node) -> None:
    """Of a part that is gone by then nobody is told."""
    node.notes.extend(((CLAIM, "its memory can't be moved to the node's"), ("gone", "neither")))
    await node.report.look()
    assert node.told == [("train-0", "NoHostMemory", "ml")]


def test_the_pod_of_a_process_is_known_by_its_control_group(tmp_path: Path) -> None:
    """Whatever the kubelet calls it; made-up ones are nobody's."""
    bare = POD.replace("-", "")
    lines = {
        1: f"0::/kubepods/besteffort/pod{POD}/{'b' * 64}",
        2: f"0::/../kubepods-pod{POD.replace('-', '_')}.slice/crio-{'c' * 64}.scope",
        3: f"12:memory:/kubepods/pod{bare}/x\n0::/",
        4: "0::/system.slice/sshd.service",
    }
    for pid, text in lines.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    parts = Parts(tmp_path / "cdi", tmp_path / "kept")
    parts.write(CLAIM, Origin("ml", "gpumax-a", CLAIM, "train-0", POD), Container({}))
    pods = Pods(parts, tmp_path)
    pods.look()
    assert [pods.name_of_process(pid) for pid in (1, 2, 3, 4, 5)] == ["ml/train-0"] * 3 + ["", ""]


@pytest.mark.parametrize("text", ["", "[]", '{"0":{}}', '{"x":{}}', '{"0":{"bytes":"many"}}', "{" * 50_000])
@story
async def test_what_makes_no_sense_is_nothing(text: str) -> None:
    """Whoever wrote it there."""
    cluster = Cluster()
    cluster.annotations = {keys.RESIDENTS: text}
    assert await shared(cast(Api, cluster)) == {}


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, since sockets lie there; whatever broker is left in it ends."""
    folder = Path(tempfile.mkdtemp(prefix="gpumax-agent-"))
    yield folder
    for pid in brokers(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


@story
async def test_a_program_without_the_layer_is_told_of_while_it_is_there(tmp_path: Path, home: Path) -> None:
    """From the driver's list of processes to the cluster: a real broker of an emulated device, of which somebody has half."""
    node = Node(tmp_path)
    devices = EmulatedDevices((Device(0, "Small", 2048),), home / "driver")
    keeper = Keeper(home / "gpu", devices, lambda _: None, swap_bytes=0)
    keeper.look = node.latest.look
    node.reports(devices)
    keeper.open()
    with contextlib.closing(keeper):
        assert Holder(devices, keeper).hold(CLAIM, Grant({0: Amount(500, 1024)})) is not None
        env = devices.visible((0,)) | {"PATH": os.environ["PATH"]}
        with subprocess.Popen(
            [sys.executable, "-c", BARE], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as bare:
            try:
                assert bare.stdout is not None
                assert await asyncio.to_thread(bare.stdout.readline) == "there\n"
                await node.until(lambda: node.told == [("n1", "Unfenced", "default")])
                await node.until(
                    lambda: [each["pid"] for each in node.residents["unfenced"] or ()] == [bare.pid]
                )
                assert [each["workload"] for each in node.residents["residents"]] == ["ml/train-0"]
            finally:
                bare.kill()
        await node.until(lambda: node.residents["unfenced"] == [])


def test_what_people_see_is_not_kept_for_decisions() -> None:
    """It is much, and of each node."""
    document = {
        "metadata": {"name": "s", "annotations": {keys.RESIDENTS: "x" * 1000, "other": "y"}},
        "spec": {},
    }
    for seen in (msgspec.convert(document, Slice), msgspec.convert(document, NodeObject)):
        assert seen.metadata.annotations == {"other": "y"}
