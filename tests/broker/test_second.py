"""On the emulated driver: whole processes are taken off a device from outside, and come back, or stay as they were."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.world import GIB, SECOND, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import GroupSpec, Settings, Stuck
from gpumax.broker.node.away import Away, Said
from gpumax.broker.status import status
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


def second(machine: Machine, *what: str) -> str:
    """What the helper says, at whose process nobody else is."""
    mark = machine.libraries / "mark"
    mark.touch()
    command = [sys.executable, "-m", "gpumax.broker.node.second", *what, str(mark)]
    return subprocess.run(
        command, env=machine.environment(), text=True, capture_output=True, check=True
    ).stdout.strip()


def test_an_idle_process_that_was_never_preloaded_goes_and_comes_back_with_its_data(machine: Machine) -> None:
    with target(machine) as (process, pid):
        assert machine.run(USED) > 500
        assert second(machine, "away", str(pid), "1000") == "away"
        assert machine.run(USED) == 0
        assert second(machine, "settle", str(pid), "1") == "away"
        assert second(machine, "back", str(pid), "1") == "there"
        tell(process)
        assert line(process) is True


def test_what_cannot_come_back_yet_stays_away_and_comes_later(machine: Machine) -> None:
    with target(machine) as (process, pid):
        assert second(machine, "away", str(pid), "1000") == "away"
        full = machine.start("current(); ok(d.cuMemAlloc(700 << 20)); say(1); wait_for_a_line()")
        line(full)
        assert second(machine, "back", str(pid), "1") == "away"
        end(full)
        assert second(machine, "back", str(pid), "1") == "there"
        tell(process)
        assert line(process) is True


def test_a_process_that_the_driver_does_not_take_off_goes_on(machine: Machine) -> None:
    program = "current(); p = ok(d.cuMemAllocManaged(1 << 20, 1)); say(os.getpid()); wait_for_a_line(); say(name(d.cuMemFree(p)))"
    process = machine.start(program)
    pid = line(process)
    assert second(machine, "away", str(pid), "1000") == "refused 801"
    tell(process)
    assert line(process) == "CUDA_SUCCESS"
    end(process)


def test_without_a_driver_or_a_process_nothing_is_done(machine: Machine, tmp_path: Path) -> None:
    assert second(machine, "away", "999999999", "10") == "gone"
    (machine.libraries / "libcuda.so.1").unlink()
    assert second(machine, "away", "1", "10") == "refused no driver"


def test_a_stopped_process_is_not_asked_for_and_one_of_somebody_else_never(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver has a thread of the process do it, which is stopped, too: whoever asks would hang."""
    away = Away(tmp_path)
    process = subprocess.Popen(["sleep", "60"])
    try:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert asyncio.run(away.off(process.pid, SECOND)) == (ev.Outcome.BUSY, "it is stopped")
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        said = asyncio.run(away.off(process.pid, SECOND))
        assert said is not None
        assert said.how is ev.Outcome.REFUSED
        assert f"of user {owner}, and the broker one of user {owner + 1}" in said.why
        assert not list(away.marked())
    finally:
        process.kill()
        process.wait()


