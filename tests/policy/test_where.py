"""Which node and which device: fractions before everything, then pack or spread, then names."""

from __future__ import annotations

import pytest

from board import Sketch, check, gpus, queue
from gpumax.model.node import Device
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.workload import DeviceAsk, Request, Task
from gpumax.policy.decide import decide

SPREAD = Policy(placement=Placement(gpu="spread", cpu="spread"))


def one_queue(nodes: str, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", 64))


def ask(sketch: Sketch, letter: str, request: Request) -> Sketch:
    """Every task of a workload asks for this."""
    rows = sketch.workloads[letter].tasks
    return sketch.change(letter, tasks=tuple(Task(row.name, request=request) for row in rows))


def test_a_fraction_joins_a_shared_gpu_even_where_work_is_spread() -> None:
    sketch = one_queue("n1: bbb[c5]\nn2: ....", SPREAD).run("b", "q").run("c", "q")
    check(sketch.wait("A", "q", gpu=0.5), "n1: bbb[A5c5]\nn2: ....")


def test_a_fraction_that_fits_no_shared_gpu_is_spread_like_whole_ones() -> None:
    sketch = one_queue("n1: bb[c7].\nn2: ....", SPREAD).run("b", "q").run("c", "q")
    check(sketch.wait("A", "q", gpu=0.5), "n1: bb[c7.3].\nn2: [A5.5]...")


def test_the_fullest_of_two_shared_gpus_that_fit_is_taken() -> None:
    sketch = one_queue("n1: [b3].\nn2: [c6].").run("b", "q").run("c", "q")
    check(sketch.wait("A", "q", gpu=0.4), "n1: [b3.7].\nn2: [A4c6].")


def test_whole_gpus_leave_shared_ones_alone() -> None:
    check(one_queue("n1: [b1]..").run("b", "q").wait("A", "q", gpu=2), "n1: [b1.9]AA")


def test_spread_looks_at_the_part_that_is_free() -> None:
    sketch = one_queue("n1: bb......\nn2: ....", SPREAD).run("b", "q")
    check(sketch.wait("A", "q"), "n1: bb......\nn2: A...")


def test_pools_are_packed_and_spread_each_by_its_own_rule() -> None:
    policy = Policy(pools={"wide": Placement(gpu="spread")})
    sketch = one_queue("n1: b...\nn2: ....\nn3: b...\nn4: ....", policy).run("b", "q")
    for name in ("n1", "n2"):
        sketch.node(name, pool="wide")
    for name in ("n3", "n4"):
        sketch.node(name, pool="tight")
    sketch.wait("A", "q", pool="wide").wait("C", "q", pool="tight")
    check(sketch, "n1: b...\nn2: A...\nn3: bC..\nn4: ....")


@pytest.mark.parametrize(("strategy", "node"), [("pack", "n2"), ("spread", "n1")])
def test_work_without_gpus_is_packed_and_spread_by_cores(strategy: str, node: str) -> None:
    policy = Policy(placement=Placement(cpu="spread" if strategy == "spread" else "pack"))
    sketch = (
        one_queue("n1:\nn2:", policy)
        .node("n1", cpu_milli=8000, memory_mib=8)
        .node("n2", cpu_milli=8000, memory_mib=8)
    )
    sketch.wait("b", "q").wait("A", "q")
    running = Task("b-0", state="running", node="n2", request=Request(cpu_milli=4000))
    ask(sketch, "A", Request(cpu_milli=1000)).change("b", tasks=(running,))
    (place,) = decide(sketch.snapshot()).places
    assert place.node == node


def test_memory_takes_its_part_of_whatever_gpu_it_lands_on() -> None:
    small, large = Device(0, "L4", 24_576), Device(0, "H100", 81_920)
    for devices, milli in (((small,), 500), ((large,), 150)):
        sketch = one_queue("n1:").node("n1", devices=devices).wait("A", "q")
        (place,) = decide(ask(sketch, "A", gpus(1, memory_mib=12_288)).snapshot()).places
        assert place.devices[0].milli == milli


def test_memory_joins_the_fullest_gpu_in_which_its_part_fits() -> None:
    sketch = one_queue("n1: [b5].\nn2: [c8].").run("b", "q").run("c", "q").wait("A", "q")
    check(ask(sketch, "A", gpus(1, memory_mib=24_576)), "n1: [A3b5.2].\nn2: [c8.2].")


def test_parts_of_two_gpus_need_two_gpus_of_one_node() -> None:
    sketch = one_queue("n1: [b7][c7]\nn2: [d7].").run("b", "q").run("c", "q").run("d", "q").wait("A", "q")
    check(ask(sketch, "A", Request(gpu=(DeviceAsk(2, 300),))), "n1: [A3b7][A3c7]\nn2: [d7.3].")
    sketch = one_queue("n1: [b7]\nn2: [d7]").run("b", "q").run("d", "q").wait("A", "q")
    check(ask(sketch, "A", Request(gpu=(DeviceAsk(2, 300),))), "n1: [b7.3]\nn2: [d7.3]", held="A")


def test_equal_nodes_are_taken_in_the_order_of_their_names_whatever_the_strategy() -> None:
    for policy in (Policy(), SPREAD):
        check(one_queue("n2: ..\nn1: ..", policy).wait("A", "q"), "n1: A.\nn2: ..")


def test_a_gang_of_parts_of_two_gpus_is_laid_out_so_that_all_of_it_fits() -> None:
    sketch = one_queue("n1: ...").wait("A", "q", tasks=3)
    check(ask(sketch, "A", Request(gpu=(DeviceAsk(2, 500),))), "n1: AAA")
