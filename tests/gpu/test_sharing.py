"""Tasks of a machine and its broker: parts that are granted, forgotten with their last user, and what one waits for."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from broker.test_node import HERE, Program
from gpumax.apps.gpu.process import joined
from gpumax.apps.gpu.sharing import BrokerSharing
from gpumax.broker.control import Control, key
from gpumax.devices.uuids import Sharable
from gpumax.devices.virtual import VirtualDevices
from gpumax.errors import GpumaxError
from gpumax.model.node import Device
from gpumax.model.workload import DeviceLimit, DeviceShare
from gpumax.ports.engine import Launch, Part, Refusal
from gpumax.ports.sharing import Granted
from system.harness import eventually


class One(VirtualDevices):
    """A device that a driver knows."""

    def __init__(self) -> None:
        super().__init__((Device(0, "A100", 1024),))
        self._name = f"GPU-{uuid4()}"

    def uuids(self) -> dict[int, str]:
        return {0: self._name}


class Machine:
    def __init__(self, stack: ExitStack) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gpumax-share-")) / "gpu"
        self.devices = One()
        self.broken = False
        self.control = Control(self.directory)
        self.sharing = self.next()
        self._stack = stack

    def next(self) -> BrokerSharing:
        """As a new server has it."""
        return BrokerSharing(self.directory, self.devices, self._begin, swap_bytes=1000 << 20)

    def _begin(self, devices: Sequence[Sharable]) -> Control:
        if self.broken:
            raise GpumaxError("the broker of the GPUs can't begin: it is broken")
        return joined(self.directory, devices, idle_s=30)

    def grant(self, *attempts: str, milli: int = 500) -> list[Granted | Refusal]:
        found = self.sharing.grant([task(each, milli) for each in attempts])
        return [found[each] for each in attempts]

    def program(self, granted: Granted | Refusal) -> Program:
        assert isinstance(granted, Granted)
        device = key(self.devices.uuids()[0])
        assert device is not None
        client = Program(HERE / "client.py", Path(granted.socket), device)
        self._stack.callback(client.end)
        client.until("heard WELCOME")
        return client

    def _brokers(self) -> list[int]:
        mark = str(self.directory).encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and mark in _command(entry) and b"gpumax.broker" in _command(entry)
        ]

    @property
    def groups(self) -> list[str]:
        return sorted(each.name for each in self.control.groups())

    def end(self) -> None:
        while left := self._brokers():  # and their heirs, which see to it that the other is there
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory.parent)


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def task(attempt: str, milli: int) -> Launch:
    """Its workload is called as the attempt is, without a number."""
    name = attempt.rstrip("0123456789")
    env = {"GPUMAX_WORKLOAD": name, "PATH": "/bin:/usr/bin"}
    return Launch(attempt, "t", name, "n1", (DeviceShare(0, milli),), ("sh",), "/", "/log", env, gpu=Part())


@pytest.fixture
def machine() -> Iterator[Machine]:
    with ExitStack() as stack:
        made = Machine(stack)
        stack.callback(made.end)
        yield made


def test_a_group_goes_with_the_last_task_that_used_it(machine: Machine) -> None:
    machine.grant("a1", "a2", milli=250)
    (name,) = machine.groups

    machine.sharing.ended("a1")
    assert machine.groups == [name]
    machine.sharing.ended("a2")
    machine.sharing.ended("a2")
    assert machine.groups == []


def test_tasks_that_begin_together_are_told_how_many_they_are_and_a_later_one_waits_for_nobody(
    machine: Machine,
) -> None:
    cant = structs.replace(task("a3", 250), argv=("env", "-i", "sh"))
    found = machine.sharing.grant([task("a1", 250), task("a2", 250), cant])
    assert isinstance(found["a3"], Refusal)
    assert [each.ranks for each in found.values() if isinstance(each, Granted)] == [2, 2]

    (later,) = machine.grant("a4", milli=100)
    assert isinstance(later, Granted)
    assert later.ranks < 2


def test_a_limit_that_no_device_reaches_is_no_part_of_this_machine(machine: Machine) -> None:
    wish = structs.replace(task("a1", 250), gpu=Part(limit=DeviceLimit(memory_mib=1025), swap=True))
    assert (
        machine.sharing.objection(wish)
        == "its limit of 1025Mi a GPU is above what any GPU here has, at most 1Gi"
    )
    wish = structs.replace(task("a1", 250), gpu=Part(limit=DeviceLimit(memory_mib=1001), swap=True))
    assert (
        machine.sharing.objection(wish)
        == "swapping up to its limit takes 1001Mi of host memory; 1000Mi are set aside here"
    )
    wish = structs.replace(task("a1", 250), gpu=Part(limit=DeviceLimit(memory_mib=1000), swap=True))
    assert machine.sharing.objection(wish) == ""


def test_a_later_server_forgets_what_no_task_uses_any_more(machine: Machine) -> None:
    machine.grant("a1")
    (name,) = machine.groups
    machine.grant("b1")

    machine.sharing = machine.next()
    machine.sharing.keep({"a1"})

    assert machine.groups == [name]


def test_who_finds_no_room_is_told_and_leaves_nothing_behind(machine: Machine) -> None:
    machine.grant("a1", milli=700)

    (answer,) = machine.grant("b1")

    assert isinstance(answer, Refusal)
    assert answer.why.startswith("its part of a GPU can't be had: group b-")
    assert [each[:2] for each in machine.groups] == ["a-"]


def test_a_broker_that_cant_begin_is_told(machine: Machine) -> None:
    machine.broken = True

    (answer,) = machine.grant("a1")

    assert answer == Refusal("a1", "the broker of the GPUs can't begin: it is broken")


def test_a_disk_that_takes_no_file_is_told(machine: Machine) -> None:
    machine.directory.mkdir()
    (machine.directory / "uses").touch()

    (answer,) = machine.grant("a1")

    assert isinstance(answer, Refusal)
    assert "its part of a GPU can't be had: " in answer.why


def test_one_that_waits_for_its_turn_says_for_whom(machine: Machine) -> None:
    first, second = machine.grant("a1", "b1")
    holder, waiter = machine.program(first), machine.program(second)
    holder.do("keep")
    holder.do("want")
    holder.until("heard GRANT")
    waiter.do("want")

    eventually(lambda: bool(machine.sharing.waits("b")), "the broker knows that it waits")

    (words,) = machine.sharing.waits("b")
    assert words.startswith("its turn: a has GPU-")
    assert machine.sharing.waits("a") == ()
    assert machine.sharing.waits("c") == ()
