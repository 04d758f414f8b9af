"""The devices of this node, told to the cluster."""

from __future__ import annotations

from typing import Final

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.kinds import NODES, SLICES
from gpumax.engines.kubernetes.offers import (
    MOST_DEVICES,
    annotated,
    annotation_of,
    offered_by,
    slice_name,
    slice_of,
)
from gpumax.errors import Refused
from gpumax.model.node import Device
from gpumax.ports.devices import Devices

MANAGER: Final = "gpumax-agent"


def identities(devices: Devices, rows: tuple[Device, ...]) -> dict[int, str]:
    """What programs know each device by."""
    return {device.index: devices.visible((device.index,))["CUDA_VISIBLE_DEVICES"] for device in rows}


def _rows(devices: Devices) -> tuple[Device, ...]:
    rows = devices.read()
    if len(rows) > MOST_DEVICES:
        raise Refused(f"found {len(rows)} GPUs; at most {MOST_DEVICES} of a node can be published")
    return rows


async def annotate(api: Api, node: str, devices: Devices) -> bool:
    """The same where slices aren't served: by an annotation of the node. Returns whether it had to be written."""
    rows = _rows(devices)
    there = await api.get(NODES, node)
    if annotated(there) == rows:
        return False
    await api.patch(NODES, node, {"metadata": {"annotations": {keys.OFFERED: annotation_of(rows)}}})
    return True


async def tell_residents(api: Api, node: str, text: str | None, *, claims: bool) -> None:
    """Who shares the devices, beside what is published of them: on the ResourceSlice, else on the node. None: nobody does."""
    change = {"metadata": {"annotations": {keys.RESIDENTS: text}}}
    if claims:
        await api.patch(SLICES, slice_name(node), change)
    else:
        await api.patch(NODES, node, change)


async def publish(api: Api, node: str, devices: Devices) -> bool:
    """See to it that the node's ResourceSlice says what is there; it is missing where the kubelet took us for gone. Returns whether it had to be written."""
    rows = _rows(devices)
    generation = 1
    try:
        there = await api.get(SLICES, slice_name(node))
        if offered_by(there) == rows and there.spec.node_name == node:
            return False
        generation = there.spec.pool.generation + 1
    except ApiRefused as error:
        if error.code != 404:
            raise
    uid = (await api.get(NODES, node)).metadata.uid
    body = slice_of(node, uid, rows, identities(devices, rows), generation)
    await api.apply(SLICES, slice_name(node), body, manager=MANAGER)
    return True
