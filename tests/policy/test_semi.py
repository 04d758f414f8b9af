"""Semi-preemptible gangs: the minimum fits the quota and is safe, the extras may be over it and may go, the last first."""

from __future__ import annotations

from typing import Any

from board import MINUTE_MS, NOW_MS, Sketch, after, check, gpus, queue
from gpumax.loop.upcoming import Upcoming
from gpumax.loop.verify import verify
from gpumax.model.amounts import Amounts
from gpumax.model.workload import Group, Task
from gpumax.policy.decide import decide
from policy.test_explain import why

HOUR_MS = 60 * MINUTE_MS


def semi(nodes: str, quota: float = 2, **changes: Any) -> Sketch:
    """A semi-preemptible workload b that the picture shows, its minimum of two within the quota of its queue."""
    sketch = Sketch(nodes).with_queues(queue("q", quota), queue("a", 4), queue("c", 0))
    return sketch.run("b", "q", **{"min": 2, "preemptible": "semi", **changes})


def sound(sketch: Sketch) -> Sketch:
    """The sketch, when nothing speaks against what is decided on it."""
    snapshot = sketch.snapshot()
    assert not verify(snapshot, decide(snapshot))
    return sketch


# Placing


def test_the_minimum_must_fit_the_quota() -> None:
    """Two of three GPUs of quota hold other safe work: a minimum of two waits, though the node has room."""
    sketch = Sketch("n1: bb......").with_queues(queue("q", 3)).run("b", "q", preemptible=False)
    decision = check(sketch.wait("A", "q", tasks=2, preemptible="semi"), "n1: bb......", held="A")
    assert decision.holds[0].code == "OverQuotaNonPreemptible"
    assert decision.holds[0].short == {"gpu": 1000}
    check(sound(sketch.change("A", groups=(Group("", 1),))), "n1: bbAA....")


def test_the_minimum_must_fit_every_quota_above() -> None:
    """Its own queue allows two, the one above only one."""
    sketch = Sketch("n1: ....").with_queues(queue("top", 1), queue("q", 2, parent="top"))
    check(sketch.wait("A", "q", tasks=3, min=2, preemptible="semi"), "n1: ....", held="A")


def test_extras_may_be_over_quota() -> None:
    """Two GPUs of quota, a minimum of two, and all five tasks run."""
    sketch = Sketch("n1: ......").with_queues(queue("q", 2))
    check(sound(sketch.wait("A", "q", tasks=5, min=2, preemptible="semi")), "n1: AAAAA.")


def test_extras_do_not_use_up_the_quota_for_safe_work() -> None:
    """Of b's four GPUs two count: one GPU of three is left for c, which is non-preemptible."""
    sketch = semi("n1: bbbb.", quota=3)
    check(sound(sketch.wait("C", "q", priority=100)), "n1: bbbbC")
    check(semi("n1: bbbb.", quota=2).wait("C", "q", priority=100), "n1: bbbb.", held="C")


def test_each_group_has_a_minimum_that_is_safe() -> None:
    """One leader and two workers count against the quota of three; the third worker is an extra."""
    groups = (Group("lead", 1), Group("work", 2))
    tasks = (
        Task("A-0", "lead", request=gpus(1)),
        *(Task(f"A-{n}", "work", request=gpus(1)) for n in (1, 2, 3)),
    )
    sketch = Sketch("n1: ....").with_queues(queue("q", 3)).wait("A", "q", tasks=4, preemptible="semi")
    sketch.change("A", groups=groups, tasks=tasks)
    check(sound(sketch), "n1: AAAA")
    check(sketch.with_queues(queue("q", 2)), "n1: ....", held="A")


def test_who_comes_back_to_a_gang_at_its_minimum_comes_as_an_extra() -> None:
    """b-0 is back to wait: two still run and are the minimum now, so it comes as an extra, over quota."""
    sketch = semi("n1: bb..").wait("b", "q", tasks=1, min=2, preemptible="semi")
    check(sound(sketch), "n1: bbb.")
    tasks = sketch.workloads["b"].tasks
    first = Task("b-0", "", "pending", request=gpus(1))
    late = tuple(
        Task(f"b-{n + 1}", "", "running", "n1", task.devices, request=gpus(1))
        for n, task in enumerate(tasks[:2])
    )
    check(sound(sketch.change("b", tasks=(first, *late))), "n1: bbb.")


