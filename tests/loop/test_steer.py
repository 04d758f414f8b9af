"""The loop around a cluster that keeps its own record."""

from __future__ import annotations

import logging
from threading import Thread

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from engine_kit import eventually
from gpumax.loop.journal import JournalError
from gpumax.loop.pulse import Pulse
from gpumax.loop.remembered import Remembered
from gpumax.loop.steer import Steering, rest_s
from gpumax.model.decision import Decision, Place
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import DeviceShare, Group
from gpumax.ports.clock import ManualClock
from gpumax.ports.cluster_fake import FakeCluster
from gpumax.ports.journal import MemoryJournal


class Stage:
    """A cluster as it is drawn, and who steers it."""

    def __init__(self, sketch: Sketch, **options: object) -> None:
        drawn = sketch.snapshot()
        self.cluster = FakeCluster(drawn.nodes, drawn.queues, drawn.workloads)
        self.clock = ManualClock(NOW_MS)
        self.journal = MemoryJournal()
        self.steering = Steering(self.cluster, self.journal, self.clock, **options)  # type: ignore[arg-type]

    def cycle(self) -> Decision:
        """One cycle, and what it had carried out; an empty decision where it had nothing to."""
        before = len(self.cluster.carried)
        self.steering.cycle()
        return self.cluster.carried[-1] if len(self.cluster.carried) > before else Decision()

    def states(self) -> dict[str, str]:
        """Of all tasks."""
        return {task.name: task.state for row in self.cluster.workloads.values() for task in row.tasks}


def sketch() -> Sketch:
    """b fills a node beyond its quota while a has none of its own."""
    drawn = Sketch("n1: bbbbbbbb")
    drawn.queues += [queue("a", 4), queue("b", 4)]
    drawn.run("b", queue="b", min=1)
    return drawn


def test_what_has_room_is_bound_and_then_nothing_is_decided_until_something_changes() -> None:
    """A cycle that sees what the last one saw decides nothing."""
    drawn = Sketch("n1: ........")
    drawn.queues.append(queue("a", 8))
    drawn.wait("x", queue="a", tasks=2)
    stage = Stage(drawn)
    assert len(stage.cycle().places) == 2
    stage.cycle()  # sees them bound
    decided = stage.steering.status["decisions"]
    stage.clock.advance(1000)
    stage.cycle()
    assert stage.steering.status["decisions"] == decided
    assert len(stage.journal.entries) == decided


def test_room_that_was_freed_for_somebody_is_promised_to_them() -> None:
    """Those who left for them wait, too, and don't take it."""
    drawn = sketch()
    drawn.wait("x", queue="a", tasks=4)
    stage = Stage(drawn)
    assert len(stage.cycle().evictions) == 4
    stage.cluster.leave()
    found = stage.cycle()
    assert {place.task for place in found.places} == {"x-0", "x-1", "x-2", "x-3"}
    assert found.evictions == ()


def test_what_is_remembered_of_a_row_makes_it_another_only_when_it_changes() -> None:
    """Since when a gang is below its minimum, through whatever else comes and goes; and whose room was promised."""
    drawn = Sketch("n1: b").with_queues(queue("a", 1)).run("b", "a", min=2).wait("x", "a").wait("y", "a")
    remembered, first = Remembered(), drawn.snapshot()
    rows = {row.name: row for row in remembered.add_to(first, {"x": frozenset(("x-0",))}).workloads}
    assert (rows["b"].stale_since_ms, rows["x"].tasks[0].promised) == (NOW_MS, True)
    assert rows["y"] in first.workloads
    fewer = replace(first, now_ms=NOW_MS + 1, workloads=first.workloads[:2])
    found = remembered.add_to(fewer, {"x": frozenset(("x-0",))}).workloads
    assert [one is rows[one.name] for one in found] == [True, True]
    assert remembered.add_to(fewer, {}).workloads[1] is first.workloads[1]
    whole = replace(first.workloads[0], groups=(Group("", 1),))
    healed = replace(fewer, workloads=(whole, *fewer.workloads[1:]))
    assert remembered.add_to(healed, {}) is healed


def test_changes_that_nobody_waits_for_are_gathered() -> None:
    """One cycle sees all of them, at the latest a moment later; whoever waits ends that at once."""
    stage = Stage(Sketch("n1: .").with_queues(queue("a", 1)))
    stage.cluster.pressing = False
    loop = Thread(target=stage.steering.run)
    loop.start()
    try:
        for _ in range(99):
            stage.steering.wake()
        assert stage.steering.wait_past(stage.steering.wake(), 30)
        assert stage.steering.status["cycles"] < 99
        stage.cluster.pressing = True
        assert stage.steering.wait_past(stage.steering.wake(), 30)
    finally:
        stage.steering.stop()
        loop.join()


def test_only_long_cycles_are_followed_by_a_rest() -> None:
    """Of four times their time, and never a long one."""
    assert [rest_s(cycle_s) for cycle_s in (0.002, 0.02, 10.0)] == [0.0, 0.08, 0.5]


def test_a_pulse_gathers_wakes_until_it_is_enough() -> None:
    """It is asked at the beginning and at each wake, and nobody waits any longer when it is."""
    pulse, asked = Pulse(), list[None]()

    def enough() -> bool:
        asked.append(None)
        return len(asked) > 3

    waiting = Thread(target=pulse.gather, args=(60.0, enough))
    waiting.start()
    eventually(lambda: pulse.wake() and not waiting.is_alive(), "it is enough")
    waiting.join()
    assert len(asked) == 4


