"""Work that has had much makes way for work of its queue that has had little, where the queue says so."""

from __future__ import annotations

from pathlib import Path

from gpumax.loop.attained import ladders
from gpumax.model.queue import Queue
from gpumax.units import MILLI
from loop.kit import MINUTE_MS, Rig, machine, queue, spec

HOUR_MS = 60 * MINUTE_MS
ONE = (1 * MILLI, 10 * MILLI)
"""Steps at one and at ten GPU hours."""


def rig(path: Path, *queues: Queue, gpus: int = 2) -> Rig:
    """One machine and these queues."""
    return Rig(path, (machine("n1", gpus),), queues)


def stands(rig: Rig, name: str) -> tuple[str, int]:
    """The queue and the priority with which the last decision saw a workload."""
    seen = rig.loop.last
    assert seen is not None
    return next((row.queue, row.priority) for row in seen.snapshot.workloads if row.name == name)


def test_fresh_work_stops_work_that_has_had_much(tmp_path: Path) -> None:
    """Of the same queue and the same priority, which without the steps would not make way; and only then."""
    for steps, stopped in ((ONE, 1), (None, 0)):
        one = rig(tmp_path, queue("a", 2, demote=steps))
        one.submit(spec("long", "a", 2))
        one.settle()
        one.clock.advance(HOUR_MS)
        one.submit(spec("new", "a", 1))
        one.settle()
        assert one.record("long").evictions == stopped
        assert one.states("new") == (["running"] if stopped else ["pending"])


def test_work_of_the_same_step_stops_nobody(tmp_path: Path) -> None:
    """Two GPUs for 29 minutes are less than a GPU hour."""
    one = rig(tmp_path, queue("a", 2, demote=ONE))
    one.submit(spec("long", "a", 2))
    one.settle()
    one.clock.advance(29 * MINUTE_MS)
    one.submit(spec("new", "a", 1))
    one.settle()
    assert (one.states("new"), stands(one, "long")) == (["pending"], ("a", 50))


def test_the_moment_of_a_step_is_waited_for(tmp_path: Path) -> None:
    """The loop asks to be called when two GPUs have been held for half an hour, and decides otherwise then."""
    one = rig(tmp_path, queue("a", 2, demote=ONE))
    one.submit(spec("long", "a", 2), spec("new", "a", 1))
    one.settle()
    began_ms = one.tasks("long")[0].started_ms
    assert began_ms is not None
    assert one.loop.next_ms == began_ms + 30 * MINUTE_MS
    one.clock.advance(one.loop.next_ms - one.clock.now_ms())
    one.settle()
    assert one.states("new") == ["running"]


def test_what_earlier_runs_held_counts(tmp_path: Path) -> None:
    """Work that was stopped comes back with the priority that it had: else two could stop each other for ever."""
    one = rig(tmp_path, queue("a", 2, demote=ONE))
    one.submit(spec("long", "a", 2))
    one.settle()
    one.clock.advance(40 * MINUTE_MS)
    one.submit(spec("new", "a", 2))
    one.settle()
    assert (stands(one, "long"), stands(one, "new")) == (("a", 49), ("a", 50))
    one.clock.advance(20 * MINUTE_MS)
    one.settle()
    assert (one.states("long"), one.states("new")) == (["pending"], ["running"])


def test_every_step_costs_one_priority(tmp_path: Path) -> None:
    """And the last one is the last; with a higher priority of its own it stands higher after as many steps."""
    one = rig(tmp_path, queue("a", 2, demote=ONE))
    one.submit(spec("long", "a", 1), spec("dear", "a", 1, priority=60))
    one.settle()
    for hours, steps in ((1, 1), (9, 2), (90, 2)):
        one.clock.advance(hours * HOUR_MS)
        one.settle()
        assert (stands(one, "long"), stands(one, "dear")) == (("a", 50 - steps), ("a", 60 - steps))
    assert one.loop.next_ms is None


def test_fresh_work_counts_in_the_queue_for_it(tmp_path: Path) -> None:
    """It takes back what others hold above their shares there, and from the first step on it counts in its own queue."""
    one = rig(tmp_path, queue("f", 2, priority=200), queue("a", 1, demote=ONE, fresh="f"), queue("b", 1))
    one.submit(spec("theirs", "b", 1), spec("more", "b", 1))
    one.settle()
    one.submit(spec("new", "a", 1), spec("other", "a", 1))
    one.settle()
    assert (one.states("new"), one.states("other")) == (["running"], ["running"])
    assert stands(one, "new") == ("f", 50)
    one.clock.advance(HOUR_MS)
    one.settle()
    assert stands(one, "new") == ("a", 49)


def test_work_that_may_not_be_stopped_is_never_elsewhere(tmp_path: Path) -> None:
    """It has to fit the quota of its own queue for as long as it runs."""
    one = rig(tmp_path, queue("f", 2), queue("a", 1, demote=ONE, fresh="f"))
    one.submit(spec("kept", "a", 1, preemptible=False))
    one.settle()
    assert stands(one, "kept") == ("a", 50)


def test_steps_are_the_parents_unless_set() -> None:
    """So is the queue for fresh work; an empty list of steps is a setting, too."""
    tree = (
        queue("p", demote=ONE, fresh="f"),
        queue("a", parent="p"),
        queue("b", parent="p", demote=()),
        queue("c", parent="a", fresh="a"),
        queue("f"),
    )
    found = ladders(tree)
    assert sorted(found) == ["a", "c", "p"]
    assert found["a"] == found["p"]
    # A queue that has queues below it takes no work, so nobody is sent there.
    assert (found["a"].fresh, found["c"].fresh) == ("f", None)


def test_steps_that_change_hold_at_once(tmp_path: Path) -> None:
    """Also for work that runs already."""
    one = rig(tmp_path, queue("a", 2))
    one.submit(spec("long", "a", 2))
    one.settle()
    one.clock.advance(HOUR_MS)
    one.store.set_queue(queue("a", 2, demote=ONE), now_ms=one.clock.now_ms())
    one.settle()
    assert stands(one, "long") == ("a", 49)
