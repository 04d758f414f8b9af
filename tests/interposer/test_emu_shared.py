"""Processes on one emulated machine: they share its memory and its time, and the dead leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, SMALL, cc
from interposer.emulated import Machine, end, line, tell

HOLD = "current(); p = ok(d.cuMemAlloc({} << 20)); say(free() >> 20); wait_for_a_line()"


def test_what_one_process_takes_another_lacks(machine: Machine) -> None:
    holder = machine.start(HOLD.format(500))
    try:
        assert line(holder) == 1024 - 64 - 500
        said = machine.run(
            "current(); say([free() >> 20, name(d.cuMemAlloc(500 << 20)), name(d.cuMemAlloc(390 << 20))])"
        )
        assert said == [1024 - 64 - 500 - 64, "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"]
    finally:
        end(holder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_whoever_ends_gives_all_back_however_that_comes(machine: Machine, how: signal.Signals) -> None:
    watcher = machine.start("current(); say(free() >> 20)\nwhile wait_for_a_line(): say(free() >> 20)")
    alone = line(watcher)
    for _ in range(2):
        holder = machine.start(HOLD.format(500))
        line(holder)
        tell(watcher)
        assert line(watcher) == alone - 564
        holder.send_signal(how)
        holder.communicate()
        tell(watcher)
        assert line(watcher) == alone
    end(watcher)


def test_a_child_of_the_dead_keeps_nothing_alive(machine: Machine) -> None:
    """A child that outlives its parent has the parent's files, and not its memory of the device."""
    parent = machine.start("""
    current()
    ok(d.cuMemAlloc(500 << 20))
    child = os.fork()
    if child == 0:
        import signal
        signal.pause()
    say(child)
    wait_for_a_line()
    """)
    child = line(parent)
    try:
        parent.kill()
        parent.wait()
        assert machine.run("current(); say(free() >> 20)") == 1024 - 64
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()


def test_memory_goes_to_other_processes_by_handle_and_by_file(machine: Machine) -> None:
    """An old handle of 64 bytes, and a file descriptor of memory that was created apart from addresses."""
    giver = machine.start("""
    import socket
    current()
    p = upload(np.arange(1000, dtype=np.uint32))
    prop = d.CUmemAllocationProp()
    prop.type = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    prop.location.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    kind = d.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    prop.requestedHandleTypes = kind
    handle = ok(d.cuMemCreate(2 << 20, prop, 0))
    file = int(ok(d.cuMemExportToShareableHandle(handle, kind, 0)))
    own = name(d.cuIpcOpenMemHandle(ok(d.cuIpcGetMemHandle(p)), 1))
    say([ctypes.string_at(ok(d.cuIpcGetMemHandle(p)).getPtr(), 64).hex(), os.getpid(), file, own])
    wait_for_a_line()
    say(download(p, np.empty(4, np.uint32)).tolist())
    """)
    handle, pid, file, own = line(giver)
    assert own == "CUDA_ERROR_INVALID_CONTEXT"
    got = machine.run(f"""
    current()
    before = free()
    handle = d.CUipcMemHandle()
    ctypes.memmove(handle.getPtr(), bytes.fromhex({handle!r}), 64)
    p = ok(d.cuIpcOpenMemHandle(handle, 1))
    same = download(p, np.empty(1000, np.uint32)).tolist() == list(range(1000))
    ok(d.cuMemsetD32(p, 7, 2))
    file = os.open("/proc/{pid}/fd/{file}", os.O_RDWR)
    kind = d.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    other = ok(d.cuMemImportFromShareableHandle(file, kind))
    at = ok(d.cuMemAddressReserve(2 << 20, 0, 0, 0))
    ok(d.cuMemMap(at, 2 << 20, 0, other, 0))
    said = [same, before - free(), name(d.cuMemFree(p)), name(d.cuIpcCloseMemHandle(p)), name(d.cuIpcCloseMemHandle(p))]
    say(said)
    """)
    assert got == [True, 0, "CUDA_ERROR_INVALID_VALUE", "CUDA_SUCCESS", "CUDA_ERROR_INVALID_VALUE"]
    tell(giver)
    assert line(giver) == [7, 7, 2, 3]
    end(giver)


SPIN = """
current()
m = load("kernel step as spin us {us}\\n")
say("ready")
wait_for_a_line()
begin = time.monotonic()
for _ in range({times}):
    ok(launch(m, "step", 0))
ok(d.cuCtxSynchronize())
say([begin, time.monotonic()])
"""


def test_work_of_several_processes_takes_as_long_as_all_of_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Short and long kernels side by side: they are on one device and not on one each."""
    machine = Machine(tmp_path_factory.mktemp("m"), {"devices": [SMALL]})
    workers = [machine.start(SPIN.format(us=500, times=400)), machine.start(SPIN.format(us=20000, times=10))]
    assert [line(each) for each in workers] == ["ready", "ready"]
    for each in workers:
        tell(each)
    spans = [line(each) for each in workers]
    for each in workers:
        end(each)
    assert max(stop for _, stop in spans) - min(start for start, _ in spans) >= 0.4


def test_whoever_is_killed_or_stopped_on_the_device_stops_nobody_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    machine = Machine(tmp_path_factory.mktemp("m"), {"devices": [SMALL]})
    for how in (signal.SIGKILL, signal.SIGSTOP):
        hog = machine.start(
            "current(); ok(launch(load(), 'hang')); say(name(d.cuStreamQuery(0))); wait_for_a_line()"
        )
        assert line(hog) == "CUDA_ERROR_NOT_READY"
        hog.send_signal(how)
        try:
            assert machine.run(
                "current(); ok(launch(load(), 'spin', 10000000)); ok(d.cuCtxSynchronize()); say(True)"
            )
        finally:
            end(hog)


@pytest.mark.slow
def test_two_dozen_processes_of_which_half_are_killed_leave_a_device_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """They take, work on and give back memory all the time, more than there is; each is killed in the middle of something else."""
    folder = tmp_path_factory.mktemp("m")
    machine = Machine(folder, {"devices": [SMALL | {"memory": "256Mi", "context": "1Mi", "latency_us": 1}]})
    churn = folder / "churn"
    built = cc(
        "-O1", Path(__file__).parent / "c/churn.c", f"-I{INTERPOSER}/include",
        machine.libraries / "libcuda.so.1", "-pthread", "-o", churn,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    watcher = machine.start("current(); say(free())\nwhile wait_for_a_line(): say(free())")
    whole = line(watcher)
    processes = [
        subprocess.Popen(
            [str(churn), str(seed), *([str(20_000 + 17_001 * seed)] if seed % 2 else [])],
            env=machine.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(24)
    ]  # fmt: skip
    try:
        for seed, process in enumerate(processes):
            _, err = process.communicate(timeout=300)
            assert process.returncode == (-signal.SIGKILL if seed % 2 else 0), err
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    tell(watcher)
    assert line(watcher) == whole
    end(watcher)
