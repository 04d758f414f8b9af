"""Who uses a device without having said so is seen by what the driver says, told of once, and gone from the status with its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpumax.broker.control import Control, Group, Seen
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.events import Joined
from gpumax.broker.core.shapes import DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.node.outsiders import choose
from gpumax.broker.node.unfenced import suspects
from gpumax.native import library
from interposer.emulated import PRELUDE, Machine
from sharing.rig import Program, eventually

GPU = "GPU-00112233-4455-6677-8899-aabbccddee01"
MIB = 1 << 20
HOLD = """
    current()
    ok(d.cuMemAlloc(100 << 20))
    say(os.getpid()); wait_for_a_line()
"""


class Node:
    """One emulated machine and its broker."""

    def __init__(
        self, folder: Path, stack: ExitStack, command: list[str] | None = None, *options: str
    ) -> None:
        devices = [{"memory": "2Gi", "context": "0", "name": "Small", "uuid": GPU}]
        self.machine = Machine(folder, {"devices": devices})
        self.directory, self._stack = folder / "gpu", stack
        self.control = Control(self.directory, timeout_s=60)
        command = command or [
            sys.executable, "-m", "gpumax.broker", "--directory", str(self.directory), "--device", f"{GPU}:2Gi:Small",
            "--swap-memory", "0", *options,
        ]  # fmt: skip
        self.broker = process = subprocess.Popen(
            command, env=self.machine.environment(), stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        stack.enter_context(process)
        stack.callback(process.kill)
        eventually((self.directory / "control.sock").exists)

    def program(self, text: str, **more: str) -> Program:
        command = [sys.executable, "-c", PRELUDE + textwrap.dedent(text)]
        started = Program(command, self.machine.environment(**more))
        self._stack.callback(started.kill)
        return started

    def fenced(self, text: str, group: str, **more: str) -> Program:
        return self.program(
            text, LD_PRELOAD=f"{library('cuda')} {library('ml')}", GPUMAX_REAL_LIBCUDA=str(self.machine.libraries / "libcuda.so.1"),
            GPUMAX_REAL_LIBNVIDIA_ML=str(self.machine.libraries / "libnvidia-ml.so.1"), GPUMAX_GROUP=str(self.directory / group),
            GPUMAX_SOCKET=str(self.directory / f"{group}.sock"), **more,
        )  # fmt: skip

    def pids(self) -> list[int]:
        return [each.pid for each in self.control.status().devices[0].unfenced]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(tmp_path, stack)


def until(seen: Iterator[Seen], pid: int) -> tuple[Seen, int]:
    """The first status in which a process is unfenced, and how many there were before it; a status comes each second."""
    for number, status in enumerate(seen):
        if pid in [each.pid for each in status.devices[0].unfenced]:
            return status, number
    raise AssertionError("the broker ended")


def test_a_process_that_cleared_its_environment_is_seen_beside_one_that_is_held(node: Node) -> None:
    node.control.add(Group("held", (GPU,), 500 * MIB))
    held = node.fenced(HOLD, "held")
    assert held.hear() == held.pid
    # Only what the loader needs is left: nothing is preloaded, nobody is asked.
    kept = node.machine.environment()
    clear = Program(
        ["env", "-i", *(f"{name}={kept[name]}" for name in ("PATH", "GPUMAX_EMU", "LD_LIBRARY_PATH")), sys.executable, "-c",
         PRELUDE + textwrap.dedent(HOLD)], os.environ,
    )  # fmt: skip
    node._stack.callback(clear.kill)
    pid = clear.hear()
    status, _ = until(node.control.watch(), pid)
    [unfenced] = status.devices[0].unfenced
    assert (unfenced.pid, unfenced.bytes) == (pid, 100 * MIB)
    assert unfenced.why.startswith("it has declared nothing")
    [told] = [each for each in status.reports if each.kind == "unfenced"]
    assert f"process {pid} is unfenced: it uses 100 MiB of {GPU}" in told.text
    text = node.control.metrics()
    assert f'gpumax_gpu_unfenced_processes{{device="{GPU}"}} 1.0' in text
    [line] = [each for each in text.splitlines() if each.startswith("gpumax_gpu_unfenced_bytes{")]
    assert float(line.split()[-1]) == 100 * MIB
    clear.kill()
    eventually(lambda: node.pids() == [])
    assert [each.kind for each in node.control.status().reports].count("unfenced") == 1


def test_a_device_of_which_no_part_is_given_out_is_nobodys_concern(node: Node) -> None:
    whole = node.program(HOLD)
    pid = whole.hear()
    for number, status in enumerate(node.control.watch()):
        assert status.devices[0].unfenced == ()
        if number == 3:
            break
    node.control.add(Group("part", (GPU,), 500 * MIB))
    until(node.control.watch(), pid)


def test_where_the_administrator_wants_it_the_driver_takes_it_off_while_others_need_the_room(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        node = Node(tmp_path, stack, None, "--unfenced", "checkpoint")
        node.control.add(Group("held", (GPU,), 2000 * MIB))
        outside = node.program(
            """
            current()
            data = np.arange(25 << 20, dtype=np.uint32)
            p = upload(data); say(os.getpid()); wait_for_a_line(); say(bool((download(p, data) == data).all()))
            """
        )
        pid = outside.hear()
        seen = node.control.watch()
        until(seen, pid)  # nobody is there who needs the room
        held = node.fenced(
            "current(); work = ok(d.cuMemAlloc(1 << 20)); say(1); wait_for_a_line(); ok(d.cuMemAlloc(1990 << 20)); say(2)",
            "held",
        )
        held.hear()
        status = next(each for each in seen if any(one.away for one in each.devices[0].unfenced))
        [away] = status.devices[0].unfenced
        assert (away.pid, away.bytes) == (pid, 0)
        assert "checkpointed" in [each.kind for each in status.reports]
        outside.tell()  # it waits with its next call
        held.tell()
        assert held.hear() == 2
        held.kill()
        assert outside.hear() is True
        outside.kill()
        eventually(lambda: not list((node.directory / "away").iterdir()))


@pytest.mark.parametrize("stops", [False, True], ids=["at rest", "stopped"])
def test_what_is_guaranteed_waits_until_an_outsider_is_off_and_is_not_refused_meanwhile(
    stops: bool, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        node = Node(tmp_path, stack, None, "--unfenced", "checkpoint")
        node.control.add(Group("held", (GPU,), 2000 * MIB))
        outside = node.program(HOLD)
        pid = outside.hear()
        until(node.control.watch(), pid)
        if stops:
            outside.signal(signal.SIGSTOP)
        held = node.fenced(
            "current(); say(1); ok(d.cuMemAlloc(1990 << 20)); say(2); wait_for_a_line()", "held"
        )
        assert held.hear() == 1
        if stops:
            waits = eventually(lambda: node.control.status().groups[0].waits)
            assert f"within its guarantee: process {pid}, which has no part of it" in waits
            assert f"`kill -9 {pid}` ends it" in waits
            outside.signal(signal.SIGCONT)
        assert held.hear() == 2


@pytest.mark.parametrize(
    ("room", "there", "away", "chosen"),
    [
        (100, {1: 60, 2: 40}, {}, ([], [])),
        (90, {1: 60, 2: 40}, {}, ([1], [])),
        (-1, {1: 60, 2: 40}, {}, ([1, 2], [])),
        (100, {}, {1: 60, 2: 40}, ([], [2, 1])),
        (59, {}, {1: 60, 2: 40}, ([], [2])),
        (30, {3: 10}, {1: 60, 2: 20}, ([], [2])),
        (5, {3: 10}, {2: 0}, ([3], [])),
    ],
)
def test_who_goes_is_the_largest_and_nobody_comes_back_while_somebody_goes(
    room: int, there: dict[int, int], away: dict[int, int], chosen: tuple[list[int], list[int]]
) -> None:
    on = {pid: {GPU: size} for pid, size in there.items()}
    off = {pid: {GPU: size} for pid, size in away.items()}
    assert choose({GPU: room}, on, off) == chosen


def broker(claimed: int) -> Broker:
    """One group with one process, 7, that has declared so much."""
    specs = [GroupSpec("a", {GPU: MemoryShare(1000 * MIB, 1000 * MIB)})]
    made = Broker(Settings(), [DeviceSpec(GPU, 8000 * MIB)], epoch=1, now=0, specs=specs, recovered=[], restarted=False)  # fmt: skip
    made.handle(Joined(1, 1, "a", 7, (GPU,)))
    made.state.clients[1].holdings[GPU].claimed = claimed
    return made


@pytest.mark.parametrize(
    ("claimed", "used", "seen"), [(100, 100, False), (100, 1100, False), (100, 1101, True), (0, 1001, True)]
)
def test_a_process_may_use_what_it_declared_and_what_nobody_holds(
    claimed: int, used: int, seen: bool
) -> None:
    """Contexts, code and the like: an eighth of a small device, a GiB of others."""
    found = suspects(broker(claimed * MIB).state, {GPU: {7: used * MIB}})
    assert [each.why for each in found.values()] == ([f"it has declared {claimed} MiB of it"] if seen else [])


def test_a_device_is_the_same_however_its_uuid_is_written() -> None:
    bare = GPU.removeprefix("GPU-").replace("-", "")
    assert [pid for _, pid in suspects(broker(0).state, {bare: {9: MIB}})] == [9]


def test_what_the_driver_doesnt_tell_is_no_suspicion() -> None:
    assert suspects(broker(0).state, {}) == {}
