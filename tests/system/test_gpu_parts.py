"""Parts of a GPU on one machine: what a workload file says of them holds for real programs, on an emulated device."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from gpumax.broker.control import Control, Group
from gpumax.errors import Unreachable
from interposer.emulated import BARE
from system.harness import Machine, eventually, machine, processes_of

MIB = 1 << 20
PROGRAM = """
import os, sys, time
from pathlib import Path
from cuda.bindings import driver as d

def ok(result):
    assert result[0] == 0, result[0]
    return result[1] if len(result) == 2 else result[1:]

ok(d.cuInit(0))
ok(d.cuCtxSetCurrent(ok(d.cuDevicePrimaryCtxRetain(0))))
first = d.cuMemAlloc(600 << 20)[0].name
second = d.cuMemAlloc(400 << 20)[0].name
print(first, second, ok(d.cuMemGetInfo())[1] >> 20, os.environ["GPUMAX_SOCKET"], os.environ.get("GPUMAX_RANKS"), flush=True)
while len(sys.argv) > 1 and not Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""
FILE = """
name: {name}
resources: {resources}
grace: 1s
run: [{python}, {program}, {over}]
"""


class Parts:
    """A machine with one GPU of 1 GiB, and programs that take their parts of it until they're told to end."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.over = machine.data.parent / "over"
        self.program = machine.data.parent / "program.py"
        self.program.write_text(PROGRAM)
        self.control = Control(machine.data / "gpu")

    def submit(self, name: str, resources: str = "{gpu: 0.5}") -> None:
        text = FILE.format(
            name=name, resources=resources, python=sys.executable, program=self.program, over=self.over
        )
        done = self.machine.apply(text)
        assert done.returncode == 0, done.stderr

    def said(self, name: str) -> list[str]:
        """What a program printed, once it did."""
        eventually(
            lambda: bool(self.machine.cli("logs", name).stdout),
            f"{name} says something: {self.machine.show(name)}",
        )
        return self.machine.must("logs", name).split()

    def groups(self) -> list[Group]:
        try:
            return sorted(self.control.groups(), key=lambda each: each.name)
        except Unreachable:
            return []

    def broker(self) -> int:
        """Its process."""
        return next(
            pid for pid in processes_of(self.machine.data)
            if b"gpumax.broker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )  # fmt: skip


def escapes(parts: Parts, name: str) -> None:
    """A workload with a quarter of the GPU, whose script leaves its program nothing but the driver."""
    program = parts.machine.data.parent / "bare.py"
    program.write_text(BARE.replace("sys.stdin.readline()", "import time\nwhile True: time.sleep(0.05)"))
    script = parts.machine.data.parent / "escapes.sh"
    script.write_text(
        f'#!/bin/sh\nexec env -i GPUMAX_EMU="$GPUMAX_EMU" LD_LIBRARY_PATH="$LD_LIBRARY_PATH" {sys.executable} {program}\n'
    )
    script.chmod(0o755)
    parts.machine.must("run", "--name", name, "--gpu", "0.25", "--", str(script))


@pytest.fixture
def parts() -> Iterator[Parts]:
    with machine("1xA100:1Gi") as made:
        yield Parts(made)


def test_two_halves_of_a_gpu_get_half_of_its_memory_each_and_no_more(parts: Parts) -> None:
    parts.submit("a")
    parts.submit("b")

    said = {name: parts.said(name) for name in "ab"}

    for name in "ab":
        assert said[name][:3] == ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS", "512"]
        assert Path(said[name][3]).is_socket()
    groups = parts.groups()
    assert [(each.share, each.guaranteed, each.limit) for each in groups] == [(0.5, 512 * MIB, 512 * MIB)] * 2
    parts.over.touch()
    eventually(lambda: all(parts.machine.in_state(name, "succeeded") for name in "ab"), "both end")
    eventually(lambda: parts.groups() == [], "their groups are gone")


def test_memory_is_as_it_was_asked_for_and_may_grow_to_its_limit_with_swap(parts: Parts) -> None:
    parts.submit("a", "{gpu: {memory: 256Mi}, limit: {gpu_memory: 700Mi}, swap: true, mode: strict}")

    assert parts.said("a")[:3] == ["CUDA_SUCCESS", "CUDA_ERROR_OUT_OF_MEMORY", "700"]

    (group,) = parts.groups()
    assert (group.share, group.guaranteed, group.limit) == (0.25, 256 * MIB, 700 * MIB)
    assert (group.swap, group.mode) == (True, "strict")


def test_a_whole_gpu_is_not_shared(parts: Parts) -> None:
    done = parts.machine.must("run", "--name", "whole", "--gpu", "1", "-f", "--", "env")

    assert "GPUMAX_SOCKET" not in done
    assert "LD_PRELOAD" not in done
    assert parts.groups() == []


def test_tasks_of_one_workload_share_one_group_and_begin_together(parts: Parts) -> None:
    done = parts.machine.apply(
        FILE.format(
            name="a", resources="{gpu: 0.25}", python=sys.executable, program=parts.program, over=parts.over
        )
        + "tasks: 2\n"
    )
    assert done.returncode == 0, done.stderr

    eventually(lambda: len(parts.machine.cli("logs", "a").stdout.split()) >= 10, "both say something")

    assert [line.split()[-1] for line in parts.machine.must("logs", "a").splitlines()] == ["2", "2"]
    (group,) = parts.groups()
    assert (group.share, group.guaranteed) == (0.5, 512 * MIB)


def test_after_a_kill_of_the_server_the_next_one_knows_the_groups_and_when_they_are_nobodys(
    parts: Parts,
) -> None:
    parts.submit("a")
    parts.submit("b")
    parts.said("a")
    parts.said("b")
    names = [each.name for each in parts.groups()]

    parts.machine.kill()
    parts.over.touch()
    parts.machine.up()

    assert len(names) == 2
    eventually(lambda: parts.groups() == [], "their groups are gone")


def test_a_broker_that_is_killed_is_started_again_and_told_of(parts: Parts) -> None:
    parts.submit("a")
    parts.said("a")
    names = [each.name for each in parts.groups()]

    os.kill(parts.broker(), signal.SIGKILL)

    eventually(lambda: [each.name for each in parts.groups()] == names, "the next broker knows the group")
    events = parts.machine.must("events", "--limit", "100")
    eventually(
        lambda: (
            "the broker of the GPUs ended (it said nothing of why)"
            in parts.machine.must("events", "--limit", "100")
        ),
        events,
    )


def test_a_program_that_cant_be_held_to_its_part_does_not_start(parts: Parts) -> None:
    program = parts.machine.data.parent / "static"
    whole = Path("/bin/true").resolve().read_bytes()
    loader = next(
        each for each in (b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-linux-aarch64.so.1") if each in whole
    )
    program.write_bytes(whole.replace(loader, b"/lib/ld-musl.so.1".ljust(len(loader), b"\0"), 1))
    program.chmod(0o755)

    parts.machine.must("run", "--name", "musl", "--gpu", "0.5", "--", str(program))

    eventually(lambda: "another C library (musl)" in parts.machine.must("why", "musl"), "why says so")
    assert parts.groups() == []


def test_metrics_of_the_broker_are_the_servers_too(parts: Parts) -> None:
    def metrics() -> str:
        with closing(HTTPConnection("localhost")) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(parts.machine.data / "gpumax.sock"))
            connection.request("GET", "/api/v1/metrics")
            with connection.getresponse() as answer:
                return answer.read().decode()

    before = metrics()
    parts.submit("a")
    parts.said("a")

    assert "gpumax_broker_up 0" in before
    after = metrics()
    assert "gpumax_broker_up 1" in after
    assert 'gpumax_broker_clients{group="a-' in after


SWAPPED = """
import ctypes, os, sys
import numpy as np
from pathlib import Path
from cuda.bindings import driver as d

