"""Made-up devices: real processes and real queueing on a machine without GPUs."""

from __future__ import annotations

import re
from typing import Final

from gpumax.devices.absent import NoDevices
from gpumax.errors import BadFile, Fault
from gpumax.model.node import Device
from gpumax.ports.devices import Devices
from gpumax.units import LARGEST, MIB, floor, parse_quantity

WANTED: Final = "COUNTxMODEL:MEMORY, like 8xH100:80Gi, or several of these with commas between, or none"
MOST: Final = 1024
"""How many devices one machine may be said to have."""

_PART: Final = re.compile(r"(\d{1,9})x([A-Za-z0-9][A-Za-z0-9 ._+/()-]{0,63}):([^:]+)", re.ASCII)


class VirtualDevices:
    """Devices that exist by name only: healthy for ever, never seen by a driver."""

    virtual = True

    def __init__(self, devices: tuple[Device, ...]) -> None:
        self._devices = devices

    def read(self) -> tuple[Device, ...]:
        """The devices by index."""
        return self._devices

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that names these devices, and says that they are virtual. KeyError for one that isn't there."""
        there = {device.index for device in self._devices}
        for index in indexes:
            if index not in there:
                raise KeyError(index)
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in indexes),
            "GPUMAX_VIRTUAL_DEVICES": "1",
        }

    def uuids(self) -> dict[int, str]:
        """No driver knows any."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """That they are made up."""
        return ("its GPUs are virtual: tasks are placed on them, no program can compute on them",)


def parse_spec(spec: str) -> Devices:
    """The devices that a spec like "8xH100:80Gi,2xA100:40Gi" describes. BadFile, with every fault, where it doesn't."""
    if spec.strip() == "none":
        return NoDevices("without devices, as it was asked for")
    faults: list[Fault] = []
    devices: list[Device] = []
    for part in spec.split(","):
        found = _parse_part(part.strip())
        if isinstance(found, Fault):
            faults.append(found)
            continue
        count, model, memory_mib = found
        start = len(devices)
        if start + count > MOST:
            faults.append(
                Fault("devices", None, f"more than {MOST} devices", f"at most {MOST} on one machine")
            )
            break
        devices += [Device(start + offset, model, memory_mib) for offset in range(count)]
    if faults:
        raise BadFile(faults)
    return VirtualDevices(tuple(devices))


def _parse_part(part: str) -> tuple[int, str, int] | Fault:
    """Count, model and MiB of one part, or what is wrong with it."""
    match = _PART.fullmatch(part)
    if match is None:
        return Fault("devices", None, f"`{part}`" if part else "nothing", WANTED)
    count, model, memory = int(match[1]), match[2], match[3].strip()
    if count == 0:
        return Fault("devices", None, f"`{part}`: 0 devices", "at least one, or none for no devices at all")
    try:
        memory_mib = floor(parse_quantity(memory) / MIB)
    except ValueError:
        memory_mib = 0
    if not 1 <= memory_mib <= LARGEST:
        return Fault(
            "devices", None, f"`{part}`: the memory `{memory}`", "an amount of at least 1Mi, like 80Gi"
        )
    return count, model, memory_mib
