"""No devices at all."""

from __future__ import annotations

from gpumax.model.node import Device


class NoDevices:
    """A machine without devices; why: in words, for its user."""

    virtual = False

    def __init__(self, why: str) -> None:
        self._why = why

    def read(self) -> tuple[Device, ...]:
        """Nothing."""
        return ()

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that shows no device. KeyError for any index."""
        for index in indexes:
            raise KeyError(index)
        return {"CUDA_VISIBLE_DEVICES": ""}

    def uuids(self) -> dict[int, str]:
        """No driver knows any."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Why there are none."""
        return (self._why,)