def test_who_is_stopped_in_the_midst_of_it_is_where_it_was_once_it_goes_on(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver doesn't even say where a stopped process is: it's asked until it does, and nothing stays locked."""
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    away = Away(tmp_path, patience_s=1.0, answers_s=1.0)
    objection, stops = away.objection, [True]

    def stopped_right_after(pid: int) -> Said | None:
        said = objection(pid)
        if stops.pop():
            os.kill(pid, signal.SIGSTOP)
        return said

    async def asked(pid: int) -> list[Any]:
        first = await away.off(pid, SECOND)
        os.kill(pid, signal.SIGCONT)
        return [first, (await away.found(pid)).how]

    with target(machine) as (process, pid):
        away.objection = stopped_right_after  # type: ignore[method-assign]
        first, found = asyncio.run(asked(pid))
        assert first in (None, (ev.Outcome.BUSY, "its work didn't end in time"))
        assert found is ev.Outcome.BUSY
        assert not list(away.marked())
        tell(process)
        assert line(process) is True


def begun(*, cold: int = 20 * SECOND, **more: Any) -> tuple[World, Process, GroupSpec]:
    """A program rests with 4 GiB that can be swapped, and 4 GiB that can't be."""
    settings = Settings(pool_bytes=1 << 50, cold_ns=cold, **more)
    specs = [group("cold", 500, guarantee=8 * GIB, limit=10 * GIB), group("b", 500, limit=16 * GIB)]
    world = World(specs, settings=settings)
    process = world.start(specs[0], memory=4 * GIB, pinned=4 * GIB, wants=False, checkpoints=True)
    world.run(30 * SECOND)
    return world, process, specs[1]


def test_what_can_be_swapped_is_swapped_first_and_is_enough_where_it_is() -> None:
    world, cold, b = begun()
    world.start(b, memory=10 * GIB)
    world.run(35 * SECOND)
    assert cold.swapped
    assert not cold.off
    world.start(b, memory=4 * GIB)
    world.run(40 * SECOND)
    assert cold.off
    assert cold.saved == {"d0": 4 * GIB}


def test_who_was_taken_off_comes_back_as_soon_as_nobody_wants_the_room() -> None:
    world, cold, spec = begun()
    b = world.start(spec, memory=15 * GIB)
    world.run(35 * SECOND)
    assert cold.off
    world.kill(b)
    world.run(60 * SECOND)
    assert not cold.off
    assert cold.real == {"d0": 8 * GIB}


def test_where_the_second_tier_is_switched_off_nobody_is_taken_off() -> None:
    world, cold, b = begun(cold=0)
    other = world.start(b, memory=15 * GIB)
    world.run(60 * SECOND)
    assert not cold.off
    assert other.denied


@pytest.mark.parametrize(
    ("how", "asked"), [(ev.Outcome.BUSY, 3), (ev.Outcome.REFUSED, 1), (ev.Outcome.LOST, 1)]
)
def test_what_the_driver_will_not_take_off_is_told_of_and_not_tried_for_ever(
    how: ev.Outcome, asked: int
) -> None:
    world, cold, b = begun(memory_wait_ns=75 * SECOND)
    tries = []

    def refuse(process: Process) -> None:
        tries.append(process.id)
        world.tell(ev.Checkpointed(world.now, process.id, how, "so it is"))

    world.checkpoint = refuse
    other = world.start(b, memory=15 * GIB)
    world.run(120 * SECOND)
    assert len(tries) == asked
    assert other.denied
    told = [r.kind for r in world.reports]
    assert told == {ev.Outcome.BUSY: [], ev.Outcome.REFUSED: ["checkpoint"], ev.Outcome.LOST: ["lost"]}[how]
    world.want(cold)
    world.run(130 * SECOND)
    assert bool(cold.used(0, world.now)) is (how is not ev.Outcome.LOST)
    assert world.broker
    row = next(each for each in status(world.broker).groups if each.name == "cold")
    assert row.clients[0].lease == ("lost" if how is ev.Outcome.LOST else row.clients[0].lease)


@pytest.mark.parametrize("stuck", Stuck)
def test_who_stops_while_it_swaps_and_cannot_be_taken_off_is_the_administrators_to_judge(
    stuck: Stuck,
) -> None:
    """The driver takes nobody off who is stopped. A borrower may be ended for it, where that is wanted."""
    settings = Settings(pool_bytes=1 << 50, stuck=stuck)
    specs = [group("lent", 500, limit=14 * GIB), group("owner", 500, guarantee=12 * GIB)]
    world = World(specs, settings=settings)
    world.checkpoint = lambda process: world.tell(
        ev.Checkpointed(world.now, process.id, ev.Outcome.BUSY, "it is stopped")
    )
    lent = world.start(specs[0], memory=12 * GIB, checkpoints=True)
    world.run(SECOND)
    owner = world.start(specs[1], memory=10 * GIB)
    until_it_moves(world, lent)
    world.stop(lent)
    world.run(40 * SECOND)
    if stuck is Stuck.END:
        assert not lent.alive
        assert owner.used(0, world.now) > SECOND
        return
    assert lent.alive
    assert [(r.kind, r.group) for r in world.reports] == [("stuck", "lent"), ("waits", "owner")]
    world.go_on(lent)
    world.run(60 * SECOND)
    assert owner.used(0, world.now) > SECOND


def test_who_gives_no_sign_of_life_while_it_swaps_is_taken_off_where_the_driver_can_and_goes_on_afterwards() -> (
    None
):
    specs = [group("lent", 500, limit=14 * GIB), group("owner", 500, guarantee=12 * GIB)]
    world = World(specs)
    lent = world.start(specs[0], memory=12 * GIB, checkpoints=True)
    world.run(SECOND)
    owner = world.start(specs[1], memory=10 * GIB, work_ns=25 * SECOND)
    until_it_moves(world, lent)
    world.stop(lent)
    world.run(20 * SECOND)
    assert lent.off
    assert owner.used(10 * SECOND, 20 * SECOND) > 9 * SECOND
    world.go_on(lent)
    world.run(200 * SECOND)
    assert lent.used(20 * SECOND, world.now) > 10 * SECOND


def until_it_moves(world: World, process: Process) -> None:
    while not process.swapping:
        assert world.step()


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
    said = world.broker.handle(ev.Restored(world.now, cold.id, ev.Outcome.BUSY))
    assert not [o for o in said if isinstance(o, od.Restore)]
    said = world.broker.handle(ev.Tick(world.now + settings.retry_ns))
    assert od.Restore(cold.id) in said
