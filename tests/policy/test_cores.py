"""Cores, memory and other resources of nodes: given, taken back and preempted like GPUs. All nodes here have four cores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import Sketch, queue
from gpumax.model.amounts import Amounts
from gpumax.model.decision import Decision
from gpumax.model.node import Taint
from gpumax.model.queue import Queue
from gpumax.model.workload import DeviceAsk, Group, Request, Task
from gpumax.policy.decide import decide
from gpumax.units import UNLIMITED

pytestmark = pytest.mark.usefixtures("both_searches")

CORE = Request(cpu_milli=1000, memory_mib=1000)


def owner(name: str, cores: int, **changes: object) -> Queue:
    """A queue measured in cores, with a GiB-like thousand of MiB for each; nothing beyond its quota."""
    amounts = Amounts(UNLIMITED, cores * 1000, cores * 1000)
    return replace(Queue(name, quota=amounts, weight=Amounts(1000, 0, 0)), **changes)


def cluster(nodes: int, *queues: Queue) -> Sketch:
    """Nodes of four cores and 4000 MiB, without GPUs."""
    sketch = Sketch("\n".join(f"n{number}:" for number in range(1, nodes + 1))).with_queues(*queues)
    for number in range(1, nodes + 1):
        sketch.node(f"n{number}", cpu_milli=4000, memory_mib=4000)
    return sketch


def runs(sketch: Sketch, name: str, of: str, nodes: str, request: Request = CORE, **changes: object) -> None:
    """A workload of one task on each of these nodes, each by itself unless min says otherwise."""
    least = changes.pop("min", 1)
    assert isinstance(least, int)
    sketch.wait(name, of, tasks=0, gpu=0)
    rows = tuple(
        Task(f"{name}-{rank}", state="running", node=node, request=request)
        for rank, node in enumerate(nodes.split())
    )
    sketch.change(
        name, tasks=rows, groups=(Group("", least),), started_ms=sketch.snapshot().now_ms - 1000, **changes
    )


def asks(sketch: Sketch, name: str, of: str, request: Request, tasks: int = 1, **changes: object) -> Decision:
    """Decide with a workload that waits."""
    sketch.wait(name, of, tasks=tasks, request=request, **changes)  # type: ignore[arg-type]
    return decide(sketch.snapshot())


def gone(decision: Decision) -> list[str]:
    """Who has to go."""
    return [eviction.task for eviction in decision.evictions]


def test_cores_are_taken_back_and_no_more_than_are_needed() -> None:
    """b holds all four and owns two; a owns two and asks for both at once."""
    sketch = cluster(1, owner("a", 2), owner("b", 2))
    runs(sketch, "b", "b", "n1 n1 n1 n1")
    decision = asks(sketch, "A", "a", replace(CORE, cpu_milli=2000, memory_mib=0))
    assert gone(decision) == ["b-3", "b-2"]
    assert [place.after for place in decision.places] == [("b-2", "b-3")]


def test_memory_is_taken_back_like_cores() -> None:
    """Three thousand MiB are more than a owns, two are not."""
    for memory, victims in ((3000, []), (2000, ["b-3", "b-2"])):
        sketch = cluster(1, owner("a", 2), owner("b", 2))
        runs(sketch, "b", "b", "n1 n1 n1 n1")
        assert gone(asks(sketch, "A", "a", Request(memory_mib=memory))) == victims


def test_cores_are_taken_back_where_many_hold_them() -> None:
    """More tasks than are searched exactly."""
    sketch = cluster(40, owner("a", 2), owner("b", 158))
    runs(sketch, "b", "b", " ".join(f"n{number}" for number in range(1, 41) for _ in range(4)))
    assert gone(asks(sketch, "A", "a", Request(cpu_milli=2000))) == ["b-159", "b-158"]


def test_whoever_frees_nothing_that_is_short_stays() -> None:
    """c holds memory alone, and less would be lost with it; cores are short."""
    sketch = cluster(1, owner("a", 2), owner("b", 0))
    runs(sketch, "b", "b", "n1 n1 n1 n1", Request(cpu_milli=1000))
    runs(sketch, "c", "b", "n1", Request(memory_mib=1000), priority=10)
    assert gone(asks(sketch, "A", "a", Request(cpu_milli=1000))) == ["b-3"]


def test_cores_are_preempted_inside_a_queue() -> None:
    """Two of lower priority make way for one of two cores."""
    sketch = cluster(1, owner("q", 4))
    runs(sketch, "b", "q", "n1 n1", priority=40)
    runs(sketch, "c", "q", "n1 n1", priority=60, min=2)
    decision = asks(sketch, "A", "q", Request(cpu_milli=2000), priority=50)
    assert gone(decision) == ["b-1", "b-0"]


def test_another_resource_of_a_node_is_preempted_like_cores() -> None:
    """One network card, which b has."""
    card = Request(cpu_milli=1000, extended={"nic": 1})
    sketch = cluster(2, owner("q", 8)).node("n1", extended={"nic": 1})
    runs(sketch, "b", "q", "n1", card)
    runs(sketch, "c", "q", "n1 n1", priority=10)
    assert gone(asks(sketch, "A", "q", card, priority=60)) == ["b-0"]


def test_what_is_short_of_another_resource_is_told() -> None:
    """Two cards are asked for, one is there and free."""
    sketch = cluster(2, owner("q", 8)).node("n1", extended={"nic": 2})
    runs(sketch, "b", "q", "n1", Request(cpu_milli=1000, extended={"nic": 1}), preemptible=False)
    (hold,) = asks(sketch, "A", "q", Request(extended={"nic": 2})).holds
    assert (hold.code, hold.short, hold.nodes) == ("NoRoom", {"nic": 1}, {"NotEnoughExtended": 2})


def test_above_an_owners_quota_takes_only_who_stays_within_every_quota_above() -> None:
    """A is within the quota of its own queue, but x, above it, has none: b's second GPU is within its share."""
    for quota, victims in ((1, ["b-1"]), (0, [])):
        queues = (
            queue("x", quota, weight=1),
            queue("a", 1, parent="x"),
            queue("b", 1),
            queue("c", 0, weight=0),
        )
        sketch = Sketch("n1: bb\nn2: c").with_queues(*queues).run("b", "b", min=1).run("c", "c")
        sketch.node("n2", taints=(Taint("k"),))
        assert gone(asks(sketch, "A", "a", Request(gpu=(DeviceAsk(1),)))) == victims
