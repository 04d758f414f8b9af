"""What a cluster is to achieve, as people write it: `smallest cluster with p99 wait < 2.5 h`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from gpumax.formats.shape import Bad, Wrong, show
from gpumax.model.study import Run
from gpumax.units import format_duration, parse_duration_ms

Statistic = Literal["mean", "p50", "p90", "p99", "max"]
Measure = Literal["wait", "completion"]

_FORM: Final = re.compile(
    r"(?:the )?smallest cluster (?:with|where) (?:an? |the )?(?P<statistic>\S+) (?P<measure>\S+?)(?: time)?(?: is)?"
    r" ?(?P<sign><=|<|≤|below|under|less than|at most) ?(?P<time>.+)",
    re.ASCII,
)
_STATISTICS: Final[dict[str, Statistic]] = {
    "mean": "mean", "average": "mean", "p50": "p50", "median": "p50", "p90": "p90", "p99": "p99", "max": "max", "longest": "max",
}  # fmt: skip
_PERCENT: Final = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
_MEASURES: Final[dict[str, Measure]] = {
    "wait": "wait", "waiting": "wait", "completion": "completion", "turnaround": "completion",
}  # fmt: skip
_AT_MOST: Final = frozenset(("<=", "≤", "at most"))
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?([a-z]+)", re.ASCII)
_UNITS: Final = {
    unit: short
    for short, units in {
        "s": "s sec secs second seconds", "m": "m min mins minute minutes", "h": "h hr hrs hour hours", "d": "d day days",
    }.items()
    for unit in units.split()
}  # fmt: skip
_WANTED: Final = (
    '"smallest cluster with MEASURE < TIME"; MEASURE is mean, p50, p90, p99 or max, of wait or completion; < or <=; TIME is like 2.5 h, '
    "90 min, 45 s or 1 d"
)


class Goal(msgspec.Struct, frozen=True):
    """A bound on one figure of a run. or_equal: whether the bound itself will do."""

    statistic: Statistic
    measure: Measure
    bound_ms: int
    or_equal: bool = False

    def value_s(self, run: Run) -> float:
        """The figure."""
        spread = run.wait_s if self.measure == "wait" else run.completion_s
        return float(getattr(spread, self.statistic))

    def met(self, run: Run) -> bool:
        """Whether the figure is within the bound."""
        value, bound = self.value_s(run), self.bound_ms / 1000
        return value <= bound if self.or_equal else value < bound

    @property
    def miss_ms(self) -> int:
        """A time by which the goal is missed by far: what ends up near it is worth knowing to the end."""
        return max(2 * self.bound_ms, 1)

    def far_missed(self, times_ms: Iterable[int], workloads: int) -> bool:
        """Whether times so far, which only grow, miss it by far, though all that is to come of so many workloads took no time."""
        if self.statistic == "mean":
            return sum(times_ms) >= self.miss_ms * workloads
        # By nearest rank, as they are measured.
        rank = max(1, -(-workloads * _PERCENT[self.statistic] // 100))
        return sum(time >= self.miss_ms for time in times_ms) > workloads - rank

    @property
    def figure(self) -> str:
        """What it is about."""
        return f"{self.statistic} {self.measure}"

    def __str__(self) -> str:
        return f"{self.figure} {'<=' if self.or_equal else '<'} {format_duration(self.bound_ms)}"


def read_goal(text: str) -> Goal:
    """What a person wrote. Bad, with all that is understood, for anything else."""
    match = _FORM.fullmatch(" ".join(text.lower().split()))
    if match is None:
        raise Bad([Wrong((), show(text), _WANTED)])
    wrongs = []
    statistic, measure = _STATISTICS.get(match["statistic"]), _MEASURES.get(match["measure"])
    if statistic is None:
        wrongs.append(Wrong((), show(match["statistic"]), "mean, p50, p90, p99 or max"))
    if measure is None:
        wrongs.append(Wrong((), show(match["measure"]), "wait or completion"))
    bound_ms = _time(match["time"])
    if bound_ms is None:
        wrongs.append(Wrong((), show(match["time"]), "a time like 2.5 h, 90 min, 45 s or 1 d"))
    if statistic is None or measure is None or bound_ms is None:
        raise Bad(wrongs)
    return Goal(statistic, measure, bound_ms, match["sign"] in _AT_MOST)


def _time(text: str) -> int | None:
    match = _TIME.fullmatch(text)
    if match is not None and match[2] in _UNITS:
        text = f"{match[1] if match[1][0] != '.' else f'0{match[1]}'}{_UNITS[match[2]]}"
    try:
        # A bare number would be seconds to a file, and anything to a reader.
        return parse_duration_ms(text) if text[-1:].isalpha() else None
    except ValueError:
        return None
