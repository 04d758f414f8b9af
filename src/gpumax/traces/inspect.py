"""What is in a trace: sizes, durations, tenants, the load that it would be, and what is odd about it, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from gpumax.model.trace import Arrival, BadRow, Trace
from gpumax.traces.oddities import oddities
from gpumax.units import MILLI

STEPS: Final = 240
"""Into how many steps the load over time is cut."""
_HOUR_MS: Final = 3_600_000.0

Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Load(msgspec.Struct, frozen=True):
    """GPUs in use if all work ran on arrival, over time from the first arrival to the last; tenant: empty for all of them."""

    tenant: str
    workloads: int
    gpu_hours: float
    mean: float
    p95: float
    p99: float
    max: float


class Size(msgspec.Struct, frozen=True):
    """Workloads of one size, and what they took. gpus: like `1` or `3-4`; `0` for none, `<1` for a part."""

    gpus: str
    workloads: int
    gpu_hours: float


class Times(msgspec.Struct, frozen=True):
    """Durations in seconds."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class Inspection(msgspec.Struct, frozen=True):
    """All of it. Moments in milliseconds since 1970. step_s: of `load_over_time`, which holds means of GPUs in use.

    says: what follows from the load; odd: what a reader should know before trusting it.
    """

    format: str
    rows: int
    workloads: int
    bad_rows: int
    first_ms: int = 0
    last_ms: int = 0
    duration_s: Times = Times()
    sizes: tuple[Size, ...] = ()
    pooled: Load | None = None
    tenants: tuple[Load, ...] = ()
    step_s: float = 0.0
    load_over_time: tuple[float, ...] = ()
    says: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    bad: tuple[BadRow, ...] = ()


def inspect(trace: Trace, format: str = "", window: tuple[int, int] | None = None) -> Inspection:
    """What is in a trace. format: what it was read as.

    window: first moment, and the first one after it; None: from the first arrival to the last. Work that came before it and still ran
    is part of the load, and of nothing else.
    """
    mine: Sequence[Arrival] = trace.arrivals
    if window is not None:
        mine = [one for one in mine if window[0] <= one.submitted_ms < window[1]]
    if not mine:
        odd = oddities(trace, (), 0.0)
        return Inspection(format, trace.rows, 0, trace.bad_rows, odd=tuple(odd), bad=trace.bad)
    columns = _Columns(trace.arrivals, window or (mine[0].submitted_ms, mine[-1].submitted_ms))
    pooled = columns.load("", None)
    names = sorted({one.queue for one in mine})
    tenants = [columns.load(name, name) for name in names] if len(names) > 1 else []
    step, over_time = columns.over_time()
    return Inspection(
        format, trace.rows, len(mine), trace.bad_rows, mine[0].submitted_ms, mine[-1].submitted_ms, _durations(mine), _sizes(mine),
        pooled, tuple(sorted(tenants, key=lambda load: (-load.gpu_hours, load.tenant))), step, over_time,
        tuple(_says(pooled, tenants)), tuple(oddities(trace, mine, pooled.gpu_hours)), trace.bad,
    )  # fmt: skip


