"""Slices (MIG): what a device can hold beside what, where new ones go, and what they count."""

from __future__ import annotations

import pytest

from board import SLICES, Sketch, check, gpus, queue, slices
from gpumax.loop.verify import verify
from gpumax.loop.verify.slices import can_hold
from gpumax.model.node import Device
from gpumax.model.slices import geometry, milli
from gpumax.model.snapshot import Placement, Policy
from gpumax.policy.decide import decide
from gpumax.policy.slices import Kind

A100 = Device(0, "NVIDIA A100-SXM4-40GB", 40 * 1024, slices=SLICES)


def cut(nodes: str, quota: float = 64, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", quota))


def test_a_slice_goes_to_the_device_where_it_leaves_the_most() -> None:
    """Three parts are gone already: one more part costs the second device less than the first, which is whole."""
    sketch = cut("n1: ()(a3)").run("a", "q").wait("B", "q", request=slices(1))
    check(sketch, "n1: ()(B1a3)")


def test_the_node_is_chosen_by_what_is_left_before_pack_or_spread() -> None:
    sketch = cut("n1: ()()\nn2: (a1)()", policy=Policy(Placement(gpu="spread"))).run("a", "q")
    check(sketch.wait("B", "q", request=slices(2)), "n1: ()()\nn2: (B2a1)()")


def test_seven_slices_of_one_part_fill_a_device_and_an_eighth_waits() -> None:
    sketch = cut("n1: ()").wait("A", "q", tasks=8, request=slices(1), min=1)
    check(sketch, "n1: (A1A1A1A1A1A1A1)")


def test_two_slices_of_three_parts_leave_no_room_though_a_part_is_free() -> None:
    """Their memory takes all eight slots."""
    sketch = cut("n1: (a3a3)").run("a", "q").wait("B", "q", request=slices(1))
    (hold,) = check(sketch, "n1: (a3a3)", held="B").holds
    assert (hold.code, hold.nodes, hold.short) == ("NoRoom", {"NotEnoughSlices": 1}, {"1g.5gb": 1})
    assert "lacks 1 1g.5gb slice" in hold.message


def test_four_parts_and_three_stand_beside_each_other_but_four_and_four_do_not() -> None:
    check(cut("n1: (a4)").run("a", "q").wait("B", "q", request=slices(3)), "n1: (B3a4)")
    check(cut("n1: (a4)").run("a", "q").wait("B", "q", request=slices(4)), "n1: (a4)", held="B")


def test_a_task_may_get_its_slices_from_several_devices_of_one_node() -> None:
    """As Kubernetes gives them out; never from two nodes."""
    sketch = cut("n1: (a4)(b4)").run("a", "q").run("b", "q")
    check(sketch.wait("C", "q", request=slices(3, 3)), "n1: (C3a4)(C3b4)")
    sketch = cut("n1: (a4)\nn2: (b4)").run("a", "q").run("b", "q")
    check(sketch.wait("C", "q", request=slices(3, 3)), "n1: (a4)\nn2: (b4)", held="C")


def test_whole_gpus_and_parts_keep_off_devices_that_are_cut_and_slices_off_the_others() -> None:
    sketch = cut("n1: ().").wait("A", "q", request=gpus(1)).wait("B", "q", request=slices(7))
    check(sketch, "n1: (B7)A")
    check(cut("n1: ()").wait("A", "q", request=gpus(0.5)), "n1: ()", held="A")
    check(cut("n1: ..").wait("A", "q", request=slices(1)), "n1: ..", held="A")


def test_a_gang_of_slices_is_placed_whole_or_not_at_all() -> None:
    check(cut("n1: ()\nn2: ()").wait("A", "q", tasks=4, request=slices(3)), "n1: (A3A3)\nn2: (A3A3)")
    check(cut("n1: ()\nn2: ()").wait("A", "q", tasks=5, request=slices(3)), "n1: ()\nn2: ()", held="A")


def test_the_largest_slices_of_a_gang_are_placed_first() -> None:
    sketch = (
        cut("n1: ()").wait("A", "q", tasks=1, request=slices(1)).wait("A", "q", tasks=1, request=slices(4))
    )
    check(sketch.wait("A", "q", tasks=1, request=slices(2)), "n1: (A1A2A4)")


def test_a_slice_counts_its_sevenths_rounded_up() -> None:
    assert [milli(profile) for profile in SLICES] == [143, 286, 429, 572, 1000]
    sketch = (
        cut("n1: ()()").with_queues(queue("r", limit=0.5)).wait("A", "r", tasks=2, request=slices(2), min=1)
    )
    decision = check(sketch, "n1: (A2)()")
    (share,) = [row for row in decision.shares if (row.queue, row.resource) == ("r", "gpu")]
    assert (share.demand, share.share) == (572, 500)


def test_a_device_that_is_cut_is_worth_one_device_to_be_shared() -> None:
    decision = decide(cut("n1: ()x.").wait("A", "q", tasks=4, request=slices(7), min=1).snapshot())
    (share,) = [row for row in decision.shares if row.resource == "gpu"]
    assert (share.demand, share.share) == (4000, 2000)


def test_slices_are_reclaimed_and_only_as_many_as_are_needed() -> None:
    """Four parts and two are lacking: the three slices that stand in their way go, the others stay."""
    sketch = Sketch("n1: (a1a1a1a1a1a1a1)").with_queues(queue("old", 0), queue("new", 1))
    sketch.run("a", "old", min=1).wait("B", "new", request=slices(4))
    check(sketch, "n1: (B4a1a1a1)", evicted=4)


def test_a_slice_that_is_in_the_way_moves_to_another_device() -> None:
    sketch = Sketch("n1: (a1)()").with_queues(queue("old", 0), queue("new", 2))
    sketch.run("a", "old").wait("B", "new", tasks=1, request=slices(7)).wait("C", "new", request=slices(4))
    check(sketch, "n1: (C4a1)(B7)", evicted=0)


def test_a_place_waits_only_for_slices_that_are_in_its_way() -> None:
    """Four parts and three would stand beside each other, but the one between them has to go."""
    sketch = cut("n1: (a1b4)").run("a", "q", state_="releasing").run("b", "q", state_="releasing")
    decision = check(sketch.wait("C", "q", request=slices(3)), "n1: (C3)")
    assert decision.places[0].after == ("a-0",)
    sketch = cut("n1: (a4b1)").run("a", "q", state_="releasing").run("b", "q")
    (place,) = decide(sketch.wait("C", "q", request=slices(4)).snapshot()).places
    assert place.after == ("a-0",)


def test_a_profile_that_no_device_offers_never_starts() -> None:
    sketch = cut("n1: ()").wait("A", "q", request=slices(1))
    wrong = {name: count for name, count in SLICES.items() if name != "1g.5gb"}
    sketch.node("n1", devices=(Device(0, "A100", 40 * 1024, slices=wrong),))
    (hold,) = decide(sketch.snapshot()).holds
    assert (hold.code, hold.nodes) == ("NoNodeMatches", {"NotEnoughSlices": 1})


def test_an_unhealthy_device_gives_no_slices() -> None:
    sketch = cut("n1: ()").node("n1", devices=(Device(0, "A100", 40 * 1024, False, SLICES),))
    assert decide(sketch.wait("A", "q", request=slices(1)).snapshot()).holds


def test_slices_that_a_file_does_not_place_are_on_the_lowest_devices() -> None:
    sketch = cut("n1: (a4)()").run("a", "q").wait("B", "q", request=slices(7))
    (task,) = sketch.workloads["a"].tasks
    sketch.change("a", tasks=(type(task)("a-0", state="running", node="n1", request=task.request),))
    snapshot = sketch.snapshot()
    decision = decide(snapshot)
    assert [(share.index, share.slices) for share in decision.places[0].devices] == [(1, {"7g.40gb": 1})]
    assert verify(snapshot, decision) == ()


@pytest.mark.parametrize(
    ("model", "gib", "offered", "holds", "not_more"),
    [
        ("A100", 40, ("1g.5gb", "1g.10gb"), {"1g.10gb": 4}, {"1g.10gb": 4, "1g.5gb": 1}),
        ("A100-SXM4-80GB", 80, ("1g.10gb", "3g.40gb"), {"3g.40gb": 1, "1g.10gb": 4}, {"3g.40gb": 2, "1g.10gb": 1}),
        ("A30", 24, ("1g.6gb", "2g.12gb", "4g.24gb"), {"2g.12gb": 1, "1g.6gb": 2}, {"2g.12gb": 2, "1g.6gb": 1}),
        ("H100", 80, ("2g.20gb", "4g.40gb"), {"4g.40gb": 1, "2g.20gb": 1}, {"4g.40gb": 1, "2g.20gb": 2}),
        ("H200", 141, ("3g.71gb", "4g.71gb"), {"3g.71gb": 1, "4g.71gb": 1}, {"4g.71gb": 2}),
        ("NVIDIA GH200 96GB", 96, ("1g.12gb", "1g.24gb"), {"1g.24gb": 3, "1g.12gb": 1}, {"1g.24gb": 4, "1g.12gb": 1}),
        ("B200", 180, ("1g.23gb", "7g.180gb"), {"1g.23gb": 7}, {"7g.180gb": 1, "1g.23gb": 1}),
        ("GB200", 189, ("1g.24gb+me", "2g.47gb"), {"2g.47gb": 3, "1g.24gb+me": 1}, {"2g.47gb": 4}),
    ],
)  # fmt: skip
def test_the_geometry_of_each_model_holds_where_counts_would_allow_more(
    model: str, gib: int, offered: tuple[str, ...], holds: dict[str, int], not_more: dict[str, int]
) -> None:
    """By policy and by the check, each in its own way; sevenths alone would take some of these."""
    device = Device(0, model, gib * 1024, slices=dict.fromkeys(offered, 7))
    kind = Kind(device)
    assert geometry(device) is not None
    for wanted, possible in ((holds, True), (not_more, False)):
        assert can_hold(device, wanted) is possible
        assert kind.fits(tuple(wanted.get(profile, 0) for profile in kind.profiles)) is possible


def test_a_model_that_nobody_knows_is_bound_by_counts_and_sevenths_alone() -> None:
    device = Device(0, "X1", 0, slices={"1g.9gb": 3, "3g.30gb": 2})
    kind = Kind(device)
    assert geometry(device) is None
    assert geometry(Device(0, "A100", 40 * 1024, slices={"3g.33gb": 2})) is None
    for wanted, possible in (
        ((2, 1), True),
        ((2, 2), False),
        ((0, 3), True),
        ((0, 4), False),
        ((1, 3), True),
    ):
        assert kind.fits(wanted) is possible
        assert can_hold(device, {"3g.30gb": wanted[0], "1g.9gb": wanted[1]}) is possible
