"""Scenarios that would not come to an end: nodes that fail faster than work gets on, or so often that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gpumax.formats.scalars import write_duration
from gpumax.formats.shape import Wrong
from gpumax.model.node import Node
from gpumax.model.study import Failures, Saving
from gpumax.model.trace import Arrival

MOST_TRIES: Final = 12
"""Work that needs its nodes for so many times as long as they last between failures gets there once in e^12, 160,000, tries."""

MOST_FAILURES: Final = 5_000_000
"""More failures than these in one run are not played: each moves work, which is decided about."""


def endless(
    failures: Failures, saving: Saving, start_ms: int, nodes: Sequence[Node], arrivals: Sequence[Arrival]
) -> Iterator[Wrong]:
    """What is wrong with failures, for this work on these nodes."""
    if not nodes or not arrivals:
        return
    most = max(len(node.devices) for node in nodes) or 1
    need_ms, held, name = max(
        (
            (min(row.duration_ms, saving.every_ms) + saving.restart_ms + start_ms)
            * (on := -(-row.devices // most) or 1),
            on,
            row.name,
        )
        for row in arrivals
    )
    mtbf_ms = failures.node_mtbf_ms
    if need_ms > MOST_TRIES * mtbf_ms:
        where = "its node" if held == 1 else f"each of its {held} nodes"
        yield Wrong(
            ("node_mtbf",),
            f"{write_duration(mtbf_ms)}, though {name} needs {where} for {write_duration(need_ms // held)} before it has saved, and so never ends",
            f"at least {write_duration(_up(need_ms // MOST_TRIES))} on these nodes, or a shorter checkpoint.every",
        )
        return
    span_ms = max(row.submitted_ms + row.duration_ms for row in arrivals) - arrivals[0].submitted_ms
    count = len(nodes) * span_ms // (mtbf_ms + failures.node_mttr_ms)
    if count > MOST_FAILURES:
        yield Wrong(
            ("node_mtbf",),
            f"{write_duration(mtbf_ms)}: nodes would fail {count:,} times while the work lasts",
            f"at most {MOST_FAILURES:,} failures: at least {write_duration(_up(len(nodes) * span_ms // MOST_FAILURES))} on these nodes",
        )


def _up(ms: int) -> int:
    """In whole seconds, rounded up."""
    return (ms // 1000 + 1) * 1000
