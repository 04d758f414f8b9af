"""NVML of an emulated machine, through nvidia-ml-py: the same devices, the same memory, the same processes as the driver has."""

from __future__ import annotations

import os

import pytest

from interposer.conftest import SMALL
from interposer.emulated import Machine, end, line, tell

WATCH = """
import pynvml as n
n.nvmlInit()
"""


def test_it_lists_devices_as_the_driver_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine(
        tmp_path_factory.mktemp("m"), {"driver": "12.8", "devices": [SMALL, {"model": "H100-80GB"}]}
    )
    program = (
        WATCH
        + """
ok(d.cuInit(0))
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
for i, handle in enumerate(handles):
    device = ok(d.cuDeviceGet(i))
    assert n.nvmlDeviceGetUUID(handle).replace("-", "")[3:] == ok(d.cuDeviceGetUuid(device)).bytes.hex()
    assert n.nvmlDeviceGetMemoryInfo(handle).total == ok(d.cuDeviceTotalMem(device))
    assert n.nvmlDeviceGetPciInfo(handle).bus == i + 1
    assert n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(handle))) == i
try:
    n.nvmlDeviceGetHandleByIndex(2)
except n.NVMLError_InvalidArgument:
    pass
try:
    n.nvmlDeviceGetFanSpeed(handles[0])
except n.NVMLError_NotSupported:
    pass
say([[n.nvmlDeviceGetName(h) for h in handles], list(n.nvmlDeviceGetCudaComputeCapability(handles[1])),
     n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetCudaDriverVersion()])
"""
    )
    assert machine.run(program) == [["Small", "Emulated H100-80GB"], [9, 0], "570.00.00", 12080]


def test_it_shows_who_uses_how_much_and_forgets_the_dead(machine: Machine) -> None:
    watcher = machine.start(
        WATCH
        + """
h = n.nvmlDeviceGetHandleByIndex(0)
while True:
    say([n.nvmlDeviceGetMemoryInfo(h).used >> 20, n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).free >> 20,
         sorted((p.pid, p.usedGpuMemory >> 20) for p in n.nvmlDeviceGetComputeRunningProcesses(h))])
    if not wait_for_a_line():
        break
"""
    )
    assert line(watcher) == [0, 1024, []]
    users = [
        machine.start(f"current(); ok(d.cuMemAlloc({size} << 20)); say(1); wait_for_a_line()")
        for size in (100, 200)
    ]
    for user in users:
        line(user)
    tell(watcher)
    used, free, processes = line(watcher)
    assert (used, free) == (428, 596)
    assert processes == sorted(
        [users[0].pid, 164] if user is users[0] else [users[1].pid, 264] for user in users
    )
    for user in users:
        end(user)
    tell(watcher)
    assert line(watcher) == [0, 1024, []]
    end(watcher)


def test_utilization_is_the_part_of_the_time_in_which_the_device_worked(machine: Machine) -> None:
    program = (
        WATCH
        + """
current()
h = n.nvmlDeviceGetHandleByIndex(0)
lib = ctypes.CDLL("libcuda.so.1")
n.nvmlDeviceGetUtilizationRates(h)
n.nvmlDeviceGetProcessUtilization(h, 0)
ok(launch(load(), "spin", 30_000_000))
ok(d.cuCtxSynchronize())
lib.gpumax_emu_advance(ctypes.c_ulonglong(70_000_000))
[mine] = n.nvmlDeviceGetProcessUtilization(h, 0)
say([n.nvmlDeviceGetUtilizationRates(h).gpu, mine.smUtil, mine.pid == os.getpid()])
"""
    )
    gpu, own, mine = machine.run(program)
    assert gpu == pytest.approx(30, abs=1)
    assert own == pytest.approx(30, abs=1)
    assert mine


def test_gpumax_itself_finds_emulated_devices(machine: Machine) -> None:
    """The discovery of devices that a node uses, unchanged."""
    program = """
    from gpumax.devices.nvml import open_nvml
    say([[each.model, each.memory_mib, each.healthy] for each in open_nvml().read()])
    """
    assert machine.run(program, PYTHONPATH=os.environ.get("PYTHONPATH", "")) == [["Small", 1024, True]]
