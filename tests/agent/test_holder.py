"""Parts on a node are groups of its broker: told when a claim is made ready, forgotten when it's given up, kept over deaths."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from agent.test_driver import UID, Node, claim
from broker.test_node import HERE, Program
from engines.kubernetes.stub import story
from gpumax.apps.agent.giving import Place
from gpumax.apps.agent.holder import Holder
from gpumax.apps.agent.hostmemory import host_memory, own_limit
from gpumax.apps.agent.layer import lay
from gpumax.apps.agent.metrics import HUNG_S, Life, page
from gpumax.apps.agent.parts import Parts
from gpumax.apps.gpu.keeper import Keeper, News
from gpumax.apps.scheduler.health import State
from gpumax.broker.control import Control, Group, key
from gpumax.devices.nvml import NvmlDevices
from gpumax.engines.kubernetes.grants import Amount, Grant
from gpumax.errors import Unreachable
from gpumax.model.node import Device
from system.harness import eventually

GIB = 1024
HALF = Grant({0: Amount(500, 40 * GIB)})


class Two(NvmlDevices):
    """Devices as a driver would report them."""

    def __init__(self) -> None:
        """No driver is asked."""
        self._own = {index: f"GPU-{uuid4()}" for index in range(2)}

    def read(self) -> tuple[Device, ...]:
        """Two of 80 GiB."""
        return tuple(Device(index, "H100", 80 * GIB) for index in self._own)

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """By UUID."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self._own[index] for index in indexes)}

    def uuids(self) -> dict[int, str]:
        """By index."""
        return self._own


class Held(Node):
    """A node whose agent has a broker. swap: GiB of its memory to swap to."""

    def __init__(self, folder: Path, *, swap: int = 0) -> None:
        self.devices = Two()
        self.swap = swap
        self.home = Path(tempfile.mkdtemp(prefix="gpumax-agent-"))
        self.news: list[News] = []
        self.told: list[tuple[str, str]] = []
        self.keeper = self._keeper()
        super().__init__(folder)
        (folder / "layer").mkdir()
        for name in ("libgpumax-cuda.so", "libgpumax-ml.so"):
            (folder / "layer" / name).touch()
        self.again()

    def _keeper(self) -> Keeper:
        swap = self.swap
        keeper = Keeper(self.home / "gpu", self.devices, self.news.append, swap_bytes=swap << 30)
        keeper.open()
        return keeper

    def again(self) -> None:
        """A new agent in the place of one that was killed."""
        self.keeper.close()
        self.keeper = self._keeper()
        holder = Holder(self.devices, self.keeper, lambda part, text: self.told.append((part, text)))
        self.place = Place("n1", self.devices, self.folder / "layer", (), holder)
        self.restart()

    @property
    def groups(self) -> list[Group]:
        try:
            return sorted(Control(self.home / "gpu").groups(), key=lambda each: each.name)
        except Unreachable:
            return []

    @property
    def mounts(self) -> dict[str, str]:
        """By where the container finds it."""
        (spec,) = self.specs
        rows: list[dict[str, Any]] = spec["devices"][0]["containerEdits"]["mounts"]
        return {row["containerPath"]: row["hostPath"] for row in rows}

    def brokers(self) -> list[int]:
        return brokers(self.home)

    def end(self) -> None:
        self.keeper.close()
        for pid in self.brokers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home)


def brokers(folder: Path) -> list[int]:
    """Those that run in a folder."""
    return [pid for pid in _all_of(folder) if b"gpumax.broker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _all_of(folder: Path) -> list[int]:
    mark = str(folder).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path)
    made.claims["gpumax-a"] = claim(HALF)
    yield made
    made.end()


@story
async def test_a_part_is_a_group_whose_socket_the_container_alone_has(held: Held) -> None:
    """In a folder of its own, open to any user: who may connect is who has the folder."""
    await held.prepare()

    (group,) = held.groups
    assert (group.name, group.share, group.devices) == (UID, 0.5, (held.devices.uuids()[0],))
    assert group.guaranteed == group.limit == (80 - 2) * (1 << 30) // 2
    assert held.env["GPUMAX_SOCKET"] == "/run/gpumax/gpu.sock"
    assert held.env["GPUMAX_LIMIT"] == str(group.limit)
    folder = Path(held.mounts["/run/gpumax"])
    assert [each.name for each in folder.iterdir()] == ["gpu.sock"]
    assert stat.S_IMODE((folder / "gpu.sock").stat().st_mode) == 0o666


