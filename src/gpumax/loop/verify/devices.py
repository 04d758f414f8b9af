"""Whether devices are what a task asked for."""

from __future__ import annotations

from gpumax.loop.verify.slices import together
from gpumax.model.node import Device, Node
from gpumax.model.workload import DeviceAsk, DeviceShare, Request
from gpumax.units import MILLI


def need(ask: DeviceAsk, device: Device) -> int | None:
    """The milli-devices that the ask takes of a device; None where it can't serve the ask even when it is free."""
    if not device.healthy or device.slices or (ask.model and ask.model != device.model):
        return None
    if not ask.memory_mib:
        return ask.milli
    if device.memory_mib < ask.memory_mib:
        return None
    return -(-MILLI * ask.memory_mib // device.memory_mib)


def serve(request: Request, node: Node, shares: tuple[DeviceShare, ...]) -> bool:
    """Whether these devices of a node are one of the alternatives that a request names."""
    known = {device.index: device for device in node.devices}
    indexes = [share.index for share in shares]
    if len(set(indexes)) != len(indexes) or any(index not in known for index in indexes):
        return False
    if request.slices:
        healthy = all(known[index].healthy for index in indexes)
        return healthy and not any(share.milli for share in shares) and together(shares) == request.slices
    if not request.gpu:
        return not shares
    return any(
        len(shares) == ask.devices and all(need(ask, known[share.index]) == share.milli for share in shares)
        for ask in request.gpu
    )
