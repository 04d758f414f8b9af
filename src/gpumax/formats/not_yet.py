"""What this version reads but does not honour. It is refused in words, never ignored.

To honour a field: take its row away here, and pass the field on where its shape is built.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from gpumax.formats.shape import Schema, Shape, wrong

T = TypeVar("T")

NOT_YET: Final = {
    "topology": "topology constraints in workload files",
    "slices": "hardware slices (MIG) in workload files",
    "pools": "options of a pool other than placement",
}
"""By name: what a set field would ask for."""


def _asks_for_nothing(meant: object) -> bool:
    """Unset, empty, or made of nothing else."""
    if isinstance(meant, dict):
        return all(map(_asks_for_nothing, meant.values()))
    return meant is None or meant == ()


class NotYet(Generic[T]):
    """Reads like `shape`, then refuses what it read, unless that is empty or `unless`."""

    def __init__(self, name: str, shape: Shape[T], *, unless: T | None = None) -> None:
        self._what = NOT_YET[name]
        self._shape = shape
        self._unless = unless

    def read(self, value: object) -> T:
        """What the shape makes of it, where that asks for nothing."""
        meant = self._shape.read(value)
        if _asks_for_nothing(meant) or meant == self._unless:
            return meant
        raise wrong(value, f"nothing here yet: this version does not honour {self._what}")

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """The shape's, with a word of warning."""
        return {"description": f"This version does not honour {self._what}.", **self._shape.schema(defs)}
