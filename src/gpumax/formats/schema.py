"""JSON Schemas of the documents, from the shapes that read them."""

from __future__ import annotations

from typing import Any, Final

from gpumax.errors import NotFound
from gpumax.formats.decision import DECISION
from gpumax.formats.result import RESULT
from gpumax.formats.scenario import SCENARIO
from gpumax.formats.shape import Object, Schema
from gpumax.formats.snapshot import SNAPSHOT
from gpumax.formats.workload_shapes import FILE_QUEUE, FILE_WORKLOAD

_SHAPES: Final[dict[str, Object[Any]]] = {
    "snapshot": SNAPSHOT,
    "decision": DECISION,
    "workload": FILE_WORKLOAD,
    "queue": FILE_QUEUE,
    "result": RESULT,
    "scenario": SCENARIO,
}
NAMES: Final = tuple(_SHAPES)
"""The documents that have a schema."""


def schema(name: str) -> Schema:
    """The JSON Schema (draft 2020-12) of a document. NotFound for a name that isn't in NAMES."""
    shape = _SHAPES.get(name)
    if shape is None:
        raise NotFound(f"there is no schema {name!r}; there are {', '.join(NAMES)}")
    defs: dict[str, Schema] = {}
    root = shape.schema(defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://gpumax.dev/schema/v1/{name}.json",
        "title": f"gpumax {name}",
        **root,
        "$defs": dict(sorted(defs.items())),
    }
