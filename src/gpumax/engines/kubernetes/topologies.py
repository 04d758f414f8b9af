"""Topology objects: our own and KAI's name the levels alike, widest first."""

from __future__ import annotations

from gpumax.engines.kubernetes.documents import at, rows
from gpumax.engines.kubernetes.views import Document
from gpumax.formats.scalars import KEY, NAME
from gpumax.formats.shape import Bad
from gpumax.model.snapshot import Topology


def read_topology(document: Document) -> Topology | None:
    """The topology; None where its object says no levels that are labels. `spec.levels`: labels, or rows with `nodeLabel`."""
    levels = [
        at(row, "nodeLabel") if isinstance(row, dict) else row for row in rows(document, "spec", "levels")
    ]
    try:
        name = NAME.read(at(document, "metadata", "name"))
        read = tuple(KEY.read(level) for level in levels)
    except Bad:
        return None
    return Topology(name, read) if read and len(set(read)) == len(read) else None
