"""What is written down of a run made into its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gpumax.model.queue import Queue
from gpumax.model.study import Arrived, Effort, Moved, QueueRun, Run, Series, Spread, Use
from gpumax.study.replay.books import Books, Tale
from gpumax.study.replay.players import Stage
from gpumax.study.replay.wanted import Wanted
from gpumax.units import MILLI

HOUR_MS = 3_600_000


def quantile(ordered: Sequence[int], percent: int) -> int:
    """The nearest rank: the smallest of the values that at least so many percent of all do not exceed. 0 where there are none."""
    if not ordered:
        return 0
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def jain(parts: Sequence[float]) -> float:
    """Jain's index: (sum x)^2 / (n sum x^2); 1 where all are equal, 1/n where one has all. 1 where there is nobody."""
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 1.0


def spread(values_ms: Iterable[int]) -> Spread:
    """A distribution, in seconds."""
    ordered = sorted(values_ms)
    if not ordered:
        return Spread()
    mean = sum(ordered) / len(ordered) / 1000
    p50, p90, p99 = (quantile(ordered, percent) / 1000 for percent in (50, 90, 99))
    return Spread(mean, p50, p90, p99, ordered[-1] / 1000)


class Owed(msgspec.Struct, frozen=True):
    """One queue's side of fairness, in milli-device-milliseconds of the window.

    demand: as if every workload had run from the moment at which it came; due: what the queue is owed of that by its quota.
    """

    demand: int
    due: int
    served: int


def owed(books: Books, stage: Stage, came: Sequence[tuple[Wanted, str]]) -> dict[str, Owed]:
    """For every queue that work came to."""
    end_ms = books.from_ms + books.window_ms
    demand = dict.fromkeys((queue.name for queue in stage.leaves), 0)
    for work, queue in came:
        left_ms = max(0, end_ms - work.arrival.submitted_ms)
        demand[queue] += work.milli * min(work.arrival.duration_ms, left_ms)
    quotas = {queue.name: queue.quota.gpu for queue in stage.leaves}
    return {
        name: Owed(wanted, min(wanted, quotas[name] * books.window_ms), books.by_queue[name].area)
        for name, wanted in demand.items()
    }


def measure(
    stage: Stage,
    policy: str,
    seed: int,
    came: Sequence[tuple[Wanted, str]],
    *,
    never: int,
    violations: int,
    rule_breaks: int,
    effort: Effort,
    finished: bool,
) -> Run:
    """The figures of a run that is over."""
    books = stage.books
    tales = list(books.tales.values())
    capacity = MILLI * sum(len(node.devices) for node in stage.scenario.nodes)
    whole = max(1, capacity * books.window_ms)
    sides = owed(books, stage, came)
    due = [side for side in sides.values() if side.due]
    ended = [tale.ended_ms for tale in tales if tale.ended_ms is not None]
    waits = sorted(tale.waited_ms for tale in tales)
    served = books.requested.whole
    lost = sum(tale.lost_ms * tale.work.milli for tale in tales)
    return Run(
        policy,
        seed,
        capacity // MILLI,
        Arrived(len(came) + never, _hours(work.milli * work.arrival.duration_ms for work, _ in came), never),
        Use(books.requested.area / whole, books.allocated.area * MILLI / whole),
        spread(waits),
        spread(tale.ended_ms - tale.work.arrival.submitted_ms for tale in tales if tale.ended_ms is not None),
        (max(ended) - books.from_ms) / 1000 if ended else 0.0,
        Moved(**{cause: books.evictions[cause] for cause in Moved.__struct_fields__}),
        lost / served if served else 0.0,
        jain([side.served / side.due for side in due]),
        violations,
        tuple(_queue_run(queue, tales, sides[queue.name], books) for queue in stage.leaves),
        waits_s=tuple(quantile(waits, percent) / 1000 for percent in range(101)) if waits else (),
        series=_series(books, capacity),
        finished=finished,
        window_s=books.window_ms / 1000,
        scheduler=effort,
        jain_due=jain([min(side.served, side.due) / side.due for side in due]),
        stuck=len(tales) - len(ended) if finished else 0,
        rule_breaks=rule_breaks,
    )


def _queue_run(queue: Queue, tales: Sequence[Tale], side: Owed, books: Books) -> QueueRun:
    mine = [tale for tale in tales if tale.queue == queue.name]
    waits = spread(tale.waited_ms for tale in mine)
    held = books.by_queue[queue.name].means(_steps(books))
    return QueueRun(
        queue.name,
        queue.quota.gpu / MILLI,
        _hours((side.demand,)),
        _hours((side.served,)),
        waits.p99,
        waits.mean,
        len(mine),
        sum(tale.evicted for tale in mine),
        tuple(milli / MILLI for milli in held),
    )


def _series(books: Books, capacity: int) -> Series:
    steps = _steps(books)
    return Series(
        books.step_ms / 1000,
        tuple(milli / max(1, capacity) for milli in books.requested.means(steps)),
        tuple(devices * MILLI / max(1, capacity) for devices in books.allocated.means(steps)),
        tuple(books.queued.means(steps)),
    )


def _steps(books: Books) -> int:
    """As far as anything was held or waited."""
    return max(len(curve.bins) for curve in (books.requested, books.allocated, books.queued))


def _hours(milli_ms: Iterable[int]) -> float:
    return sum(milli_ms) / MILLI / HOUR_MS
