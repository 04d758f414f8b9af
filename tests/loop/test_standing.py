"""`demote` and `fresh` in a cluster that keeps no account of what work has held."""

from __future__ import annotations

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from gpumax.loop.standing import Standing
from gpumax.loop.steer import Steering
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Workload
from gpumax.ports.clock import ManualClock
from gpumax.ports.cluster_fake import FakeCluster
from gpumax.ports.journal import MemoryJournal

HOUR_MS = 3_600_000


def steps(*hours: float, fresh: str | None = None) -> Queue:
    """A queue that demotes after so many GPU hours."""
    return replace(queue("q", 8), demote=tuple(int(hour * 1000) for hour in hours), fresh=fresh)


def running(own: Queue, *others: Queue) -> Snapshot:
    """b holds two GPUs since now."""
    drawn = Sketch("n1: bb......").with_queues(own, *others)
    return drawn.run("b", queue="q", started=30 * MINUTE_MS, priority=50).snapshot()


def later(snapshot: Snapshot, ms: int, **changes: object) -> Snapshot:
    """The same so much later; changes: of the workload."""
    rows = snapshot.workloads
    if changes:
        rows = tuple(replace(row, **changes) for row in rows)
    return replace(snapshot, now_ms=NOW_MS + ms, workloads=rows)


def place(standing: Standing, snapshot: Snapshot) -> tuple[str, int]:
    """Queue and priority of b."""
    (row,) = standing.add_to(snapshot).workloads
    return row.queue, row.priority


def test_with_each_step_that_was_held_the_priority_falls_by_one() -> None:
    """Two GPUs reach one GPU hour in half of one, four in two; and it is known when."""
    standing, first = Standing(), running(steps(1, 4))
    assert place(standing, first) == ("q", 50)
    assert standing.next_ms == NOW_MS + HOUR_MS // 2
    assert place(standing, later(first, HOUR_MS // 2 - 1)) == ("q", 50)
    assert place(standing, later(first, HOUR_MS // 2)) == ("q", 49)
    assert standing.next_ms == NOW_MS + 2 * HOUR_MS
    assert place(standing, later(first, 2 * HOUR_MS)) == ("q", 48)
    assert standing.next_ms is None


def test_what_was_held_before_an_eviction_counts() -> None:
    """While it waits it holds nothing, and stands where it stood."""
    standing, first = Standing(), running(steps(1))
    place(standing, first)
    (row,) = first.workloads
    waits = tuple(replace(task, state="pending", node=None, devices=()) for task in row.tasks)
    gone = later(first, HOUR_MS // 4, tasks=waits, started_ms=None)
    assert place(standing, gone) == ("q", 50)
    assert standing.next_ms is None
    assert place(standing, later(gone, HOUR_MS)) == ("q", 50)
    back = later(first, HOUR_MS, started_ms=NOW_MS + HOUR_MS)
    assert place(standing, back) == ("q", 50)
    assert standing.next_ms == NOW_MS + HOUR_MS + HOUR_MS // 4


def test_at_first_sight_the_present_run_counts() -> None:
    """As after a start of the scheduler."""
    assert place(Standing(), later(running(steps(1)), HOUR_MS)) == ("q", 49)


def test_fresh_work_counts_in_the_queue_for_it() -> None:
    """Until its first step, and only where it may be evicted."""
    standing, first = Standing(), running(steps(1, fresh="new"), queue("new", 2))
    assert place(standing, first) == ("new", 50)
    assert place(standing, later(first, HOUR_MS)) == ("q", 49)
    assert place(Standing(), later(first, 0, preemptible=False)) == ("q", 50)


def test_where_no_queue_demotes_everything_stays_the_same_object() -> None:
    """And when one ceases to, everything is as it was."""
    plain = running(queue("q", 8))
    assert Standing().add_to(plain) is plain
    standing = Standing()
    assert place(standing, later(running(steps(1)), HOUR_MS)) == ("q", 49)
    assert standing.add_to(plain) is plain
    assert standing.next_ms is None


def test_rows_about_which_nothing_is_to_be_said_stay_the_same() -> None:
    """Of other queues."""
    drawn = Sketch("n1: bbcc....").with_queues(steps(1), queue("r", 8))
    drawn.run("b", queue="q", started=30 * MINUTE_MS).run("c", queue="r", started=30 * MINUTE_MS)
    snapshot = drawn.snapshot()
    standing = Standing()
    standing.add_to(snapshot)
    found = standing.add_to(replace(snapshot, now_ms=NOW_MS + HOUR_MS))
    assert found.workloads[1] is snapshot.workloads[1]
    again = standing.add_to(replace(snapshot, now_ms=NOW_MS + HOUR_MS + 1))
    assert again.workloads is found.workloads


def test_work_that_has_held_much_makes_way_for_fresh_work() -> None:
    """In the loop, at the very moment: c of the same priority takes what b has held for an hour."""
    drawn = Sketch("n1: bb").with_queues(replace(steps(2), quota=queue("q", 2).quota))
    drawn.run("b", queue="q", started=30 * MINUTE_MS, priority=50).wait(
        "c", queue="q", tasks=2, min=2, priority=50
    )
    found = drawn.snapshot()
    cluster, clock = FakeCluster(found.nodes, found.queues, found.workloads), ManualClock(NOW_MS)
    steering = Steering(cluster, MemoryJournal(), clock)
    steering.cycle()
    assert _releasing(cluster.workloads["b"]) == 0
    clock.advance(HOUR_MS)
    steering.cycle()
    assert _releasing(cluster.workloads["b"]) == 2


def _releasing(row: Workload) -> int:
    return sum(task.state == "releasing" for task in row.tasks)
