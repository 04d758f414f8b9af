"""Devices that would do instead, node labels that are compared, and running work of which a file doesn't say what it holds."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import Sketch, after, check, picture, queue, slices
from gpumax.model.node import Device
from gpumax.model.workload import Affinity, DeviceAsk, Expression, NodeTerm, Request
from gpumax.policy.decide import decide

EITHER = Request((DeviceAsk(1, model="H100"), DeviceAsk(1, model="L4")))
LITTLE = (Device(0, "L4", 24_576), Device(1, "L4", 24_576))


def one_queue(nodes: str) -> Sketch:
    return Sketch(nodes).with_queues(queue("q", 9))


def placed(sketch: Sketch) -> str:
    snapshot = sketch.snapshot()
    return after(snapshot, decide(snapshot))


def test_all_tasks_of_a_gang_take_the_first_alternative_that_serves_all() -> None:
    """The second one, where the first has room for one of them only."""
    sketch = one_queue("n1: .\nn2: ..").node("n2", devices=LITTLE).wait("A", "q", tasks=2, request=EITHER)
    assert placed(sketch) == picture("n1: .\nn2: AA")


def test_where_no_alternative_serves_all_each_takes_what_serves_it() -> None:
    """One of each there is."""
    sketch = one_queue("n1: .\nn2: .").node("n2", devices=LITTLE[:1]).wait("A", "q", tasks=2, request=EITHER)
    assert placed(sketch) == picture("n1: A\nn2: A")


def test_a_task_with_fewer_alternatives_goes_on_with_its_last() -> None:
    """The other needs its second one."""
    sketch = one_queue("n1: ..").node("n1", devices=LITTLE).wait("A", "q", request=EITHER)
    sketch.wait("A", "q", tasks=1, request=Request((DeviceAsk(1, model="L4"),)))
    assert placed(sketch) == picture("n1: AA")


@pytest.mark.parametrize(
    ("operator", "values", "node"),
    [
        ("Gt", ("4",), "n3"), ("Lt", ("4",), "n1"), ("DoesNotExist", (), "n4"), ("NotIn", ("3", "4"), "n3"), ("Exists", (), "n1"),
        ("In", ("5",), "n3"), ("Gt", ("five",), ""), ("Lt", (), ""), ("Gt", ("5",), ""), ("Lt", ("3",), ""),
    ],
)  # fmt: skip
def test_labels_are_compared_as_kubernetes_compares_them(
    operator: str, values: tuple[str, ...], node: str
) -> None:
    """Numbers as numbers; what is none, or isn't there, is neither greater nor less."""
    sketch = one_queue("n1: .\nn2: .\nn3: .\nn4: .")
    for name, size in (("n1", "3"), ("n2", "4"), ("n3", "5")):
        sketch.node(name, labels={"size": size})
    row: Expression = Expression("size", operator, values)  # type: ignore[arg-type]
    places = decide(sketch.wait("A", "q", affinity=Affinity((NodeTerm((row,)),))).snapshot()).places
    assert [place.node for place in places] == [node] * bool(node)


def test_one_of_several_terms_is_enough_and_all_of_its_expressions_count() -> None:
    """Labels and fields of one term hold together."""
    sketch = one_queue("n1: .\nn2: .\nn3: .").node("n1", labels={"a": "x"}).node("n2", labels={"a": "x"})
    x = Expression("a", "In", ("x",))
    here = NodeTerm((x,), (Expression("metadata.name", "In", ("n2",)),))
    check(
        sketch.wait("A", "q", affinity=Affinity((NodeTerm((Expression("b", "Exists"),)), here))),
        "n1: .\nn2: A\nn3: .",
    )
    check(sketch.wait("B", "q", affinity=Affinity((NodeTerm(),))), "n1: .\nn2: A\nn3: .", held="B")


def silent(sketch: Sketch, letter: str) -> Sketch:
    """The file doesn't say which devices a workload holds."""
    return sketch.change(
        letter, tasks=tuple(replace(row, devices=()) for row in sketch.workloads[letter].tasks)
    )


def test_devices_that_a_file_leaves_out_are_the_lowest_that_are_free() -> None:
    """Beside those that are named, in the order of tasks, whole and in parts; who comes later goes beside them."""
    sketch = silent(one_queue("n1: cbb.").run("b", "q").run("c", "q"), "b")
    places = decide(sketch.wait("A", "q").snapshot()).places
    assert [place.devices[0].index for place in places] == [3]
    sketch = silent(one_queue("n1: [c7].[b5]").run("b", "q").run("c", "q"), "b")
    (place,) = decide(sketch.wait("A", "q", gpu=0.5).snapshot()).places
    assert [(share.index, share.milli) for share in place.devices] == [(1, 500)]


def test_slices_that_a_file_leaves_out_are_on_the_lowest_device_that_can_take_them() -> None:
    """The first GPU is full; what is left of the second is for who comes."""
    sketch = silent(one_queue("n1: (c7)(b4)(.)").run("b", "q").run("c", "q"), "b")
    (place,) = decide(sketch.wait("A", "q", request=slices(4)).snapshot()).places
    assert [share.index for share in place.devices] == [2]
    (place,) = decide(
        silent(one_queue("n1: (.)(b4)").run("b", "q"), "b").wait("A", "q", request=slices(4)).snapshot()
    ).places
    assert [share.index for share in place.devices] == [1]
