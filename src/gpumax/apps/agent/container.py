"""What a container finds that was given parts of devices."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from gpumax.apps.agent.holder import Held
from gpumax.engines.kubernetes.grants import Grant
from gpumax.errors import Refused
from gpumax.ports.devices import Devices
from gpumax.units import MIB, MILLI

LAYER: Final = ("libgpumax-cuda.so", "libgpumax-ml.so")
"""The layer under CUDA, which holds a process to its part."""
INSIDE: Final = "/usr/local/lib/gpumax"
"""Where the layer lies in containers."""
SOCKETS: Final = "/run/gpumax"
"""Where containers find the socket of their part, and nobody else's."""


class Mount(NamedTuple):
    """A file of the node that the container sees and can't change."""

    host: str
    container: str


class Container(NamedTuple):
    """What is added to a container."""

    env: dict[str, str]
    mounts: tuple[Mount, ...] = ()


def has_layer(layer: Path) -> bool:
    """Whether the layer under CUDA lies in a folder."""
    return (layer / LAYER[0]).is_file()


def container(grant: Grant, devices: Devices, layer: Path, held: Held | None = None) -> Container:
    """Environment and files for a grant. layer: the folder of the layer under CUDA; where it isn't there, nothing holds the container to its part.

    held: by whom its memory and its turns are seen to.
    """
    there = {device.index: device for device in devices.read()}
    if missing := grant.devices.keys() - there.keys():
        raise Refused(f"this node has no GPU {', '.join(map(str, sorted(missing)))}; it has {len(there)}")
    env = devices.visible(tuple(sorted(grant.devices)))
    env["NVIDIA_VISIBLE_DEVICES"] = "void" if devices.virtual else env["CUDA_VISIBLE_DEVICES"]
    env["GPUMAX_SHARE"] = f"{min(part.milli for part in grant.devices.values()) / MILLI:g}"
    most = [
        _most_mib(grant, part.memory_mib, there[index].memory_mib) for index, part in grant.devices.items()
    ]
    if all(most):
        env["GPUMAX_LIMIT"] = str(min(most) * MIB)
    mounts = tuple(Mount(str(layer / name), f"{INSIDE}/{name}") for name in LAYER if (layer / name).is_file())
    if mounts:
        env["LD_PRELOAD"] = ":".join(mount.container for mount in mounts)
    if held is not None:
        env |= {
            "GPUMAX_SOCKET": f"{SOCKETS}/{held.socket.name}",
            "GPUMAX_LIMIT": str(held.limit),
            "GPUMAX_GROUP": held.name,
        }
        env |= {"GPUMAX_SWAP": "1"} if held.swap else {}
        env |= {"GPUMAX_CONTEXT": str(held.context)} if held.context else {}
        mounts += (Mount(str(held.socket.parent), SOCKETS),)
    return Container(env, mounts)


def _most_mib(grant: Grant, given_mib: int, whole_mib: int) -> int:
    """How much of a device's memory may be used; 0 where that isn't known."""
    if grant.limit is None:
        return given_mib
    return max(given_mib, grant.limit.memory_mib, whole_mib * grant.limit.milli // MILLI)