@story
async def test_a_program_of_any_user_connects_by_that_folder(held: Held) -> None:
    """As one in a container does."""
    await held.prepare()
    device = key(held.devices.uuids()[0])
    assert device is not None
    client = Program(HERE / "client.py", Path(held.mounts["/run/gpumax"]) / "gpu.sock", device)
    try:
        client.until("heard WELCOME")
    finally:
        client.end()


@story
async def test_what_is_given_up_is_forgotten(held: Held) -> None:
    """With its socket's folder."""
    await held.prepare()
    folder = Path(held.mounts["/run/gpumax"])

    await held.unprepare()

    assert held.groups == []
    assert not folder.exists()


@story
async def test_an_agent_that_was_killed_is_followed_by_one_that_knows_the_parts(held: Held) -> None:
    """They stay, and the same claim is the same part."""
    await held.prepare()
    before = held.groups, held.specs

    held.again()
    await held.driver.sweep()
    await held.prepare()

    assert (held.groups, held.specs) == before


@story
async def test_a_broker_that_was_killed_comes_back_by_the_same_folder(held: Held) -> None:
    """So containers that have it find the new socket, and it is told."""
    await held.prepare()
    folder = Path(held.mounts["/run/gpumax"])
    before = held.groups
    (pid,) = held.brokers()
    os.kill(pid, signal.SIGKILL)

    eventually(
        lambda: held.brokers() not in ([], [pid]) and held.groups == before, "the next broker is there"
    )

    assert (folder / "gpu.sock").is_socket()
    assert any("ended" in each.text for each in held.news)


@story
async def test_a_sweep_forgets_parts_that_nobody_has_any_more(held: Held) -> None:
    """Though the kubelet never gave them up."""
    await held.prepare()
    held.claims.clear()

    await held.driver.sweep()

    assert held.groups == []


@story
async def test_a_claim_that_comes_again_with_another_part_has_that_one(held: Held) -> None:
    """More of the same device, or of another one."""
    await held.prepare()
    held.claims["gpumax-a"] = claim(Grant({0: Amount(750, 60 * GIB)}))
    await held.prepare()
    assert [each.share for each in held.groups] == [0.75]

    held.claims["gpumax-a"] = claim(Grant({1: Amount(500, 40 * GIB)}))
    await held.prepare()
    assert [(each.share, each.devices) for each in held.groups] == [(0.5, (held.devices.uuids()[1],))]


@story
async def test_whole_devices_have_no_broker(held: Held) -> None:
    """There is nobody to share them with."""
    held.claims["gpumax-a"] = claim(Grant({0: Amount(1000, 80 * GIB)}))

    await held.prepare()

    assert held.brokers() == []
    assert "GPUMAX_SOCKET" not in held.env


@story
async def test_a_part_for_which_there_is_no_room_is_not_made_ready(held: Held) -> None:
    """It says what is left."""
    await held.prepare()
    other = "130122b9-fcf5-452f-92d0-5d18fb32647b"
    held.claims["gpumax-a"] = claim(Grant({0: Amount(700, 20 * GIB)}), uid=other)

    answer = await held.prepare(other)

    assert "share 0.7" in answer.error
    assert "0.5 left" in answer.error


@story
async def test_metrics_are_those_of_the_broker_and_say_whose_a_part_is(held: Held) -> None:
    """By the names that a machine's server has for them; where there is no broker, that."""
    parts = Parts(held.folder / "cdi", held.folder / "kept")
    before = page(held.keeper.metrics(), parts).decode()
    assert "gpumax_broker_up 0" in before
    assert "gpumax_agent_part_info{" not in before

    await held.prepare()

    told = page(held.keeper.metrics(), parts).decode()
    assert "gpumax_broker_up 1" in told
    assert f'gpumax_broker_clients{{group="{UID}"}} 0' in told
    assert "# TYPE gpumax_gpu_unfenced_processes gauge" in told
    assert f'gpumax_agent_part_info{{group="{UID}",namespace="ml",pod="a"}} 1.0' in told


