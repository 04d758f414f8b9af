"""A queue becomes its object."""

from __future__ import annotations

from typing import Any, Final

from gpumax.formats.queues import dump_queue
from gpumax.model.queue import Queue

_CAMEL: Final = {"preempt_min_runtime": "preemptMinRuntime", "reclaim_min_runtime": "reclaimMinRuntime"}
FIELDS: Final = (
    "parent", "priority", "quota", "limit", "weight", "preempt_min_runtime", "reclaim_min_runtime", "demote", "fresh",
)  # fmt: skip
"""Settings that an object has fields for."""


def queue_body(queue: Queue) -> dict[str, Any]:
    """Metadata and spec. Amounts that are no whole numbers go as text, as the object's schema wants them."""
    fields = {name: value for name, value in dump_queue(queue).items() if name in FIELDS}
    spec = {_CAMEL.get(name, name): _plain(value) for name, value in fields.items()}
    return {"metadata": {"name": queue.name}, "spec": spec}


def replaced(queue: Queue) -> dict[str, Any]:
    """A merge patch that makes a queue's object what this one is: nothing stays of what it was before."""
    spec = queue_body(queue)["spec"]
    unset = dict.fromkeys(_CAMEL.get(name, name) for name in FIELDS)
    amounts = dict.fromkeys(("gpu", "cpu", "memory"))
    return {"spec": {**unset, **{k: {**amounts, **v} if isinstance(v, dict) else v for k, v in spec.items()}}}


def unhonoured(queue: Queue) -> list[str]:
    """Settings that an object has no fields for."""
    return [name for name in dump_queue(queue) if name not in FIELDS and name not in ("name", "created")]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(amount) for name, amount in value.items()}
    if isinstance(value, list):
        return [_plain(amount) for amount in value]
    return f"{value:g}" if isinstance(value, float) else value
