"""Who is next: each test names the first difference that decides."""

from __future__ import annotations

from board import Sketch, check, queue
from gpumax.model.names import natural
from gpumax.model.workload import Task
from gpumax.policy.decide import decide


def test_a_queue_over_its_share_comes_after_one_that_is_not() -> None:
    sketch = Sketch("n1: aaa.").with_queues(queue("a", 1, priority=200), queue("b", 3)).run("a", "a")
    check(sketch.wait("A", "a").wait("B", "b"), "n1: aaaB", held="A")


def test_a_queue_that_stays_within_quota_comes_first() -> None:
    sketch = Sketch("n1: .").with_queues(queue("a", 0, priority=200), queue("b", 1))
    check(sketch.wait("A", "a").wait("B", "b"), "n1: B", held="A")


def test_then_higher_queue_priority() -> None:
    sketch = Sketch("n1: .").with_queues(queue("a", 1), queue("b", 1, priority=200))
    check(sketch.wait("A", "a").wait("B", "b"), "n1: B", held="A")


def test_then_the_smaller_dominant_part() -> None:
    sketch = Sketch("n1: aabb.").with_queues(queue("a", 3), queue("b", 4)).run("a", "a").run("b", "b")
    check(sketch.wait("A", "a").wait("B", "b"), "n1: aabbB", held="A")


def test_then_the_older_queue_then_the_name() -> None:
    sketch = Sketch("n1: .").with_queues(queue("a", 1, created=5), queue("b", 1, created=3))
    check(sketch.wait("A", "a").wait("B", "b"), "n1: B", held="A")
    sketch = Sketch("n1: .").with_queues(queue("a", 1), queue("b", 1))
    check(sketch.wait("A", "a").wait("B", "b"), "n1: A", held="B")


def test_queues_take_turns_by_what_they_hold() -> None:
    sketch = Sketch("n1: ....").with_queues(queue("a", 2), queue("b", 2))
    for number, letter in enumerate("ACE"):
        sketch.wait(letter, "a", submitted=number)
    for number, letter in enumerate("BDF"):
        sketch.wait(letter, "b", submitted=10 + number)
    check(sketch, "n1: ABCD", held="EF")


def test_a_parent_is_compared_by_the_head_of_its_best_child() -> None:
    queues = (queue("x", 1), queue("y", 1), queue("a", 0, parent="x"), queue("c", 1, parent="x", priority=1), queue("b", 1, parent="y", created=9))  # fmt: skip
    sketch = Sketch("n1: .").with_queues(*queues)
    check(sketch.wait("A", "a", gpu=2).wait("B", "b").wait("C", "c"), "n1: C", held="AB")


def test_inside_a_queue_priority_then_age_then_name() -> None:
    sketch = Sketch("n1: ..").with_queues(queue("q", 9))
    sketch.wait("A", "q", submitted=1).wait("B", "q", submitted=0).wait("C", "q", submitted=5, priority=60)
    check(sketch, "n1: CB", held="A")


def test_below_minimum_comes_before_extras_of_older_work() -> None:
    sketch = Sketch("n1: aa.").with_queues(queue("q", 9)).run("a", "q").wait("a", "q", tasks=1, min=1)
    check(sketch.wait("B", "q", submitted=99), "n1: aaB", held="a")


def test_a_workload_that_does_not_fit_does_not_stop_the_next() -> None:
    sketch = Sketch("n1: .").with_queues(queue("q", 9))
    check(sketch.wait("A", "q", gpu=2).wait("B", "q", submitted=9), "n1: B", held="A")


def test_inside_a_gang_task_priority_then_numbers_in_names_as_numbers() -> None:
    sketch = Sketch("n1: ..").with_queues(queue("q", 9)).wait("A", "q", tasks=11, min=1)
    tasks = [Task(name=task.name, request=task.request) for task in sketch.workloads["A"].tasks]
    tasks[10] = Task(name="A-10", priority=5, request=tasks[0].request)
    sketch.change("A", tasks=tuple(tasks))
    assert [place.task for place in decide(sketch.snapshot()).places] == ["A-10", "A-0"]
    assert natural("w-2") < natural("w-10") < natural("w-10a")
