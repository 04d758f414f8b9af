"""A part is given out: from what was decided to what the runtime finds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gpumax.apps.agent.container import container
from gpumax.apps.agent.parts import Origin, Parts, of_vendor
from gpumax.engines.kubernetes.grants import Grant
from gpumax.ports.devices import Devices


class Place(NamedTuple):
    """Where parts are given out. layer: the folder of the layer under CUDA; vendor: folders in which the vendor's CDI specs may lie."""

    node: str
    devices: Devices
    layer: Path
    vendor: tuple[Path, ...] = ()


def give(place: Place, parts: Parts, key: str, origin: Origin, grant: Grant) -> list[str]:
    """Write down what was decided, the same however often; its names for the runtime."""
    content = container(grant, place.devices, place.layer)
    name = parts.write(key, origin, content)
    if place.devices.virtual:
        return [name]
    return [name, *of_vendor(place.vendor, content.env["CUDA_VISIBLE_DEVICES"].split(","))]
