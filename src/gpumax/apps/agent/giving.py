"""A part is given out: from what was decided to what the runtime finds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gpumax.apps.agent.container import container, has_layer
from gpumax.apps.agent.holder import Holder
from gpumax.apps.agent.parts import Origin, Parts, of_vendor
from gpumax.engines.kubernetes.grants import Grant
from gpumax.ports.devices import Devices


class Place(NamedTuple):
    """Where parts are given out. layer: the folder of the layer under CUDA; vendor: folders in which the vendor's CDI specs may lie.

    holder: who sees to it that nobody has more than its part; None: nobody does.
    """

    node: str
    devices: Devices
    layer: Path
    vendor: tuple[Path, ...] = ()
    holder: Holder | None = None


def give(place: Place, parts: Parts, key: str, origin: Origin, grant: Grant) -> list[str]:
    """Write down what was decided, the same however often; its names for the runtime."""
    held = place.holder.hold(key, grant) if place.holder is not None and has_layer(place.layer) else None
    content = container(grant, place.devices, place.layer, held)
    name = parts.write(key, origin, content)
    if place.devices.virtual:
        return [name]
    return [name, *of_vendor(place.vendor, content.env["CUDA_VISIBLE_DEVICES"].split(","))]


def take_back(place: Place, parts: Parts, key: str) -> None:
    """Who had it is gone."""
    parts.remove(key)
    if place.holder is not None:
        place.holder.free(key)


def keep(place: Place, parts: Parts) -> None:
    """What isn't given out is nobody's."""
    if place.holder is not None:
        place.holder.keep(parts.kept())
