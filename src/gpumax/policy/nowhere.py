"""Why no GPU of the cluster can ever serve an ask."""

from __future__ import annotations

from collections.abc import Iterable

from gpumax.model.node import Device
from gpumax.policy.ask import Ask
from gpumax.policy.words import listed
from gpumax.policy.world import World
from gpumax.units import format_memory


def no_such_device(world: World, ask: Ask) -> str:
    """What the GPUs that there are lack, in words; empty where one of them would do."""
    alternatives = [gpu for gpu in ask.gpu if gpu is not None]
    refusals = world.fits.refusals(ask.filter)
    rows = [row for row, why in enumerate(refusals) if why is None]
    if not rows or not alternatives:
        return ""
    if any(world.nodes.usable(gpu)[0][rows].any() for gpu in alternatives):
        return ""
    where = " where it may run" if len(rows) < len(refusals) else ""
    devices = [
        device
        for row in rows
        for device in world.nodes.nodes[row].devices
        if device.healthy and not device.slices
    ]
    if not devices:
        return f"there is no healthy whole GPU{where}"
    asked = {gpu.model for gpu in alternatives}
    if "" not in asked and not any(device.model in asked for device in devices):
        return f"there is no {listed(sorted(asked), 'or')}{where}, only {_models(devices)}"
    sizes = [device.memory_mib for device in devices if "" in asked or device.model in asked]
    if not max(sizes):
        return f"the memory of the GPUs{where} isn't known"
    what = "GPU" if "" in asked else listed(sorted(asked), "or")
    return f"the largest {what}{where} has {format_memory(max(sizes))}"


def _models(devices: Iterable[Device]) -> str:
    return listed(sorted({device.model or "GPUs of unknown model" for device in devices}))
