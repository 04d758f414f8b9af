"""What is odd about a trace, in sentences: what a reader should know before trusting what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import groupby
from operator import attrgetter
from typing import Final

import numpy as np

from gpumax.formats.scalars import write_time
from gpumax.model.trace import Arrival, Trace
from gpumax.traces.names import renamed_in_words
from gpumax.units import MILLI, format_duration
from gpumax.words import plural

_HOUR_MS: Final = 3_600_000
_YEAR_MS: Final = 365 * 86_400_000
_OFTEN: Final = 0.05
"""From this part of all workloads on, equal durations are worth a word."""
_LEAST: Final = 20
"""From so many workloads on it is no accident."""


def dated(ms: int) -> bool:
    """Whether a moment is one of a calendar: traces that count from their beginning are shorter than ten years."""
    return ms >= 10 * _YEAR_MS


def oddities(trace: Trace, arrivals: Sequence[Arrival], gpu_hours: float) -> Iterator[str]:
    """One sentence each. arrivals: those of interest, and gpu_hours what they took."""
    yield from _of_rows(trace)
    yield from renamed_in_words(trace.renamed)
    if arrivals:
        yield from _of_times(arrivals)
        yield from _of_sizes(arrivals, gpu_hours)
    else:
        yield "No work is left."


def _of_rows(trace: Trace) -> Iterator[str]:
    if trace.bad_rows:
        first = trace.bad[0]
        place = f"line {first.row}" + (f", column {first.column}" if first.column else "")
        yield (
            f"{plural(trace.bad_rows, 'row')} of {trace.rows:,} could not be used; the first: {place}: found {first.found}; "
            f"wanted {first.wanted}."
        )
    for words, count in sorted(trace.notes.items()):
        yield f"{plural(count, 'row')} {words}."


def _of_times(arrivals: Sequence[Arrival]) -> Iterator[str]:
    if not dated(arrivals[0].submitted_ms):
        yield "Moments count from the beginning of the trace; it knows no dates."
    begin, gap = _longest_gap(arrivals)
    mean = (arrivals[-1].submitted_ms - arrivals[0].submitted_ms) / max(1, len(arrivals) - 1)
    if gap > 12 * _HOUR_MS and gap > 20 * mean:
        since = write_time(begin) if dated(begin) else format_duration(begin)
        yield f"Nothing came for {format_duration(gap)} from {since} on."
    if zero := sum(not one.duration_ms for one in arrivals):
        yield f"{plural(zero, 'workload')} ran for no time at all."
    # As an array, because a table of millions of durations would take more memory than the trace.
    lasting, counts = np.unique(
        np.fromiter((one.duration_ms for one in arrivals), np.int64), return_counts=True
    )
    often, count = int(lasting[counts.argmax()]), int(counts.max())
    if count >= max(_LEAST, _OFTEN * len(arrivals)) and often:
        yield f"{plural(count, 'workload')} ran for exactly {format_duration(often)}: perhaps a limit, not their end."
    last = arrivals[-1].submitted_ms
    whole = sum(one.duration_ms * one.devices * one.milli for one in arrivals)
    beyond = sum(
        min(over, one.duration_ms) * one.devices * one.milli
        for one in arrivals
        if (over := one.submitted_ms + one.duration_ms - last) > 0
    )
    if whole and beyond > 0.1 * whole:
        yield f"{100 * beyond / whole:.0f} % of the GPU hours lie behind the last arrival."


def _longest_gap(arrivals: Sequence[Arrival]) -> tuple[int, int]:
    """When the longest time without an arrival begins, and how long it is."""
    best, begin, before = 0, arrivals[0].submitted_ms, arrivals[0].submitted_ms
    for one in arrivals:
        if one.submitted_ms - before > best:
            best, begin = one.submitted_ms - before, before
        before = one.submitted_ms
    return begin, best


def _of_sizes(arrivals: Sequence[Arrival], gpu_hours: float) -> Iterator[str]:
    if idle := sum(not one.devices for one in arrivals):
        yield f"{plural(idle, 'workload')} of {len(arrivals):,} asked for no GPU."
    if parts := sum(one.devices > 0 and one.milli < MILLI for one in arrivals):
        yield f"{plural(parts, 'workload')} asked for a part of a GPU."
    twins = sum(map(_twins, (list(same) for _, same in groupby(arrivals, attrgetter("submitted_ms")))))
    if twins >= max(_LEAST, _OFTEN * len(arrivals)):
        yield f"{plural(twins, 'workload')} came with another of the same moment, tenant, size and duration."
    if not gpu_hours:
        return
    few = max(1, len(arrivals) // 100)
    largest = nlargest(few, (one.duration_ms * one.devices * one.milli for one in arrivals))
    part = sum(largest) / MILLI / _HOUR_MS / gpu_hours
    if len(arrivals) >= 100 and part > 0.25:
        yield f"The largest 1 % of the workloads make up {100 * part:.0f} % of the GPU hours."
    tenants: Counter[str] = Counter()
    for one in arrivals:
        tenants[one.queue] += one.duration_ms * one.devices * one.milli
    name, most = tenants.most_common(1)[0]
    if len(tenants) > 1 and most / MILLI / _HOUR_MS > 0.5 * gpu_hours:
        yield f"{name or 'Work of no tenant'} makes up {100 * most / MILLI / _HOUR_MS / gpu_hours:.0f} % of the GPU hours."
    if len(tenants) == 1 and not name:
        yield "It knows no tenants."


def _twins(same: list[Arrival]) -> int:
    """How many workloads of one moment are like another one of them."""
    return len(same) - len({(one.duration_ms, one.devices, one.queue, one.user) for one in same})