def test_what_could_not_be_done_is_asked_for_again() -> None:
    """The cluster refused: it is as it was, and so is the answer."""
    drawn = Sketch("n1: .")
    drawn.queues.append(queue("a", 1))
    drawn.wait("x", queue="a")
    stage = Stage(drawn)
    (name,) = stage.states()
    stage.cluster.refused.add(name)
    stage.cycle()
    assert stage.states() == {name: "pending"}
    stage.cluster.refused.clear()
    stage.cycle()
    assert stage.states() == {name: "bound"}


def test_a_gang_below_its_minimum_gives_everything_back_after_its_grace() -> None:
    """Counted from when it was first seen so; a gang that is whole again is forgotten."""
    drawn = Sketch("n1: bb......", policy=Policy(stale_grace_ms=MINUTE_MS))
    drawn.queues.append(queue("a", 8))
    drawn.run("b", queue="a")
    stage = Stage(drawn, policy=Policy(stale_grace_ms=MINUTE_MS))
    (whole,) = stage.cluster.workloads.values()
    first, second = whole.tasks
    broken = replace(whole, tasks=(first, replace(second, state="failed", node=None, devices=())))
    stage.cycle()
    for minutes, row, gone in (
        (0, broken, 0),
        (0.9, whole, 0),
        (0.5, broken, 0),
        (0.9, broken, 0),
        (0.2, broken, 1),
    ):
        stage.cluster.workloads[row.name] = row
        stage.clock.advance(int(minutes * MINUTE_MS))
        assert len(stage.cycle().evictions) == gone


def test_what_breaks_a_rule_is_not_carried_out() -> None:
    """It is counted, and the journal keeps it."""
    drawn = Sketch("n1: b")
    drawn.queues.append(queue("a", 1))
    drawn.run("b", queue="a")
    drawn.wait("x", queue="a")

    def wrong(snapshot: Snapshot) -> Decision:
        (task,) = (task for row in snapshot.workloads for task in row.tasks if task.state == "pending")
        return Decision(places=(Place(task.name, "n1", (DeviceShare(0, 1000),)),))

    stage = Stage(drawn, think=wrong)
    assert stage.cycle().places == ()
    assert stage.steering.status["rule_breaks"] > 0
    assert stage.journal.entries[0][1].places != ()
    assert stage.steering.last is not None
    assert stage.steering.last.violations != ()


def test_a_dry_run_decides_and_touches_nothing() -> None:
    """Beside another that steers."""
    drawn = sketch()
    drawn.wait("x", queue="a", tasks=4)
    stage = Stage(drawn, dry=True)
    stage.cycle()
    assert stage.cluster.carried == []
    assert len(stage.journal.entries) == 1
    assert stage.steering.last is not None
    assert len(stage.steering.last.decision.evictions) == 4


def test_a_cluster_that_can_not_be_read_is_told_once_and_asked_again() -> None:
    """The loop goes on when it can be."""
    drawn = Sketch("n1: .")
    drawn.queues.append(queue("a", 1))
    drawn.wait("x", queue="a")
    stage = Stage(drawn)
    look, fails = stage.cluster.snapshot, [OSError("no route"), OSError("no route")]

    def flaky(now_ms: int, policy: Policy) -> Snapshot:
        if fails:
            raise fails.pop()
        stage.steering.stop()
        return look(now_ms, policy)

    stage.cluster.snapshot = flaky  # type: ignore[method-assign]
    stage.steering.run()
    assert stage.steering.status["failures"] == 2
    assert stage.steering.trouble == ""
    assert "bound" in stage.states().values()


def test_a_journal_that_fails_stops_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk decisions go on and are carried out; when there is room again, they are written again, and that is said, too."""
    drawn = Sketch("n1: ....")
    drawn.queues.append(queue("a", 4))
    drawn.wait("x", queue="a", tasks=2)
    stage = Stage(drawn)
    write, wrote = (
        stage.journal.write,
        "the journal can't be written (no space left on device); decisions go on",
    )

    def full(snapshot: Snapshot, decision: Decision) -> None:
        raise JournalError(wrote)

    stage.journal.write = full  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "gpumax.loop"):
        assert len(stage.cycle().places) == 2
        stage.cycle()
        stage.cycle()
        assert stage.steering.status["unwritten"] == stage.steering.status["decisions"] == 2
        assert stage.steering.trouble == ""
        stage.journal.write = write  # type: ignore[method-assign]
        stage.cluster.workloads |= {
            row.name: row for row in drawn.wait("y", queue="a").snapshot().workloads if row.name == "y"
        }
        assert len(stage.cycle().places) == 1
    assert [row.getMessage() for row in caplog.records] == [wrote, "the journal is written again"]
    assert len(stage.journal.entries) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_after_a_restart_the_same_objects_give_the_same_decision(*, seen: bool) -> None:
    """Nothing of what is decided rests on memory alone, but for promises."""
    drawn = sketch()
    drawn.wait("x", queue="a", tasks=4)
    stage = Stage(drawn)
    if seen:
        stage.steering = Steering(stage.cluster, stage.journal, stage.clock)
    assert len(stage.cycle().evictions) == 4


def test_while_another_replica_steers_nothing_is_decided() -> None:
    """And when it is our turn, everything is looked at anew."""
    drawn = Sketch("n1: .")
    drawn.queues.append(queue("a", 1))
    drawn.wait("x", queue="a")
    stage = Stage(drawn)
    stage.cluster.ours = False
    stage.cycle()
    assert stage.steering.status["decisions"] == 0
    stage.cluster.ours = True
    assert len(stage.cycle().places) == 1
