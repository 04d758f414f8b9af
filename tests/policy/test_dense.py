"""Placement `dense`: GPUs stay where the cores and the memory are that they need, and what is left fits what comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from board import Sketch, check, queue
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.trace import Arrival
from gpumax.model.workload import DeviceAsk, TaskState
from gpumax.policy.decide import decide
from gpumax.policy.nodes import Nodes
from gpumax.policy.worth import Worth
from gpumax.study.inflate.field import Field, request, shape_of
from study.fields import ARRIVALS, NODES, first_fit, fragments, free, model
from thorough import examples

DENSE = Policy(placement=Placement("dense", "dense"))


def cluster(nodes: str, policy: Policy = DENSE, **cores: int) -> Sketch:
    """Nodes with so many cores each."""
    sketch = Sketch(nodes, policy).with_queues(queue("q", 64))
    for name, count in cores.items():
        sketch.node(name, cpu_milli=1000 * count)
    return sketch


def asks(sketch: Sketch, letter: str, cores: int, gpu: float = 1, tasks: int = 1, state: TaskState = "pending") -> Sketch:  # fmt: skip
    """A workload waits whose tasks ask for so many cores each."""
    sketch.wait(letter, "q", gpu=gpu, tasks=tasks)
    rows = sketch.workloads[letter].tasks
    return sketch.change(
        letter,
        tasks=tuple(
            replace(row, state=state, request=replace(row.request, cpu_milli=1000 * cores)) for row in rows
        ),
    )


@pytest.mark.parametrize(
    ("n1", "n2", "after"), [(24, 64, "n1: B...\nn2: A..."), (64, 24, "n1: A...\nn2: B...")]
)
def test_each_goes_where_its_cores_are(n1: int, n2: int, after: str) -> None:
    """Six cores for each GPU on the one node, sixteen on the other; ten are asked for on average, sixteen by A and four by B."""
    sketch = cluster("n1: ....\nn2: ....", n1=n1, n2=n2)
    asks(asks(asks(sketch, "A", 16), "B", 4), "G", 10, tasks=4, state="gated")
    check(sketch, after)


@pytest.mark.parametrize(
    ("n1", "n2", "after"), [(512, 2048, "n1: B...\nn2: A..."), (2048, 512, "n1: A...\nn2: B...")]
)
def test_memory_counts_as_cores_do(n1: int, n2: int, after: str) -> None:
    """Either fits on both nodes; B asks for little of it."""
    sketch = cluster("n1: ....\nn2: ....").node("n1", memory_mib=n1).node("n2", memory_mib=n2)
    for letter, memory in (("A", 256), ("B", 16)):
        sketch.wait(letter, "q")
        (row,) = sketch.workloads[letter].tasks
        sketch.change(letter, tasks=(replace(row, request=replace(row.request, memory_mib=memory)),))
    check(sketch, after)


def test_of_nodes_that_are_alike_the_first_is_filled() -> None:
    """One after the other."""
    sketch = cluster("n1: ....\nn2: ....\nn3: ....", n1=64, n2=64, n3=64)
    check(asks(sketch, "A", 4, tasks=6), "n1: AAAA\nn2: AA..\nn3: ....")


def test_a_whole_node_stays_for_work_that_needs_all_of_it() -> None:
    """Though n1 is first and empty: three tasks of four GPUs come, too."""
    sketch = cluster("n1: ....\nn2: bb..", n1=64, n2=64).run("b", "q")
    asks(sketch, "A", 4)
    sketch.wait("D", "q", gpu=4, tasks=3, priority=40)
    placed = {place.task: place.node for place in decide(sketch.snapshot()).places}
    assert placed["A-0"] == "n2"


def test_work_without_gpus_goes_where_it_costs_no_gpu() -> None:
    """n1 has just the cores that its GPUs need, n2 has more of them."""
    sketch = cluster("n1: ....\nn2: ....", n1=32, n2=64)
    asks(asks(sketch, "A", 8, tasks=2), "C", 16, gpu=0)
    placed = {place.task: place.node for place in decide(sketch.snapshot()).places}
    assert placed["C-0"] == "n2"


def test_a_part_of_a_gpu_goes_to_the_fullest_that_fits_on_its_node() -> None:
    """As with the other strategies."""
    sketch = cluster("n1: [b3][c6]", n1=64).run("b", "q").run("c", "q")
    check(asks(sketch, "A", 1, gpu=0.4), "n1: [b3.7][A4c6]")


@pytest.mark.parametrize(
    ("strategy", "after"), [("dense", "n1: A...\nn2: bb.."), ("pack", "n1: ....\nn2: bbA.")]
)
def test_a_pool_that_is_not_dense_is_packed_as_ever(strategy: str, after: str) -> None:
    """n2 is fuller, but has no cores left for what comes."""
    policy = Policy(placement=Placement("dense" if strategy == "dense" else "pack"))
    sketch = cluster("n1: ....\nn2: bb..", policy, n1=64, n2=12).run("b", "q")
    check(asks(sketch, "A", 12), after)


@pytest.mark.deep
@settings(max_examples=examples(60, 150), deadline=None)
@given(NODES, ARRIVALS, ARRIVALS)
def test_the_table_says_what_the_formula_of_the_paper_says(nodes: tuple[Node, ...], run: tuple[Arrival, ...], come: tuple[Arrival, ...]) -> None:  # fmt: skip
    """Of every node: what is free, less the fragments; whatever the order in which tasks are counted, and counted back."""
    field, worth = Field(nodes), Worth(Nodes(nodes))
    first_fit(field, run)
    shapes = [shape_of(one)._replace(memory=0) for one in come]
    for shape in (*shapes, *shapes[:3]):
        worth.add(request(shape).gpu, shape.cpu)
    for shape in shapes[:3]:
        worth.add(request(shape).gpu, shape.cpu, -1)
    room, rows = field.room, np.arange(len(nodes))
    counts = {shape: shapes.count(shape) for shape in shapes}
    for row, found in enumerate(worth.of(rows, room.cpu, room.devices).tolist()):
        lost = fragments(model(field, row), *free(field, row), counts)
        assert found == len(shapes) * (sum(free(field, row)[1]) - lost)


def test_tasks_that_take_either_model_could_use_both() -> None:
    """Each node is of use to one of two tasks, or to both."""
    nodes = Nodes(tuple(Node(name, devices=(Device(0, name),)) for name in ("a", "b")))
    worth = Worth(nodes)
    worth.add((DeviceAsk(1, model="a"), DeviceAsk(1, model="b")), 0)
    worth.add((DeviceAsk(1, model="b"),), 0)
    free_now = np.array([[1000], [1000]])
    assert worth.of(np.array([0, 1]), np.array([0, 0]), free_now).tolist() == [1000, 2000]
