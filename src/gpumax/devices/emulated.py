"""Virtual devices with a driver: programs of CUDA's driver API run on them, in memory of the host."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import uuid
from pathlib import Path
from threading import Lock
from typing import Final

from msgspec.structs import replace

from gpumax.devices.virtual import VirtualDevices
from gpumax.errors import NotFound
from gpumax.model.node import Device
from gpumax.native import library
from gpumax.ports.devices import Devices
from gpumax.units import MIB

MOST: Final = 16
"""How many devices an emulated driver has."""

LONGEST: Final = 200
"""Of the folder's path, in which the driver finds its files."""

_asking: Final = Lock()


class EmulatedDevices(VirtualDevices):
    """A folder holds the driver under the names that programs ask for, and says which devices there are."""

    def __init__(self, devices: tuple[Device, ...], folder: Path) -> None:
        super().__init__(devices)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, str | int]] = [
            {"name": each.model, "memory": each.memory_mib * MIB, "context": 0}
            for each in sorted(devices, key=lambda d: d.index)
        ]
        key = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
        self._uuids = {index: _uuid(f"{folder} {key} {index}") for index in range(len(rows))}
        for index, row in enumerate(rows):
            row["uuid"] = self._uuids[index]
        # Work that still runs on other devices has a machine of its own.
        self._config = folder / f"devices-{key}.json"
        self._config.write_text(json.dumps({"shared": str(folder / f"machine-{key}"), "devices": rows}))
        _link(folder / "libcuda.so.1", library("emu"))
        _link(folder / "libnvidia-ml.so.1", library("emu-ml"))

    def read(self) -> tuple[Device, ...]:
        """The devices by index; one that is lost, or whose memory has had errors, is unhealthy, as NVML would have it."""
        works = _health(self._config)
        return tuple(
            device if works[at] else replace(device, healthy=False)
            for at, device in enumerate(super().read())
        )

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that shows a process these devices, and where it finds their driver."""
        found = super().visible(indexes)
        if indexes:
            found |= {
                "GPUMAX_EMU": str(self._config),
                "LD_LIBRARY_PATH": str(self._folder),
                # The layer under CUDA asks no search path for the driver behind it.
                "GPUMAX_REAL_LIBCUDA": str(self._folder / "libcuda.so.1"),
                "GPUMAX_REAL_LIBNVIDIA_ML": str(self._folder / "libnvidia-ml.so.1"),
            }
        return found

    def uuids(self) -> dict[int, str]:
        """As the emulated driver tells them."""
        return self._uuids

    def notes(self) -> tuple[str, ...]:
        """That they are made up, and what runs on them; and which of them fail."""
        failing = ", ".join(str(device.index) for device in self.read() if not device.healthy)
        return (
            "its GPUs are virtual: programs of CUDA's driver API run on an emulated driver, code for a GPU doesn't",
            *([f"devices that fail: {failing}"] if failing else []),
        )


def with_driver(devices: Devices, folder: Path) -> Devices:
    """Virtual devices with a driver, where there is one for as many of them; all others as they are.

    folder: a place of ours, which need not be there yet.
    """
    if not isinstance(devices, VirtualDevices) or not 0 < len(devices.read()) <= MOST:
        return devices
    # What the loader splits at, and what the driver has room for.
    if any(mark in str(folder) for mark in ":;$") or len(str(folder)) > LONGEST:
        return devices
    try:
        return EmulatedDevices(devices.read(), folder)
    except (NotFound, OSError):
        return devices


def _health(config: Path) -> list[bool]:
    """By index, whether a device of a configuration works, as the driver has it. It's opened for no longer than the question
    takes: by the name that it stands for it would be this process's NVML for as long.
    """
    works = (ctypes.c_ubyte * MOST)(*[1] * MOST)
    with _asking:
        driver = ctypes.CDLL(str(library("emu-ml")))
        driver.gpumax_emu_health(os.fsencode(config), works)
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(driver._handle))
    return [bool(each) for each in works]


def _link(link: Path, target: Path) -> None:
    """A link, whatever was there."""
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _uuid(text: str) -> str:
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, text)}"
