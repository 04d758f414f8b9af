"""Waiting for others to leave: who waits for whom, and who need not wait."""

from __future__ import annotations

from msgspec.structs import replace

from board import Sketch, check, gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.workload import DeviceAsk, Request, Task
from gpumax.policy.decide import decide


def one_queue(nodes: str) -> Sketch:
    return Sketch(nodes).with_queues(queue("q", 64))


def afters(sketch: Sketch) -> dict[str, tuple[str, ...]]:
    return {place.task: place.after for place in decide(sketch.snapshot()).places}


def request(sketch: Sketch, letter: str, *requests: Request) -> None:
    """Give the tasks of a workload these requests."""
    rows = sketch.workloads[letter].tasks
    tasks = tuple(
        Task(row.name, row.group, row.state, row.node, row.devices, request=wish)
        for row, wish in zip(rows, requests, strict=True)
    )
    sketch.change(letter, tasks=tasks)


def test_an_extra_that_waits_does_not_keep_the_minimum_waiting() -> None:
    """Only places of the minimum bind the whole gang."""
    sketch = one_queue("n1: b..").run("b", "q", state_="releasing").wait("A", "q", tasks=3, min=2)
    assert afters(sketch) == {"A-0": (), "A-1": (), "A-2": ("b-0",)}


def test_where_the_minimum_waits_extras_carry_the_union() -> None:
    """A gang starts whole, and its extras with it."""
    sketch = one_queue("n1: bc.").run("b", "q", state_="releasing").run("c", "q", state_="releasing")
    sketch.wait("A", "q", tasks=3, min=2)
    assert set(afters(sketch).values()) == {("b-0", "c-0")}


def test_an_extra_of_running_work_waits_alone() -> None:
    """The minimum runs already; each extra has its own wait."""
    sketch = (
        one_queue("n1: ab.").run("a", "q").run("b", "q", state_="releasing").wait("a", "q", tasks=2, min=1)
    )
    assert afters(sketch) == {"a-1": (), "a-2": ("b-0",)}


def test_a_second_choice_that_is_free_beats_waiting_for_the_first() -> None:
    """Free room comes first, whichever of the alternatives it serves."""
    sketch = one_queue("n1: b\nn2: .").run("b", "q", state_="releasing").wait("A", "q")
    nodes = {"n1": "H100", "n2": "A100"}
    snapshot = sketch.snapshot()
    for node, model in nodes.items():
        row = next(row for row in snapshot.nodes if row.name == node)
        device = row.devices[0]
        sketch.node(node, devices=(type(device)(0, model, device.memory_mib),))
    request(sketch, "A", Request(gpu=(DeviceAsk(1, model="H100"), DeviceAsk(1, model="A100"))))
    check(sketch, "n1: .\nn2: A")


def test_two_places_that_wait_on_a_node_wait_for_enough_to_fit_together() -> None:
    """When all that a place names have left, it fits beside everyone who waited for no more."""
    sketch = one_queue("n1:").node("n1", cpu_milli=8000, memory_mib=100)
    sketch.wait("b", "q").wait("c", "q").wait("A", "q", submitted=1).wait("D", "q", submitted=2)
    for letter in "bc":
        row = Task(f"{letter}-0", state="releasing", node="n1", request=Request(cpu_milli=4000))
        sketch.change(letter, tasks=(row,))
    for letter in "AD":
        request(sketch, letter, Request(cpu_milli=4000))
    assert afters(sketch) == {"A-0": ("b-0",), "D-0": ("b-0", "c-0")}


def test_a_place_waits_for_enough_beside_whoever_starts_at_once_on_its_node() -> None:
    """One core is free, b and c leave one each; A asks for two, and D, who comes after it, starts on the free one."""
    sketch = one_queue("n1:").node("n1", cpu_milli=3000, memory_mib=100)
    sketch.wait("b", "q").wait("c", "q").wait("A", "q", submitted=1).wait("D", "q", submitted=2)
    for letter in "bc":
        row = Task(f"{letter}-0", state="releasing", node="n1", request=Request(cpu_milli=1000))
        sketch.change(letter, tasks=(row,))
    request(sketch, "A", Request(cpu_milli=2000))
    request(sketch, "D", Request(cpu_milli=1000))
    assert afters(sketch) == {"A-0": ("b-0", "c-0"), "D-0": ()}
    assert verify(sketch.snapshot(), decide(sketch.snapshot())) == ()


def test_nobody_waits_for_tasks_whose_room_is_not_needed() -> None:
    """Of those who leave a node only those on the devices that are taken are named."""
    sketch = (
        one_queue("n1: bc").run("b", "q", state_="releasing").run("c", "q", state_="releasing").wait("A", "q")
    )
    assert afters(sketch) == {"A-0": ("b-0",)}


def test_room_that_a_reclaimed_gang_leaves_over_is_given_out() -> None:
    """A gang goes whole; whoever fits in the rest of its room is placed after it in the same decision."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 2), queue("b", 1), queue("c", 0)).run("b", "b")
    sketch.wait("A", "a", gpu=2).wait("C", "c")
    check(sketch, "n1: AAC.", evicted=4)
    assert afters(sketch)["C-0"] == ("b-2",)


def test_memory_and_fraction_waits_name_the_sharers() -> None:
    """A whole GPU waits for everybody who shares it and leaves."""
    sketch = one_queue("n1: [b5c5]").run("b", "q", state_="releasing").run("c", "q", state_="releasing")
    sketch.wait("A", "q")
    assert afters(sketch) == {"A-0": ("b-0", "c-0")}
    request(sketch, "A", gpus(0.3))
    assert afters(sketch) == {"A-0": ("b-0", "c-0")}


def test_what_was_promised_is_kept_though_others_are_ahead() -> None:
    """Room that one is leaving for A goes to A, not to B, who is older and of a queue further below its share."""
    sketch = Sketch("n1: b").with_queues(queue("p", 1), queue("q", 0)).run("b", "q", state_="releasing")
    sketch.wait("A", "q", submitted=5).wait("B", "p")
    assert afters(sketch) == {"B-0": ("b-0",)}
    sketch.change("A", tasks=tuple(replace(task, promised=True) for task in sketch.workloads["A"].tasks))
    assert afters(sketch) == {"A-0": ("b-0",)}


def test_a_promise_is_no_more_than_its_tasks() -> None:
    """One extra was promised what is leaving; the others of its gang wait their turn."""
    sketch = Sketch("n1: aabc").with_queues(queue("p", 2), queue("q", 2)).run("a", "q", min=2)
    sketch.run("b", "q", state_="releasing").run("c", "q", state_="releasing")
    sketch.wait("a", "q", tasks=2, min=2).wait("B", "p")
    first, *rest = [task for task in sketch.workloads["a"].tasks if task.state == "pending"]
    running = [task for task in sketch.workloads["a"].tasks if task.state == "running"]
    sketch.change("a", tasks=(*running, replace(first, promised=True), *rest))
    assert afters(sketch).keys() == {first.name, "B-0"}
