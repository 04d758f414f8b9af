"""Whole processes taken off a device from outside, without their help: states, what is refused, and what it takes."""

from __future__ import annotations

import pytest

from interposer.conftest import SMALL
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

ACT = """
ok(d.cuInit(0))
pid = {pid}
def state():
    return ok(d.cuCheckpointProcessGetState(pid)).name.removeprefix("CU_PROCESS_STATE_")
lock = lambda: name(d.cuCheckpointProcessLock(pid, d.CUcheckpointLockArgs()))
checkpoint = lambda: name(d.cuCheckpointProcessCheckpoint(pid, d.CUcheckpointCheckpointArgs()))
restore = lambda: name(d.cuCheckpointProcessRestore(pid, d.CUcheckpointRestoreArgs()))
unlock = lambda: name(d.cuCheckpointProcessUnlock(pid, d.CUcheckpointUnlockArgs()))
"""


def test_a_process_goes_and_comes_back_with_all_its_data(machine: Machine) -> None:
    """While it is away its memory is free for others, and it waits with whatever it does next."""
    target = machine.start(TARGET)
    pid = line(target)
    program = (
        ACT.format(pid=pid)
        + "steps = [state(), lock(), state(), checkpoint(), state()]\ncurrent()\nsay([steps, free() >> 20])"
    )
    assert machine.run(program) == [
        ["RUNNING", "CUDA_SUCCESS", "LOCKED", "CUDA_SUCCESS", "CHECKPOINTED"],
        1024 - 64,
    ]
    tell(target)  # asks for its data: the call waits
    full = machine.start("current(); ok(d.cuMemAlloc(700 << 20)); say(1); wait_for_a_line()")
    line(full)
    assert machine.run(ACT.format(pid=pid) + "say([restore(), state()])") == [
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CHECKPOINTED",
    ]
    end(full)
    assert machine.run(ACT.format(pid=pid) + "say([restore(), state(), unlock(), state()])") == [
        "CUDA_SUCCESS", "LOCKED", "CUDA_SUCCESS", "RUNNING",
    ]  # fmt: skip
    assert line(target) is True
    end(target)


def test_each_step_has_its_place_and_its_reasons_to_refuse(machine: Machine) -> None:
    target = machine.start(TARGET)
    pid = line(target)
    wrong = "CUDA_ERROR_ILLEGAL_STATE"
    program = "say([checkpoint(), restore(), unlock(), lock(), lock(), restore(), unlock(), state()])"
    assert machine.run(ACT.format(pid=pid) + program) == [
        wrong,
        wrong,
        wrong,
        "CUDA_SUCCESS",
        wrong,
        wrong,
        "CUDA_SUCCESS",
        "RUNNING",
    ]
    end(target)
    gone = "CUDA_ERROR_INVALID_VALUE"
    assert machine.run(ACT.format(pid=pid) + "say([lock(), checkpoint(), restore(), unlock()])") == [gone] * 4
    managed = machine.start(
        "current(); ok(d.cuMemAllocManaged(1 << 20, 1)); say(os.getpid()); wait_for_a_line()"
    )
    pid = line(managed)
    program = "say([lock(), checkpoint(), state(), unlock()])"
    assert machine.run(ACT.format(pid=pid) + program) == [
        "CUDA_SUCCESS",
        "CUDA_ERROR_NOT_SUPPORTED",
        "LOCKED",
        "CUDA_SUCCESS",
    ]
    end(managed)


def test_a_lock_waits_for_what_runs_and_gives_up_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine(tmp_path_factory.mktemp("m"), {"devices": [SMALL]})
    target = machine.start(
        "current(); ok(launch(load(), 'hang')); say(os.getpid()); wait_for_a_line(); say(name(d.cuStreamQuery(0)))"
    )
    pid = line(target)
    program = """
args = d.CUcheckpointLockArgs()
args.timeoutMs = 20
say([name(d.cuCheckpointProcessLock(pid, args)), state()])
"""
    assert machine.run(ACT.format(pid=pid) + program) == ["CUDA_ERROR_NOT_READY", "RUNNING"]
    tell(target)
    assert line(target) == "CUDA_ERROR_NOT_READY"
    end(target)
