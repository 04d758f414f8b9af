"""A queue becomes its object."""

from __future__ import annotations

from typing import Any, Final

from gpumax.formats.queues import dump_queue
from gpumax.model.queue import Queue

_CAMEL: Final = {"preempt_min_runtime": "preemptMinRuntime", "reclaim_min_runtime": "reclaimMinRuntime"}
HONOURED: Final = frozenset(
    ("parent", "priority", "quota", "limit", "weight", "preempt_min_runtime", "reclaim_min_runtime")
)
"""Settings that an object has fields for."""


def queue_body(queue: Queue) -> dict[str, Any]:
    """Metadata and spec. Amounts that are no whole numbers go as text, as the object's schema wants them."""
    fields = {name: value for name, value in dump_queue(queue).items() if name in HONOURED}
    spec = {_CAMEL.get(name, name): _plain(value) for name, value in fields.items()}
    return {"metadata": {"name": queue.name}, "spec": spec}


def unhonoured(queue: Queue) -> list[str]:
    """Settings that an object has no fields for."""
    return [name for name in dump_queue(queue) if name not in HONOURED and name not in ("name", "created")]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(amount) for name, amount in value.items()}
    return f"{value:g}" if isinstance(value, float) else value