def ok(result):
    assert result[0] == 0, result[0]
    return None if len(result) == 1 else result[1] if len(result) == 2 else result[1:]

SIZE, mine, peer = 690 << 20, Path(sys.argv[1]), Path(sys.argv[2])
ok(d.cuInit(0))
ok(d.cuCtxSetCurrent(ok(d.cuDevicePrimaryCtxRetain(0))))
pointer = ok(d.cuMemAlloc(SIZE))
ok(d.cuMemsetD32(pointer, 1000, SIZE // 4))
turns, found = 0, np.empty(2, np.uint32)
while turns < 3 or not peer.exists():
    for index, at in enumerate((0, SIZE - 4)):
        ok(d.cuMemcpyDtoH(found[index:].ctypes.data, int(pointer) + at, 4))
    assert (found == 1000 + turns).all(), found  # as it was left, whatever has been between
    turns += 1
    ok(d.cuMemsetD32(pointer, 1000 + turns, SIZE // 4))
    ok(d.cuCtxSynchronize())
    if turns == 3:
        mine.touch()
print("all as it was", flush=True)
"""


def test_two_that_do_not_fit_together_take_turns_and_find_their_memory_as_it_was(parts: Parts) -> None:
    """2 x 690 MiB on a device of 1 GiB: one is in host memory while the other works."""
    program = parts.machine.data.parent / "swapped.py"
    program.write_text(SWAPPED)
    here = parts.machine.data.parent
    for name, peer in (("a", "b"), ("b", "a")):
        done = parts.machine.apply(
            f"name: {name}\nresources: {{gpu: {{memory: 300Mi}}, limit: {{gpu_memory: 700Mi}}, swap: true}}\n"
            f"run: [{sys.executable}, {program}, {here / name}, {here / peer}]\n"
        )
        assert done.returncode == 0, done.stderr

    def ended() -> bool:
        return all(parts.machine.in_state(name, "succeeded", "failed") for name in "ab")

    eventually(ended, "both have had their turns", patience_s=180)

    for name in "ab":
        assert parts.machine.must("logs", name).strip() == "all as it was", parts.machine.show(name)
