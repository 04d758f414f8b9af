"""Where devices come from: the driver, or a wish."""

from __future__ import annotations

from typing import Protocol

from gpumax.model.node import Device


class Devices(Protocol):
    """The accelerators of this machine."""

    virtual: bool

    def read(self) -> tuple[Device, ...]:
        """The devices now, by index. A device that fails is there with healthy=False."""
        ...

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that shows a process these devices and no others."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What a user should know of them: that they are made up, or why there are none."""
        ...

    def uuids(self) -> dict[int, str]:
        """By index, how the driver names a device that it has. Made-up devices without a driver aren't among them."""
        ...
