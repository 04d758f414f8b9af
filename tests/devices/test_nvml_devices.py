"""Devices of NVIDIA's driver, with a made-up driver; no test here has seen a real one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpumax.devices import open_devices
from gpumax.devices.nvml import open_nvml, short_model
from gpumax.model.node import Device

GIB = 1 << 30


class MadeUpNvml:
    """The part of pynvml that is used: devices by UUID, in the order of their bus."""

    NVML_DEVICE_MIG_ENABLE = 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    class NVMLError(Exception):
        """Every error of the driver's."""

    def __init__(self, *uuids: str, name: str | bytes = "NVIDIA H100 80GB HBM3", driver: bool = True) -> None:
        self.uuids = list(uuids)
        self.name = name
        self.driver = driver
        self.broken: set[str] = set()
        self.mig: dict[str, int] = {}
        self.repair_failed: dict[str, int] = {}
        self.errors: dict[str, int] = {}

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.uuids:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str | bytes:
        return self.name

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        if handle in self.broken:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(total=80 * GIB)

    def nvmlDeviceGetRemappedRows(self, handle: str) -> tuple[int, int, int, int]:
        if handle not in self.repair_failed:
            raise self.NVMLError("Not Supported")
        return (0, 1, 0, self.repair_failed[handle])

    def nvmlDeviceGetTotalEccErrors(self, handle: str, kind: int, since: int) -> int:
        assert (kind, since) == (1, 0)
        if handle not in self.errors:
            raise self.NVMLError("Not Supported")
        return self.errors[handle]

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        if handle not in self.mig:
            raise self.NVMLError("Not Supported")
        return (self.mig[handle], self.mig[handle])


def test_devices() -> None:
    """Every device is there with a short model and its memory; a process is shown them by UUID."""
    devices = open_nvml(MadeUpNvml("GPU-a", "GPU-b"))
    assert not devices.virtual
    assert devices.read() == (Device(0, "H100", 81920), Device(1, "H100", 81920))
    assert devices.visible((1, 0))["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a"
    assert devices.visible(())["CUDA_VISIBLE_DEVICES"] == ""
    assert devices.notes() == ()


def test_failing_device() -> None:
    """A device that fails stays where it is, unhealthy, and is healthy again when it answers again."""
    nvml = MadeUpNvml("GPU-a", "GPU-b")
    devices = open_nvml(nvml)
    nvml.broken.add("GPU-a")
    assert [device.healthy for device in devices.read()] == [False, True]
    assert devices.notes() == ("devices that fail or are cut into MIG slices: 0",)
    nvml.broken.clear()
    assert [device.healthy for device in devices.read()] == [True, True]


def test_device_that_falls_off_the_bus() -> None:
    """The others keep their index, though the driver counts anew; a new one gets the next."""
    nvml = MadeUpNvml("GPU-a", "GPU-b")
    devices = open_nvml(nvml)
    nvml.uuids = ["GPU-b", "GPU-c"]
    assert [(device.index, device.healthy) for device in devices.read()] == [(0, False), (1, True), (2, True)]
    assert devices.visible((1, 2))["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-c"


def test_repair_and_slices() -> None:
    """A device whose memory repair failed, or that is cut into slices, takes no whole work; one that is fine does."""
    nvml = MadeUpNvml("GPU-a", "GPU-b", "GPU-c")
    nvml.repair_failed = {"GPU-a": 1, "GPU-c": 0}
    nvml.mig = {"GPU-b": 1, "GPU-c": 0}
    assert [device.healthy for device in open_nvml(nvml).read()] == [False, False, True]


def test_errors_of_memory_that_were_not_corrected() -> None:
    """A device that has had any since it was reset takes nothing new; one that counts none, or can't count, does."""
    nvml = MadeUpNvml("GPU-a", "GPU-b", "GPU-c")
    nvml.errors = {"GPU-a": 1, "GPU-b": 0}
    assert [device.healthy for device in open_nvml(nvml).read()] == [False, True, True]


@pytest.mark.parametrize("nvml", [MadeUpNvml(driver=False), MadeUpNvml()])
def test_no_driver(nvml: MadeUpNvml) -> None:
    """Without a driver, or with one that reports nothing, there are no devices, and a reason."""
    devices = open_nvml(nvml)
    assert devices.read() == ()
    (note,) = devices.notes()
    assert note.startswith("no GPU: ")


def test_this_machine() -> None:
    """Whatever this machine has, opening it is no error."""
    devices = open_devices(None)
    assert bool(devices.read()) or devices.notes()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX3080Ti"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("Quadro RTX 8000", "RTX8000"),
        ("NVIDIA TITAN V", "TITANV"),
        ("NVIDIA", "NVIDIA"),
        ("", "GPU"),
    ],
)
def test_short_model(name: str, model: str) -> None:
    """Models are called as people call them."""
    assert short_model(name) == model


def test_names_as_bytes() -> None:
    """Old versions of the library answer in bytes."""
    assert open_nvml(MadeUpNvml("GPU-a", name=b"Tesla T4")).read()[0].model == "T4"
