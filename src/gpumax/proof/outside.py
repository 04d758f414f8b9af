"""A device as NVML shows it to somebody who isn't under the layer."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def seen(device: int) -> dict[str, Any]:
    """{"used", "bytes", "processes": {pid: bytes}}, or {"why"}: why nothing was seen."""
    pynvml: Any = import_module("pynvml")
    try:
        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        named = visible[device] if device < len(visible) else ""
        handle = (
            pynvml.nvmlDeviceGetHandleByUUID(named)
            if named.startswith("GPU-")
            else pynvml.nvmlDeviceGetHandleByIndex(int(named) if named.isdecimal() else device)
        )
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError as error:
        return {"why": f"NVML says nothing: {error}"}
    return {
        "used": memory.used, "bytes": memory.total,
        "processes": {str(each.pid): each.usedGpuMemory for each in running if each.usedGpuMemory is not None},
    }  # fmt: skip