class _Columns:
    """The arrivals as arrays: moments, ends and GPUs of each. window: what the load is looked at over."""

    def __init__(self, arrivals: tuple[Arrival, ...], window: tuple[int, int]) -> None:
        count = len(arrivals)
        self.submitted = np.fromiter((one.submitted_ms for one in arrivals), np.float64, count)
        self.duration = np.fromiter((one.duration_ms for one in arrivals), np.float64, count)
        self.gpus = np.fromiter((one.devices * one.milli for one in arrivals), np.float64, count) / MILLI
        numbers = {name: number for number, name in enumerate(sorted({one.queue for one in arrivals}))}
        self._numbers = numbers
        self._queue = np.fromiter((numbers[one.queue] for one in arrivals), np.int64, count)
        self.first, self.last = window
        self._inside = (self.submitted >= self.first) & (self.submitted <= self.last)

    def load(self, name: str, queue: str | None) -> Load:
        """The load of one tenant, or of all."""
        mine = slice(None) if queue is None else np.flatnonzero(self._queue == self._numbers[queue])
        submitted, duration, gpus = self.submitted[mine], self.duration[mine], self.gpus[mine]
        own = self._inside[mine]
        gpu_hours = float(np.dot(duration * own, gpus)) / _HOUR_MS
        times, levels = self._levels(submitted, duration, gpus)
        mean_of = float(np.dot(times, levels))
        order = np.argsort(levels)
        levels = levels[order]
        reached = np.cumsum(times[order])
        whole = float(reached[-1])
        del order, times

        def quantile(part: float) -> float:
            at = min(int(np.searchsorted(reached, part * whole)), len(levels) - 1)
            return round(float(levels[at]), 3)

        mean = mean_of / whole
        return Load(
            name, int(own.sum()), round(gpu_hours, 3), round(mean, 3),
            quantile(0.95), quantile(0.99), round(float(levels[-1]), 3),
        )  # fmt: skip

    def _levels(self, submitted: Numbers, duration: Numbers, gpus: Numbers) -> tuple[Numbers, Numbers]:
        """Spans between events from the first arrival to the last, and the GPUs in use in each."""
        # At equal moments those who leave come first: whoever follows takes their place.
        moments = np.concatenate((submitted + duration, submitted))
        changes = np.concatenate((-gpus, gpus))
        order = np.argsort(moments, kind="stable")
        moments, changes = moments[order], changes[order]
        # In place, because traces of millions of rows are large enough.
        del order
        np.clip(moments, self.first, self.last, out=moments)
        levels = np.concatenate(([0.0], np.cumsum(changes, out=changes)))
        del changes
        spans = np.diff(moments, prepend=float(self.first), append=float(self.last))
        del moments
        kept = spans > 0
        if not kept.any():
            # All at one moment: the most is what there is to say.
            return np.ones(1), np.array([float(gpus.sum())])
        return spans[kept], np.maximum(levels[kept], 0.0)

    def over_time(self) -> tuple[float, tuple[float, ...]]:
        """The length of a step in seconds, and the mean of GPUs in use in each."""
        if self.last == self.first:
            return 0.0, (float(self.gpus.sum()),)
        edges = np.linspace(self.first, self.last, STEPS + 1)
        # GPU time until an edge: of each workload what lies before it.
        until = self._until(self.submitted, edges) - self._until(self.submitted + self.duration, edges)
        step = (self.last - self.first) / STEPS
        means = np.diff(until) / step
        return step / 1000, tuple(round(max(0.0, float(mean)), 3) for mean in means)

    def _until(self, moments: Numbers, edges: Numbers) -> Numbers:
        """For each edge the sum of GPUs times the time since each moment that lies before it."""
        order = np.argsort(moments, kind="stable")
        gpus, sorted_moments = self.gpus[order], moments[order] - self.first
        counts = np.searchsorted(sorted_moments, edges - self.first, side="right")
        before = np.concatenate(([0.0], np.cumsum(gpus)))[counts]
        weighted = np.concatenate(([0.0], np.cumsum(gpus * sorted_moments)))[counts]
        found: Numbers = before * (edges - self.first) - weighted
        return found


def _durations(arrivals: Sequence[Arrival]) -> Times:
    """How long work runs."""
    seconds = np.fromiter((one.duration_ms for one in arrivals), np.float64, len(arrivals)) / 1000
    p50, p90, p99 = (round(float(value), 3) for value in np.quantile(seconds, (0.5, 0.9, 0.99)))
    return Times(round(float(seconds.mean()), 3), p50, p90, p99, float(seconds.max()))


def _sizes(arrivals: Iterable[Arrival]) -> tuple[Size, ...]:
    """By doublings, as requests come."""
    counts: Counter[int] = Counter()
    hours: Counter[int] = Counter()
    for one in arrivals:
        milli = one.devices * one.milli
        bucket = -2 if not milli else -1 if milli < MILLI else (-(-milli // MILLI) - 1).bit_length()
        counts[bucket] += 1
        hours[bucket] += milli * one.duration_ms
    return tuple(
        Size(_bucket(bucket), count, round(hours[bucket] / MILLI / _HOUR_MS, 3))
        for bucket, count in sorted(counts.items())
    )


def _bucket(bucket: int) -> str:
    if bucket < 2:
        return {-2: "0", -1: "<1", 0: "1", 1: "2"}[bucket]
    return f"{2 ** (bucket - 1) + 1}-{2**bucket}"


def _says(pooled: Load, tenants: list[Load]) -> Iterable[str]:
    """What the load means for a cluster's size."""
    if not pooled.max:
        return
    yield (
        f"If all of it ran on arrival, {_gpus(pooled.mean)} would be in use on average, {_number(pooled.p99)} or fewer in 99 % "
        f"of the time, {_number(pooled.max)} at most."
    )
    if len(tenants) < 2 or not pooled.p99:
        return
    for words, apart, together in (
        ("p99", sum(load.p99 for load in tenants), pooled.p99),
        ("the most", sum(load.max for load in tenants), pooled.max),
    ):
        yield (
            f"One pool at {words} needs {_gpus(together)}, used to {_part(pooled.mean / together)}; one partition a tenant, each at "
            f"{words} of its own, {_number(apart)}, used to {_part(pooled.mean / max(apart, 0.001))}: {apart / together:.1f} times as many."
        )


def _number(value: float) -> str:
    """GPUs as people count them."""
    return f"{value:,.0f}" if value >= 10 else f"{value:,.2f}".rstrip("0").rstrip(".")


def _gpus(value: float) -> str:
    return f"{_number(value)} GPU{'' if _number(value) == '1' else 's'}"


def _part(value: float) -> str:
    return f"{100 * value:.1f} %"
