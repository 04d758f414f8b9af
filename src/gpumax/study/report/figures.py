"""All figures of a study as rows and columns, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gpumax.model.study import Result, Run
from gpumax.study.report.evictions import total
from gpumax.study.report.groups import Group
from gpumax.study.report.words import count, duration, listed, percent


class Column(NamedTuple):
    """A figure of a run. part: it as a part of one, where a bar shows it."""

    title: str
    value: Callable[[Run], str]
    part: Callable[[Run], float] | None = None


class Table(NamedTuple):
    """Columns that belong together."""

    title: str
    about: str
    columns: tuple[Column, ...]


_WORK: Final = Table(
    "Work and use",
    "GPU hours are durations times GPUs asked for. At work: what was asked for and ran, as a part of all GPUs over the window, work that "
    "was done again included; held: GPUs of which anything was held.",
    (
        Column("GPUs", lambda run: count(run.gpus)),
        Column("workloads", lambda run: count(run.arrived.workloads)),
        Column("too large", lambda run: count(run.arrived.never)),
        Column("GPU hours", lambda run: count(run.arrived.gpu_hours)),
        Column("at work", lambda run: percent(run.use.requested)),
        Column("held", lambda run: percent(run.use.allocated)),
        Column("last end", lambda run: duration(run.makespan_s)),
    ),
)
_WAITS: Final = Table(
    "Waits",
    "All time in which not every task of a workload had room, after evictions, too.",
    (
        Column("mean", lambda run: duration(run.wait_s.mean)),
        Column("50 %", lambda run: duration(run.wait_s.p50)),
        Column("90 %", lambda run: duration(run.wait_s.p90)),
        Column("99 %", lambda run: duration(run.wait_s.p99)),
        Column("longest", lambda run: duration(run.wait_s.max)),
    ),
)
_COMPLETION: Final = Table(
    "Completion",
    "From submission to the end.",
    (
        Column("mean", lambda run: duration(run.completion_s.mean)),
        Column("50 %", lambda run: duration(run.completion_s.p50)),
        Column("90 %", lambda run: duration(run.completion_s.p90)),
        Column("99 %", lambda run: duration(run.completion_s.p99)),
        Column("longest", lambda run: duration(run.completion_s.max)),
    ),
)
_EVICTED: Final = Table(
    "Making way",
    "Tasks that were evicted, by cause, or taken along by a node that failed, and the part of the GPU time that went into work done before and into restarts.",
    (
        Column("reclaim", lambda run: count(run.evictions.reclaim)),
        Column("preempt", lambda run: count(run.evictions.preempt)),
        Column("consolidate", lambda run: count(run.evictions.consolidate)),
        Column("stale", lambda run: count(run.evictions.stale)),
        Column("failure", lambda run: count(run.evictions.failure)),
        Column("lost", lambda run: percent(run.lost)),
    ),
)
_FAIRNESS: Final = Table(
    "Fairness and promises",
    "Jain: the index over what queues got of the smaller of demand and quota; 1 is equal. Of their due: the same, where what a queue got "
    "beyond that counts for nobody. Violations: moments at which a queue within its quota waited longer than it should while others ran "
    "over theirs. Broken rules: decisions that other code found to be against the policy. Stuck: workloads that never ended.",
    (
        Column("Jain", lambda run: f"{run.jain:.3f}"),
        Column("of their due", lambda run: f"{run.jain_due:.3f}"),
        Column("violations", lambda run: count(run.violations)),
        Column("broken rules", lambda run: count(run.rule_breaks)),
        Column("stuck", lambda run: count(run.stuck)),
    ),
)
_DECIDING: Final = Table(
    "Deciding",
    "On the machine of the study; the only figures that differ when it is made again.",
    (
        Column("cycles", lambda run: count(run.scheduler.cycles)),
        Column("in all", lambda run: duration(run.scheduler.seconds)),
        Column("slowest", lambda run: f"{run.scheduler.seconds_max * 1000:.0f}\u00a0ms"),
    ),
)


def _gone(run: Run) -> str:
    """Tasks that the policy evicted, those that failing nodes took apart, and the part of the time that both cost."""
    failed = run.evictions.failure
    if not total(run) and not failed and not run.lost:
        return "none"
    taken = f" and {count(failed)} by failures" if failed else ""
    return f"{count(total(run))}{taken}, {percent(run.lost)}"


GLANCE: Final = (
    Column("at work", lambda run: percent(run.use.requested), lambda run: run.use.requested),
    Column("mean wait", lambda run: duration(run.wait_s.mean)),
    Column("99 % wait at most", lambda run: duration(run.wait_s.p99)),
    Column("mean completion", lambda run: duration(run.completion_s.mean)),
    Column("evicted, lost", _gone),
    Column("Jain", lambda run: f"{run.jain:.3f}"),
)
"""What is looked at first."""


def again(found: Sequence[Group]) -> str:
    """What of the GPU time at work was spent on work that had been done before, in words; empty where nothing was."""
    each = [f"{percent(group.mean.lost)} under {group.label}" for group in found if group.mean.lost]
    return f"at work counts work that was done again and restarts, too: {listed(each)}" if each else ""


def tables(result: Result) -> tuple[Table, ...]:
    """All figures of a result."""
    if result.protocol == "inflate":
        return _inflated(result.runs)
    return (_WORK, _WAITS, _COMPLETION, _EVICTED, _FAIRNESS, _DECIDING)


def glance(result: Result) -> tuple[Column, ...]:
    """The figures that are looked at first."""
    if result.protocol == "inflate":
        allocated = _inflated(result.runs)[0].columns if result.runs else ()
        # Three stand side by side on a phone, too.
        firm = [column for column in allocated if column.title in ("at 90 %", "at 100 %", "at 130 %")]
        return tuple(firm) if len(firm) == 3 else allocated[-4:-1]
    return GLANCE


def _inflated(runs: Sequence[Run]) -> tuple[Table, ...]:
    """What was allocated, and what was left that nobody could use, by how much had arrived."""
    wanted = ("60", "80", "90", "95", "100", "110", "120", "130")
    keys = [key for key in wanted if any(key in run.allocation for run in runs)]
    if not keys:
        keys = sorted({key for run in runs for key in run.allocation}, key=int)[-4:]

    def column(key: str, field: str) -> Column:
        def part(run: Run) -> float:
            found: float = getattr(run, field).get(key, 0.0)
            return found

        return Column(f"at {key} %", lambda run: f"{part(run) * 100:.2f}\u00a0%", part)

    filled = Table(
        "Allocated",
        "The part of all GPUs, by how much has arrived; in the end so many workloads with GPUs had found a place.",
        (*(column(key, "allocation") for key in keys), Column("placed", lambda run: count(run.placed))),
    )
    left = [key for key in keys if any(key in run.fragments for run in runs)]
    if not left:
        return (filled, _DECIDING)
    about = "The part of all GPUs that typical work could not use, by how much has arrived."
    return (filled, Table("Fragments", about, tuple(column(key, "fragments") for key in left)), _DECIDING)
