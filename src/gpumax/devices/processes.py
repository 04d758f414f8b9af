"""Which processes use devices, and how much of their memory: what the driver says, whatever these processes say themselves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

Readings = Mapping[str, Mapping[int, int]]
"""By device's UUID and process: bytes."""


class Processes:
    """The driver's view by NVML. stand_in: for pynvml."""

    def __init__(self, stand_in: object = None) -> None:
        self._nvml: Any = stand_in if stand_in is not None else import_module("pynvml")
        self._begun = False

    def read(self) -> Readings:
        """Of all devices that the driver tells; a device that doesn't tell of its processes isn't there."""
        nvml = self._nvml
        if not self._begun:
            try:
                nvml.nvmlInit()
            except nvml.NVMLError:
                return {}
            self._begun = True
        found: dict[str, Mapping[int, int]] = {}
        try:
            for number in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                uuid = nvml.nvmlDeviceGetUUID(handle)
                used = self._of(handle)
                if used is not None:
                    found[uuid.decode() if isinstance(uuid, bytes) else uuid] = used
        except nvml.NVMLError:
            # A driver that is exchanged begins anew.
            self._begun = False
        return found

    def _of(self, handle: object) -> Mapping[int, int] | None:
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return None
        return {each.pid: each.usedGpuMemory for each in running if each.usedGpuMemory}
