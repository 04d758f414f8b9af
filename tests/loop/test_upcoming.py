"""Time alone changes decisions; the loop knows when to look again."""

from __future__ import annotations

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from gpumax.loop.upcoming import Upcoming
from story import story


def test_the_end_of_a_minimum_runtime_is_waited_for() -> None:
    """Of reclaim and of preempt, whichever comes first; work began half an hour ago."""
    for one in (queue("q", 1, min_runtime_ms=40 * MINUTE_MS), queue("q", 1, preempt_ms=40 * MINUTE_MS)):
        sketch = Sketch("n1: b").with_queues(one).run("b", "q").wait("A", "q", priority=75)
        assert Upcoming().next_ms(sketch.snapshot()) == NOW_MS + 10 * MINUTE_MS


def test_the_end_of_a_grace_is_waited_for() -> None:
    """Though nobody waits: the gang itself goes then."""
    sketch = Sketch("n1: b").with_queues(queue("q", 1)).run("b", "q", min=2)
    sketch.change("b", stale_since_ms=NOW_MS - 20_000)
    assert Upcoming().next_ms(sketch.snapshot()) == NOW_MS + 40_000


def test_what_is_over_is_not_waited_for() -> None:
    """Protections that ended change nothing any more; nor do any where nobody waits."""
    sketch = Sketch("n1: b").with_queues(queue("q", 1, preempt_ms=20 * MINUTE_MS)).run("b", "q")
    assert Upcoming().next_ms(sketch.snapshot()) is None
    assert Upcoming().next_ms(sketch.wait("A", "q", priority=75).snapshot()) is None


def test_what_follows_the_rows_says_what_a_look_at_all_of_them_says() -> None:
    """From snapshot to snapshot of stories in which work comes, starts, ends and waits, with every kind of protection."""
    found = set()
    for seed in range(8):
        upcoming = Upcoming()
        for snapshot in story(seed):
            protected = tuple(replace(one, reclaim_min_runtime_ms=40 * MINUTE_MS) for one in snapshot.queues)
            patient = replace(snapshot.policy, stale_grace_ms=2 * NOW_MS)
            for now in (snapshot, replace(snapshot, queues=protected), replace(snapshot, policy=patient)):
                found.add(upcoming.next_ms(now))
                assert upcoming.next_ms(now) == Upcoming().next_ms(now)
    assert len(found) > 8
