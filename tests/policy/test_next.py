"""Who is next, one step of the order at a time: all steps before it are ties, and all steps after it say otherwise."""

from __future__ import annotations

from msgspec.structs import replace

from board import Sketch, check, gpus, queue
from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.model.workload import DeviceAsk, Group, Request, Task
from gpumax.units import UNLIMITED


def over_in_cores(cores: int) -> Sketch:
    """a holds two cores of its one, and asks for a GPU and so many millicores; b asks for a GPU beyond its quota."""
    narrow = Queue("a", None, 200, quota=Amounts(4000, 1000, UNLIMITED), weight=Amounts(1000, 0, 1000))
    sketch = Sketch("n1: a.").with_queues(narrow, queue("b", 0)).run("a", "a").wait("A", "a").wait("B", "b")
    (running,), (waiting,) = sketch.workloads["a"].tasks, sketch.workloads["A"].tasks
    sketch.change("a", tasks=(replace(running, request=Request(gpu=(DeviceAsk(1),), cpu_milli=2000)),))
    return sketch.change(
        "A", tasks=(replace(waiting, request=Request(gpu=(DeviceAsk(1),), cpu_milli=cores)),)
    )


def test_a_queue_over_its_share_in_cores_comes_later_where_its_head_asks_for_cores() -> None:
    """Though its queue has the higher priority, and the other is beyond its quota."""
    check(over_in_cores(1000), "n1: aB", held="A")


def test_a_queue_over_its_share_in_what_its_head_does_not_ask_for_is_not_over() -> None:
    """No core is asked for: cores don't count."""
    check(over_in_cores(0), "n1: aA", held="B")


def test_a_quota_that_was_cut_counts_as_written_where_queues_are_compared() -> None:
    """a's share is cut to 2 GPUs; its third is within its quota of 4, and so before a queue of higher priority beyond its own."""
    queues = (queue("a", 4), queue("b", 0, priority=200), queue("c", 4))
    sketch = Sketch("n1: aac.").with_queues(*queues).run("a", "a").run("c", "c")
    check(sketch.wait("A", "a").wait("B", "b").wait("C", "c", gpu=3), "n1: aacA", held="BC")


def test_a_queue_without_any_share_comes_last_in_its_priority() -> None:
    """b is beyond its quota, too, and holds most; but it has a share."""
    queues = (queue("a", 0, weight=0), queue("b", 1))
    sketch = Sketch("n1: bbb.").with_queues(*queues).run("b", "b")
    check(sketch.wait("A", "a").wait("B", "b"), "n1: bbbB", held="A")


def test_the_part_that_a_queue_would_hold_with_its_head_counts_first() -> None:
    """a holds a quarter and would hold all of its quota; b holds half and would hold three quarters."""
    sketch = Sketch("n1: abb...").with_queues(queue("a", 4), queue("b", 4)).run("a", "a").run("b", "b")
    check(sketch.wait("A", "a", gpu=3).wait("B", "b"), "n1: abbB..", held="A")


def test_then_the_part_that_it_holds_without_its_head() -> None:
    """Both would hold three quarters; b holds less now."""
    sketch = Sketch("n1: aab..").with_queues(queue("a", 4), queue("b", 4)).run("a", "a").run("b", "b")
    check(sketch.wait("A", "a").wait("B", "b", gpu=2), "n1: aabBB", held="A")


def test_a_part_is_one_of_the_share_where_that_is_above_the_quota() -> None:
    """a would hold all of its share of 2; b one and a half times its quota and share of 2."""
    queues = (queue("a", 1), queue("b", 2, weight=0))
    sketch = Sketch("n1: abb.").with_queues(*queues).run("a", "a").run("b", "b")
    check(sketch.wait("A", "a").wait("B", "b"), "n1: abbA", held="B")


def test_a_part_is_one_of_the_limit_where_that_is_lower() -> None:
    """One GPU is half of what a may hold, and a quarter of what b may."""
    sketch = Sketch("n1: .").with_queues(queue("a", 4, limit=2), queue("b", 4))
    check(sketch.wait("A", "a").wait("B", "b"), "n1: B", held="A")


def test_of_equal_parts_the_smaller_share_comes_first() -> None:
    """Half of 4 and half of 2."""
    sketch = Sketch("n1: ..").with_queues(queue("a", 4), queue("b", 2))
    check(sketch.wait("A", "a", gpu=2).wait("B", "b"), "n1: B.", held="A")


def test_a_parent_counts_with_what_the_head_of_its_best_child_asks() -> None:
    """x would hold half of its quota with c's head, all of it with a's; y all of it with b's. y is the older."""
    queues = (queue("x", 2, created=5), queue("y", 2), queue("a", 2, parent="x"),
              queue("c", 2, parent="x", priority=200), queue("b", 2, parent="y"))  # fmt: skip
    sketch = Sketch("n1: ..").with_queues(*queues).wait("A", "a", gpu=2).wait("B", "b", gpu=2)
    check(sketch.wait("C", "c"), "n1: C.", held="AB")


def test_work_at_its_minimum_grows_before_work_above_it() -> None:
    """b is older, but has an extra already."""
    sketch = Sketch("n1: abb.").with_queues(queue("q", 9)).run("a", "q", min=1).run("b", "q", min=1)
    sketch.wait("a", "q", min=1, submitted=9).wait("b", "q", min=1)
    check(sketch, "n1: abba", held="b")


def test_of_equal_work_the_earlier_name_comes_first() -> None:
    """Same priority, same age."""
    check(Sketch("n1: .").with_queues(queue("q", 9)).wait("B", "q").wait("A", "q"), "n1: A", held="B")


def test_a_group_short_of_its_minimum_comes_before_extras_of_another() -> None:
    """x has its one; y has none yet, though x's second has the higher priority."""
    sketch = Sketch("n1: a.").with_queues(queue("q", 9)).run("a", "q", groups=(Group("x", 1), Group("y", 1)))
    (running,) = sketch.workloads["a"].tasks
    rows = (
        replace(running, group="x"),
        Task("a-1", "x", priority=9, request=gpus(1)),
        Task("a-2", "y", request=gpus(1)),
    )
    decision = check(sketch.change("a", tasks=rows), "n1: aa")
    assert [place.task for place in decision.places] == ["a-2"]


def test_numbers_in_names_of_tasks_are_read_as_numbers() -> None:
    """The ninth starts before the tenth."""
    sketch = Sketch("n1: .").with_queues(queue("q", 9)).wait("A", "q", tasks=2, min=1)
    sketch.change("A", tasks=tuple(Task(name, request=gpus(1)) for name in ("A-10", "A-9")))
    assert [place.task for place in check(sketch, "n1: A").places] == ["A-9"]


def test_the_extra_of_lower_priority_goes_first() -> None:
    """The reverse of the order in which tasks of a gang start."""
    sketch = Sketch("n1: bbb").with_queues(queue("a", 1), queue("b", 0, weight=0)).run("b", "b", min=1)
    rows = sketch.workloads["b"].tasks
    sketch.change("b", tasks=(*rows[:2], replace(rows[2], priority=5)))
    decision = check(sketch.wait("A", "a"), "n1: bAb", evicted=1)
    assert [eviction.task for eviction in decision.evictions] == ["b-1"]
