"""Faults on order: any call fails at the nth time, and devices break, from the configuration or while a program runs."""

from __future__ import annotations

import pytest

from interposer.conftest import SMALL
from interposer.emulated import Machine, end, line, tell


def with_faults(folder: pytest.TempPathFactory, *faults: dict[str, object]) -> Machine:
    return Machine(folder.mktemp("m"), {"clock": "virtual", "devices": [SMALL], "faults": list(faults)})


def test_a_call_fails_when_it_was_told_to(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = with_faults(
        tmp_path_factory,
        {"call": "cuMemAlloc_v2", "nth": 3, "times": 2},
        {"call": "cuStreamCreateWithPriority", "nth": 1, "result": "CUDA_ERROR_OUT_OF_MEMORY"},
    )
    program = "current(); say([[name(d.cuMemAlloc(10)) for _ in range(6)], name(d.cuStreamCreate(0)), name(d.cuStreamCreate(0))])"
    fine, out = "CUDA_SUCCESS", "CUDA_ERROR_OUT_OF_MEMORY"
    assert machine.run(program) == [[fine, fine, out, out, fine, fine], out, fine]


def test_a_fault_that_sticks_breaks_the_context(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = with_faults(
        tmp_path_factory, {"call": "cuLaunchKernel", "nth": 2, "result": 214, "sticky": True}
    )
    program = """
    current()
    m = load()
    said = [name(launch(m, "empty")) for _ in range(3)] + [name(d.cuMemGetInfo()), name(d.cuCtxSynchronize())]
    say(said)
    """
    assert machine.run(program) == ["CUDA_SUCCESS"] + ["CUDA_ERROR_ECC_UNCORRECTABLE"] * 4
    counted = """
    import pynvml
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    say([pynvml.nvmlDeviceGetTotalEccErrors(device, kind, 0) for kind in (0, 1)])
    """
    assert machine.run(counted) == [0, 1], "of memory's errors those that couldn't be corrected are counted"


def test_calls_are_counted(machine: Machine) -> None:
    program = """
    lib = ctypes.CDLL("libcuda.so.1")
    lib.gpumax_emu_calls.restype = ctypes.c_ulonglong
    current()
    for _ in range(5):
        ok(d.cuMemAlloc(10))
    say([lib.gpumax_emu_calls(b"cuMemAlloc_v2"), lib.gpumax_emu_calls(b"cuMemFree_v2"), lib.gpumax_emu_calls(None) > 6])
    """
    assert machine.run(program) == [5, 0, True]


def test_a_device_is_lost_and_slow_while_programs_run(machine: Machine) -> None:
    """`gpumax_emu_set` of any process changes the machine of all."""
    program = """
    current()
    p = ok(d.cuMemAlloc(64 << 20))
    host = ok(d.cuMemHostAlloc(64 << 20, 0))
    def copy():
        begin, end = ok(d.cuEventCreate(0)), ok(d.cuEventCreate(0))
        ok(d.cuEventRecord(begin, 0))
        ok(d.cuMemcpyHtoDAsync(p, host, 64 << 20, 0))
        ok(d.cuEventRecord(end, 0))
        ok(d.cuCtxSynchronize())
        return ok(d.cuEventElapsedTime(begin, end))
    say(copy())
    wait_for_a_line()
    say(copy())
    wait_for_a_line()
    say([name(d.cuMemcpyHtoD(p, host, 10)), name(d.cuMemAlloc(10))])
    """
    change = """
    lib = ctypes.CDLL("libcuda.so.1")
    ok(d.cuInit(0))
    say(lib.gpumax_emu_set(0, b"{}", ctypes.c_double({})))
    """
    running = machine.start(program)
    before = line(running)
    assert machine.run(change.format("slower", 4)) == 0
    tell(running)
    assert line(running) == pytest.approx(4 * before, rel=0.01)
    assert machine.run(change.format("broken", 719)) == 0
    tell(running)
    assert line(running) == ["CUDA_ERROR_LAUNCH_FAILED"] * 2
    end(running)
    assert machine.run(change.format("nonsense", 1)) == 1
