"""Timing and printing that all figures share: medians beside the extremes, the machine beside the numbers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from msgspec.structs import replace

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import decide

P = ParamSpec("P")
T = TypeVar("T")

HEAD: Final = ("figure", "goal", "min", "median", "p95", "max", "n", "meets the goal")


@dataclass(frozen=True)
class Figure:
    """One measured number, in `unit`; goal: the bound on `judged` ("median", "p95" or "max"), None for a number beside others."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    judged: str = "median"

    def row(self) -> tuple[str, ...]:
        """As the table shows it."""
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        tail = percentile(self.values, 95) if len(self.values) >= 20 else None
        if self.judged == "max":
            judged = high
        else:
            judged = tail if self.judged == "p95" and tail is not None else middle
        met = "" if self.goal is None else "yes" if judged < self.goal else "no"
        goal = "" if self.goal is None else f"{self.judged} < {self.goal:g} {self.unit}"
        numbers = (
            f"{value:.3g} {self.unit}" if value is not None else "" for value in (low, middle, tail, high)
        )
        return (self.name, goal, *numbers, str(len(self.values)), met)


@dataclass(frozen=True)
class Skipped:
    """A figure that was not measured, and why."""

    name: str
    why: str

    def row(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (self.name, f"not measured: {self.why}", "", "", "", "", "", "")


Row = Figure | Skipped


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least so many percent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def decide_anew(snapshot: Snapshot) -> Decision:
    """The decision, nothing being known from the one before: that is remembered by the tuple of nodes, and this one is new."""
    return decide(replace(snapshot, nodes=(*snapshot.nodes,)))


def seconds(work: Callable[[], object], repeat: int, *, warm: int = 1) -> tuple[float, ...]:
    """Wall time of each of `repeat` runs, in seconds, after `warm` runs that don't count."""
    times = []
    for number in range(warm + repeat):
        gc.collect()
        start = time.perf_counter()
        work()
        if number >= warm:
            times.append(time.perf_counter() - start)
    return tuple(times)


def apart(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a process of its own, which nothing that was measured before has slowed down."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


def machine() -> str:
    """What it was measured on, and when."""
    model = platform.processor() or "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}; {when}; load {load:.1f}"


def show(rows: Sequence[Row]) -> None:
    """Print a table, and what it was measured on."""
    lines = [HEAD, *(row.row() for row in rows)]
    widths = [
        max(len(line[column]) for line in lines if "not measured" not in line[1])
        for column in range(len(HEAD))
    ]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\n{machine()}")