def test_an_agent_that_hangs_says_so() -> None:
    """To whoever would start it anew; and whether the cluster knows its devices is another matter."""
    now_s = 0.0
    life = Life(lambda: now_s)
    assert (life.live().well, life.ready()) == (True, State(False, "its GPUs aren't published yet"))
    now_s = HUNG_S
    assert life.live() == State(False, "it hasn't looked for 300 s")
    life.looked()
    life.published = True
    assert (life.live().words, life.ready().words) == ("ok", "ready")


GROWING = Grant({0: Amount(500, 40 * GIB)}, Amount(0, 60 * GIB))


@pytest.mark.parametrize(
    ("grant", "host", "swap", "limit", "told"),
    [
        (GROWING, 64, True, 60, ""),
        (replace(HALF, swap=True), 64, True, 39, ""),
        (GROWING, 0, False, 39, "swapping would need 60 GiB of host memory; 0 GiB are set aside"),
        (GROWING, 50, False, 39, "swapping would need 60 GiB of host memory; 50 GiB are set aside"),
        (replace(HALF, swap=True), 0, False, 39, "swapping would need 39 GiB of host memory; 0 GiB are set aside"),
    ],
)  # fmt: skip
@story
async def test_memory_is_moved_to_the_nodes_as_far_as_there_is_some_for_it(
    tmp_path: Path, grant: Grant, host: int, swap: bool, limit: int, told: str
) -> None:
    """Where there isn't, a part has what it is guaranteed, since nobody could take back more; that is told once, and stays so over sweeps."""
    node = Held(tmp_path, swap=host)
    try:
        node.claims["gpumax-a"] = claim(grant)
        await node.prepare()
        (group,) = before = node.groups
        assert (group.swap, group.limit) == (swap, limit << 30)
        assert node.env.get("GPUMAX_SWAP") == ("1" if swap else None)

        await node.driver.sweep()

        assert node.groups == before
        assert [part for part, _ in node.told] == ([UID] if told else [])
        assert all(told in text for _, text in node.told)
    finally:
        node.end()


@story
async def test_a_strict_part_is_a_strict_group(held: Held) -> None:
    """What its pod said of its time arrives at the broker."""
    held.claims["gpumax-a"] = claim(replace(HALF, strict=True))
    await held.prepare()
    assert [each.mode for each in held.groups] == ["strict"]


@pytest.mark.parametrize(
    ("asked", "limit", "found", "less"),
    [
        (None, None, 0, False),
        (64, None, 64, False),
        (2000, None, 512, False),
        (None, 0.25, 0, False),
        (None, 64.25, 64, False),
        (None, 700, 256, False),
        (32, 64.25, 32, False),
        (64, 0.25, 0, True),
        (64, 32.25, 32, True),
    ],
)
def test_memory_to_swap_to_is_bounded_by_what_the_agent_may_use(
    asked: int | None, limit: float | None, found: int, less: bool
) -> None:
    """In GiB of a node of 512: it counts as the agent's, which would be ended with everything in it."""
    bound = None if limit is None else int(limit * (1 << 30))
    memory = host_memory(None if asked is None else asked << 30, bound, 512 << 30)
    assert memory.bytes == found << 30
    assert bool(memory.less) == less


def test_the_smallest_limit_above_a_process_counts(tmp_path: Path) -> None:
    """Of all control groups that it is in."""
    (inner := tmp_path / "kubepods" / "agent").mkdir(parents=True)
    (own := tmp_path / "own").write_text("0::/kubepods/agent\n")
    assert own_limit(tmp_path, own) is None
    (inner / "memory.max").write_text("max\n")
    assert own_limit(tmp_path, own) is None
    (inner.parent / "memory.max").write_text("1048576\n")
    assert own_limit(tmp_path, own) == 1 << 20
    (inner / "memory.max").write_text("4096\n")
    assert own_limit(tmp_path, own) == 4096


def test_the_layer_is_laid_onto_the_node_and_replaced_where_it_is_another(tmp_path: Path) -> None:
    """Whole or not at all; a folder that can't be written is told."""
    folder = tmp_path / "layer"
    assert lay(folder) == ""
    (folder / "libgpumax-ml.so").write_text("old")
    before = (folder / "libgpumax-cuda.so").stat().st_ino
    assert lay(folder) == ""
    assert (folder / "libgpumax-ml.so").read_bytes()[:4] == b"\x7fELF"
    assert (folder / "libgpumax-cuda.so").stat().st_ino == before
    (tmp_path / "file").touch()
    assert "can't be laid into" in lay(tmp_path / "file")
