"""The devices that an agent gives out on its node: how it publishes them, and how they are read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.views import Meta, NodeObject, Part, Quantities
from gpumax.model.node import Device, Node
from gpumax.units import LARGEST

MOST_DEVICES: Final = 128
"""As many as one ResourceSlice holds."""
_LONGEST_ANNOTATION: Final = 40_000
_LONGEST_NAME: Final = 253
_PREFIX: Final = "gpu-"


class Attribute(Part, frozen=True, gc=False):
    """What a device is in one respect."""

    text: str | None = msgspec.field(default=None, name="string")
    number: int | None = msgspec.field(default=None, name="int")
    truth: bool | None = msgspec.field(default=None, name="bool")


class Capacity(Part, frozen=True, gc=False):
    """How much a device has of something."""

    value: str | int | float = 0


class Offered(Part, frozen=True, gc=False):
    """A device in a ResourceSlice."""

    name: str = ""
    attributes: dict[str, Attribute] | None = None
    capacity: dict[str, Capacity] | None = None


class Pool(Part, frozen=True, rename="camel", gc=False):
    """Of which pool a slice is. generation: grows with each change."""

    generation: int = 1


class SliceSpec(Part, frozen=True, rename="camel", gc=False):
    """Which devices are where."""

    driver: str = ""
    node_name: str = ""
    pool: Pool = Pool()
    devices: tuple[Offered, ...] | None = ()


class Slice(Part, frozen=True, rename="camel", gc=False):
    """A ResourceSlice."""

    metadata: Meta = Meta()
    spec: SliceSpec = SliceSpec()

    def __post_init__(self) -> None:
        # For people to see, and much of it: no decision reads it.
        (self.metadata.annotations or {}).pop(keys.RESIDENTS, None)


def device_name(index: int) -> str:
    """As claims name it."""
    return f"{_PREFIX}{index}"


def slice_name(node: str) -> str:
    """Of the one ResourceSlice of a node; of a node with a very long name by a sum of it."""
    name = f"{keys.OWN}-{node}"
    return name if len(name) <= _LONGEST_NAME else f"{keys.OWN}-{sha256(node.encode()).hexdigest()}"


def slice_of(
    node: str, uid: str, devices: Sequence[Device], identities: Mapping[int, str], generation: int = 1
) -> dict[str, Any]:
    """The ResourceSlice of a node. uid: the node's, so that it goes with it; identities: what programs know devices by.

    A server that doesn't know parts of devices leaves `allowMultipleAllocations` out; whoever allocates is the scheduler, which does.
    """
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
    return {
        "metadata": {"name": slice_name(node), "ownerReferences": [owner]},
        "spec": {
            "driver": keys.DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
            "devices": [_offered(device, identities[device.index]) for device in devices],
        },
    }


def _offered(device: Device, identity: str) -> dict[str, Any]:
    return {
        "name": device_name(device.index),
        "allowMultipleAllocations": True,
        "attributes": {
            "index": {"int": device.index},
            "uuid": {"string": identity[:64]},
            "model": {"string": device.model[:64]},
            "healthy": {"bool": device.healthy},
        },
        "capacity": {"memory": {"value": f"{device.memory_mib}Mi"}, "milli": {"value": "1000"}},
    }


def offered_by(view: Slice) -> tuple[Device, ...]:
    """The devices of a slice by index; what makes no sense is no device."""
    return _sound(_device(one) for one in view.spec.devices or ())


def _device(one: Offered) -> Device | None:
    said = one.attributes or {}
    index = said["index"].number if "index" in said else None
    if index is None:
        return None
    model = said["model"].text if "model" in said else None
    healthy = "healthy" in said and said["healthy"].truth is True
    amounts: Quantities = {name: capacity.value for name, capacity in (one.capacity or {}).items()}
    sound, _ = quantities.exact(amounts)
    memory = quantities.down("memory", sound["memory"]) if "memory" in sound else 0
    return Device(index, (model or "")[:64], memory, healthy)


def annotation_of(devices: Sequence[Device]) -> str:
    """The same devices as a node's annotation."""
    return msgspec.json.encode(devices).decode()


def annotated(view: NodeObject) -> tuple[Device, ...] | None:
    """The devices that a node's annotation offers; None where it has none."""
    text = (view.metadata.annotations or {}).get(keys.OFFERED)
    if text is None or len(text) > _LONGEST_ANNOTATION:
        return None
    try:
        return _sound(msgspec.json.decode(text, type=tuple[Device, ...]))
    except msgspec.DecodeError:
        return None


def _sound(devices: Iterable[Device | None]) -> tuple[Device, ...]:
    found = {
        device.index: device
        for device in devices
        if device is not None and 0 <= device.index < MOST_DEVICES and 0 <= device.memory_mib <= LARGEST
    }
    return tuple(found[index] for index in sorted(found))


def with_agent(node: Node, offered: tuple[Device, ...], how: str, *, whole: bool) -> Node:
    """The node of an agent: its whole devices are those that the agent gives out, whoever else offers them, too.

    how: as the label says it; whole: whether the agent can give whole devices to pods that ask for the vendor's resource.
    """
    after = max((device.index for device in offered), default=-1) + 1
    cut = [device for device in node.devices if device.slices]
    moved = tuple(replace(device, index=after + place) for place, device in enumerate(cut))
    labels = {key: value for key, value in node.labels.items() if key != keys.VENDOR} | {keys.AGENT: how}
    if whole:
        labels[keys.VENDOR] = quantities.NVIDIA
    return replace(node, devices=offered + moved, labels=labels)
