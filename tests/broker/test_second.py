"""On the emulated driver: whole processes are taken off a device from outside, and come back, or stay as they were."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.world import GIB, SECOND, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import Settings
from interposer.emulated import Machine, end, line, tell

TARGET = """
current()
p = upload(np.arange(1 << 18, dtype=np.uint32))
held = ok(d.cuMemAlloc(500 << 20))
say(os.getpid())
wait_for_a_line()
say(bool((download(p, np.empty(1 << 18, np.uint32)) == np.arange(1 << 18)).all()))
wait_for_a_line()
"""
USED = "import pynvml as n; n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\nsay(n.nvmlDeviceGetMemoryInfo(h).used >> 20)"
SMALL = {"memory": "1Gi", "context": "64Mi", "name": "Small", "cc": "8.6", "sms": 20}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, {"clock": "virtual", "devices": [SMALL]})


@contextmanager
def target(machine: Machine) -> Iterator[tuple[Any, int]]:
    """A process that isn't preloaded: the driver alone knows it."""
    process = machine.start(TARGET)
    try:
        yield process, line(process)
    finally:
        end(process)


def second(machine: Machine, *what: str) -> int:
    command = [sys.executable, "-m", "gpumax.broker.node.second", *what]
    return subprocess.run(command, env=machine.environment(), check=False).returncode


def test_an_idle_process_that_was_never_preloaded_goes_and_comes_back_with_its_data(machine: Machine) -> None:
    with target(machine) as (process, pid):
        assert machine.run(USED) > 500
        assert second(machine, "away", str(pid), "1000") == 0
        assert machine.run(USED) == 0
        assert second(machine, "back", str(pid)) == 0
        tell(process)
        assert line(process) is True


def test_what_cannot_come_back_yet_stays_away_and_comes_later(machine: Machine) -> None:
    with target(machine) as (process, pid):
        assert second(machine, "away", str(pid), "1000") == 0
        full = machine.start("current(); ok(d.cuMemAlloc(700 << 20)); say(1); wait_for_a_line()")
        line(full)
        assert second(machine, "back", str(pid)) == 1
        end(full)
        assert second(machine, "back", str(pid)) == 0
        tell(process)
        assert line(process) is True


def test_a_process_that_the_driver_does_not_take_off_goes_on(machine: Machine) -> None:
    program = "current(); p = ok(d.cuMemAllocManaged(1 << 20, 1)); say(os.getpid()); wait_for_a_line(); say(name(d.cuMemFree(p)))"
    process = machine.start(program)
    pid = line(process)
    assert second(machine, "away", str(pid), "1000") == 1
    tell(process)
    assert line(process) == "CUDA_SUCCESS"
    end(process)


def test_without_a_driver_or_a_process_nothing_is_done(machine: Machine, tmp_path: Path) -> None:
    assert second(machine, "away", "999999999", "10") == 1
    command = [sys.executable, "-m", "gpumax.broker.node.second", "away", "1", "10"]
    gone = machine.environment(LD_LIBRARY_PATH=str(tmp_path))
    assert subprocess.run(command, env=gone, check=False).returncode == 1


def test_one_that_could_not_be_brought_back_is_tried_again_after_a_while_and_not_at_once() -> None:
    settings = Settings(pool_bytes=1 << 50, cold_ns=20 * SECOND)
    specs = [group("cold", 500, guarantee=8 * GIB, limit=10 * GIB), group("b", 500, limit=16 * GIB)]
    world = World(specs, settings=settings)
    cold = world.start(specs[0], pinned=8 * GIB, wants=False, checkpoints=True)
    world.run(30 * SECOND)
    b = world.start(specs[1], memory=12 * GIB)
    world.run(40 * SECOND)
    assert cold.off
    world.kill(b)
    world.run(45 * SECOND)
    assert world.broker
    said = world.broker.handle(ev.Wanted(world.now, cold.id))
    assert od.Restore(cold.id) in said
    said = world.broker.handle(ev.Restored(world.now, cold.id, False))
    assert not [o for o in said if isinstance(o, od.Restore)]
    said = world.broker.handle(ev.Tick(world.now + settings.retry_ns))
    assert od.Restore(cold.id) in said