def test_a_larger_task_does_not_slip_into_the_minimum_over_quota() -> None:
    """b-0 comes before the running ones in the order of its gang, and asks for more: it would be safe, beyond the quota."""
    sketch = semi("n1: bb..").wait("b", "q", tasks=1, min=2, preemptible="semi")
    tasks = sketch.workloads["b"].tasks
    late = tuple(
        Task(f"b-{n + 1}", "", "running", "n1", task.devices, request=gpus(1))
        for n, task in enumerate(tasks[:2])
    )
    sketch.change("b", tasks=(Task("b-0", "", "pending", request=gpus(2)), *late))
    check(sketch, "n1: bb..", held="b")
    check(sound(sketch.with_queues(queue("q", 4))), "n1: bbbb")


def test_a_task_that_is_done_leaves_a_place_in_the_minimum() -> None:
    """One of two has succeeded: the next to start is safe, and has to fit the quota."""
    sketch = semi("n1: b...", quota=1).wait("b", "q", tasks=2, min=2, preemptible="semi")
    done, waiting = sketch.workloads["b"].tasks[1:]
    tasks = (sketch.workloads["b"].tasks[0], Task(done.name, state="succeeded", request=gpus(1)), waiting)
    check(sketch.change("b", tasks=tasks), "n1: b...", held="b")
    check(sound(sketch.with_queues(queue("q", 2))), "n1: bb..")


# Losing


def test_reclaim_takes_extras_the_last_first_and_never_the_minimum() -> None:
    """a may have four; b's queue has no quota at all, and two of b stay all the same."""
    sketch = semi("n1: bbbbb", quota=0).wait("A", "a", tasks=4, min=1)
    decision = check(sound(sketch), "n1: bbAAA", evicted=3)
    assert [row.task for row in decision.evictions] == ["b-4", "b-3", "b-2"]


def test_a_gang_that_needs_the_minimum_too_takes_nobody() -> None:
    """Four are asked for together, three could go: nobody goes in vain."""
    check(semi("n1: bbbbb", quota=0).wait("A", "a", tasks=4), "n1: bbbbb", held="A", evicted=0)


def test_preempt_takes_extras_alone() -> None:
    """Whatever the priority."""
    sketch = semi("n1: bbbb", priority=10).wait("A", "q", tasks=3, min=1, priority=90)
    check(sound(sketch), "n1: bbAA", evicted=2)
    check(semi("n1: bb", priority=10).wait("A", "q", priority=90), "n1: bb", held="A", evicted=0)


def test_extras_move_the_minimum_does_not() -> None:
    """n2 is emptied of an extra; n1 could be as well, of the minimum alone."""
    sketch = semi("n1: bb.\nn2: b..", quota=8).wait("A", "q", gpu=3)
    check(sound(sketch), "n1: bbb\nn2: AAA", evicted=1)
    check(semi("n1: b.\nn2: b.", quota=8).wait("A", "q", gpu=2), "n1: b.\nn2: b.", held="A", evicted=0)


def test_its_minimum_takes_back_its_quota_from_others() -> None:
    """As any work within its share; then extras, as far as the share goes."""
    sketch = Sketch("n1: cccc").with_queues(queue("q", 3), queue("c", 1)).run("c", "c", min=1)
    check(sound(sketch.wait("A", "q", tasks=4, min=2, preemptible="semi")), "n1: cAAA", evicted=3)


def test_below_its_minimum_for_too_long_it_gives_everything_back() -> None:
    """The stale pass is the one that may."""
    sketch = semi("n1: bb..", min=3).change("b", stale_since_ms=NOW_MS - 2 * MINUTE_MS)
    check(sound(sketch), "n1: ....", evicted=2)


# Time and words


