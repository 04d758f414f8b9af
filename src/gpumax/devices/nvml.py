"""Devices that NVIDIA's driver reports. Tested with a made-up NVML only: it has not run on a real GPU yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import msgspec

from gpumax.devices.absent import NoDevices
from gpumax.model.node import Device
from gpumax.ports.devices import Devices
from gpumax.units import MIB

_MAKERS: Final = ("NVIDIA", "Tesla", "GeForce", "Quadro")
_SERIES: Final = ("RTX", "GTX", "TITAN")
_EDITIONS: Final = ("Ti", "SUPER", "Ada")


class Known(msgspec.Struct, frozen=True):
    """What doesn't change of a device, as it was when it was first seen."""

    uuid: str
    model: str
    memory_mib: int


def open_nvml(stand_in: object = None) -> Devices:
    """The driver's devices, or none with the reason where there is no driver or no device. stand_in: for pynvml."""
    nvml: Any = stand_in if stand_in is not None else import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return NoDevices(f"no GPU: NVIDIA's driver isn't there ({error})")
    devices = NvmlDevices(nvml)
    return devices if devices.read() else NoDevices("no GPU: NVIDIA's driver reports none")


class NvmlDevices:
    """The driver's devices, by the index at which each was first seen: one that falls off the bus leaves a gap, and the
    others keep their index."""

    virtual = False

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._known: list[Known] = []

    def read(self) -> tuple[Device, ...]:
        """The devices now."""
        self._look_for_new()
        return tuple(
            Device(index, known.model, known.memory_mib, healthy=self._is_healthy(known.uuid))
            for index, known in enumerate(self._known)
        )

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that shows these devices, by their UUIDs: CUDA's own numbers change with the environment."""
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(self._known[index].uuid for index in indexes),
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }

    def uuids(self) -> dict[int, str]:
        """The UUIDs of all that were ever seen."""
        self._look_for_new()
        return {index: known.uuid for index, known in enumerate(self._known)}

    def notes(self) -> tuple[str, ...]:
        """Nothing, where all is as it should be."""
        failing = [str(device.index) for device in self.read() if not device.healthy]
        return (f"devices that fail or are cut into MIG slices: {', '.join(failing)}",) if failing else ()

    def _look_for_new(self) -> None:
        nvml, seen = self._nvml, {known.uuid for known in self._known}
        for number in range(self._ask(nvml.nvmlDeviceGetCount) or 0):
            handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, number)
            uuid = None if handle is None else self._ask(nvml.nvmlDeviceGetUUID, handle)
            if uuid is None or _text(uuid) in seen:
                continue
            name = self._ask(nvml.nvmlDeviceGetName, handle)
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
            if name is not None and memory is not None:
                self._known.append(Known(_text(uuid), short_model(_text(name)), memory.total // MIB))

    def _is_healthy(self, uuid: str) -> bool:
        nvml = self._nvml
        handle = self._ask(nvml.nvmlDeviceGetHandleByUUID, uuid)
        if handle is None or self._ask(nvml.nvmlDeviceGetMemoryInfo, handle) is None:
            return False
        # What a device doesn't support says nothing against it.
        rows = self._ask(nvml.nvmlDeviceGetRemappedRows, handle)
        mig = self._ask(nvml.nvmlDeviceGetMigMode, handle)
        repair_failed = rows is not None and bool(rows[3])
        # Since the driver was loaded, that is since the device was last reset.
        errors = self._ask(
            nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )  # fmt: skip
        return not repair_failed and not errors and (mig is None or mig[0] != nvml.NVML_DEVICE_MIG_ENABLE)

    def _ask(self, question: Callable[..., Any], *arguments: object) -> Any:
        """The driver's answer; None where it gives none."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None


def short_model(name: str) -> str:
    """What people call a device: "NVIDIA H100 80GB HBM3" -> "H100", "NVIDIA GeForce RTX 3080 Ti" -> "RTX3080Ti"."""
    words = [word for word in re.split(r"[\s-]+", name) if word and word not in _MAKERS]
    if not words:
        return name.strip() or "GPU"
    if words[0] not in _SERIES or len(words) == 1:
        return words[0]
    number = words[1] if words[1][0].isalpha() and words[0] != "TITAN" else words[0] + words[1]
    return number + "".join(word for word in words[2:] if word in _EDITIONS)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
