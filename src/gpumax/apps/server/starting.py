"""How a server is to be started, checked before anything is made."""

from __future__ import annotations

from gpumax.apps.server.doors import read_address
from gpumax.apps.server.node_name import checked
from gpumax.devices import open_devices


def check_options(*, devices: str | None, listen: str | None, name: str | None) -> None:
    """Refused for what `serve` couldn't do, on any data directory."""
    checked(name)
    if listen is not None:
        read_address(listen)
    if devices is not None:
        open_devices(devices)