def test_room_is_kept_for_a_minimum_within_the_quota_of_then() -> None:
    """b ends in half an hour and leaves the quota for two that G needs; x, safe for longer than that, would take it."""
    sketch = Sketch("n1: bbc.").with_queues(queue("q", 2), queue("c", 0))
    sketch.run("b", "q", max_duration_ms=HOUR_MS, min=1, preemptible="semi").run(
        "c", "c", max_duration_ms=HOUR_MS
    )
    sketch.wait("G", "q", tasks=4, min=2, gpu=2, preemptible="semi", submitted=-HOUR_MS).change(
        "G", groups=(Group("", 1),)
    )
    sketch.wait("x", "q", preemptible="semi", priority=40)
    decision = decide(sketch.snapshot(), ["allocate"])
    assert [(hold.workload, hold.code) for hold in decision.holds] == [
        ("G", "OverQuotaNonPreemptible"), ("x", "Reserved"),
    ]  # fmt: skip


def test_of_the_quota_that_is_kept_each_minimum_takes_its_part() -> None:
    """G will need three of four, so x gets the last one and y none. If G is preemptible, it needs none of them."""
    for may_go, picture, held in (("semi", "n1: bbcx.", "Gy"), (True, "n1: bbcxy", "G")):
        sketch = Sketch("n1: bbc..").with_queues(queue("q", 4), queue("c", 1))
        sketch.run("b", "q", max_duration_ms=HOUR_MS, min=1, preemptible="semi")
        sketch.run("c", "c", max_duration_ms=HOUR_MS)
        sketch.wait("G", "q", gpu=3, submitted=-HOUR_MS, preemptible=may_go)
        for late in "xy":
            sketch.wait(late, "q", priority=40, preemptible="semi")
        decision = decide(sketch.snapshot(), ["allocate"])
        assert after(sketch.snapshot(), decision) == picture
        assert "".join(hold.workload for hold in decision.holds) == held


def test_the_start_of_safe_work_is_forecast_by_the_minimum_that_ends_first() -> None:
    """Of a quota of four a minimum holds three for half an hour; b has one GPU more, which is none of it. C needs two, and
    E, behind C, needs what C's minimum leaves when it ends an hour later."""
    sketch = Sketch("n1: bbbb....").with_queues(queue("q", 4))
    sketch.run("b", "q", min=3, preemptible="semi", max_duration_ms=HOUR_MS)
    sketch.wait("C", "q", tasks=3, min=2, preemptible="semi", max_duration_ms=HOUR_MS)
    sketch.wait("E", "q", tasks=3, preemptible="semi", priority=40)
    holds = check(sound(sketch), "n1: bbbb....", held="CE").holds
    assert [(hold.forecast_ms or 0) - NOW_MS for hold in holds] == [30 * MINUTE_MS, 90 * MINUTE_MS]


def test_nothing_is_awaited_of_its_minimum_runtime() -> None:
    """The minimum never goes and extras are not protected: no moment changes anything."""
    sketch = Sketch("n1: bbb").with_queues(queue("q", 4, preempt_ms=HOUR_MS), queue("a", 0))
    sketch.run("b", "q", min=2).wait("A", "a")
    assert Upcoming().next_ms(sketch.snapshot()) == NOW_MS + 30 * MINUTE_MS
    assert Upcoming().next_ms(sketch.change("b", preemptible="semi").snapshot()) is None


def test_why_tells_the_minimum_from_the_extras() -> None:
    """Of c's queue nothing may go; of q's work the two extras may, which is not enough."""
    sketch = Sketch("n1: bbbb\nn2: cc").with_queues(queue("a", 4), queue("q", 0), queue("c", 0))
    sketch.run("b", "q", min=2, preemptible="semi").run("c", "c", preemptible="semi").wait("A", "a", gpu=4)
    found = why(sketch)
    assert {(row.queue, row.reason, row.held) for row in found.tried} == {
        ("q", "not_enough", Amounts(4000, 0, 0)), ("c", "non_preemptible", Amounts(2000, 0, 0)),
    }  # fmt: skip
    short = Sketch("n1: ....").with_queues(queue("q", 1)).wait("A", "q", tasks=2, preemptible="semi")
    assert [need.message for need in why(short).needs] == ["with the quota of q raised by 1 GPU"]
