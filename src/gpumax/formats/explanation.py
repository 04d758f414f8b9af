"""Explanations as documents: what `decide --explain` and the API say beside the sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpumax.formats.scalars import write_time
from gpumax.model.amounts import RESOURCES, Resource
from gpumax.model.explanation import Derived, Explanation, Need, Tried
from gpumax.model.workload import Document

Write = Callable[[Resource, int], Any]
"""An amount as the document carries it."""


def dump_facts(found: Explanation, write: Write) -> Document:
    """`since`, `derived`, `tried` and `needs` of an explanation."""
    return {
        "since": _moment(found.started_ms),
        "derived": [_derived(step, write) for step in found.derived],
        "tried": [_tried(row, write) for row in found.tried],
        "needs": [_need(need, write) for need in found.needs],
    }


def _derived(step: Derived, write: Write) -> Document:
    amounts = ("share", "quota", "limit", "demand", "total", "guaranteed", "left")
    return {
        "queue": step.queue,
        "resource": step.resource,
        "parent": step.parent,
        "rule": step.rule,
        **{name: write(step.resource, getattr(step, name)) for name in amounts},
    }


def _tried(row: Tried, write: Write) -> Document:
    held: dict[str, int] = {
        name: amount for name, amount in zip(RESOURCES, row.held.vector(), strict=True) if amount
    }
    return {
        "pass": row.pass_,
        "reason": row.reason,
        "message": row.message,
        "queue": row.queue or None,
        "held": _amounts(held, write),
        "until": _moment(row.until_ms),
    }


def _need(need: Need, write: Write) -> Document:
    return {
        "change": need.change,
        "message": need.message,
        "nodes": {name: _amounts(more, write) for name, more in need.nodes.items()},
        "queues": {name: _amounts(more, write) for name, more in need.queues.items()},
        "at": _moment(need.at_ms),
    }


def _amounts(amounts: Mapping[str, int], write: Write) -> Document:
    known: dict[str, Resource] = {name: name for name in RESOURCES}
    return {name: write(known[name], amount) if name in known else amount for name, amount in amounts.items()}


def _moment(ms: int | None) -> str | None:
    return None if ms is None else write_time(ms)
