"""Work that stands together: in one domain where that is required, in few close ones where it is preferred."""

from __future__ import annotations

from typing import Any

import pytest

from board import Sketch, check, gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.workload import DeviceAsk, Group, Request, Segments, Task, TopologyWish
from gpumax.policy.decide import decide

pytestmark = pytest.mark.usefixtures("both_searches")

RACK = TopologyWish("default", "rack")
ZONE = TopologyWish("default", "zone")
NEAR = TopologyWish("default", preferred="rack")
PAIRS = TopologyWish("default", segments=Segments(2, "rack"))


def one_queue(nodes: str, **domains: str) -> Sketch:
    """A cluster of one queue whose nodes stand in these domains."""
    return Sketch(nodes).with_queues(queue("q", 64)).stand(**domains)


def two_queues(nodes: str, **domains: str) -> Sketch:
    """Queue p has taken what is queue q's."""
    return Sketch(nodes).with_queues(queue("q", 4), queue("p", 0, weight=1)).stand(**domains)


def groups(sketch: Sketch, letter: str, *rows: Group, of: str, **changes: Any) -> Sketch:
    """Put the tasks of a workload into groups, one letter of `of` a task."""
    tasks = sketch.workloads[letter].tasks
    named = tuple(
        Task(task.name, group, task.state, task.node, task.devices, request=task.request)
        for task, group in zip(tasks, of, strict=True)
    )
    return sketch.change(letter, groups=rows, tasks=named, **changes)


def sound(sketch: Sketch, decision: Decision) -> None:
    """The independent check finds nothing."""
    assert verify(sketch.snapshot(), decision) == ()


# required: one domain, the fullest that fits


def test_a_gang_stands_in_one_rack_though_another_node_is_fuller() -> None:
    """Without the wish it would fill n1 first."""
    sketch = one_queue("n1: b...\nn2: bbb.\nn3: b...", r1="n1", r2="n2 n3").run("b", "q")
    check(sketch.wait("A", "q", tasks=4, topology=RACK), "n1: b...\nn2: bbbA\nn3: bAAA")


def test_the_fullest_rack_that_fits_is_taken() -> None:
    """r2 is fuller but too full, r1 emptier than r3."""
    sketch = one_queue("n1: ....\nn2: bbb.\nn3: bb..", r1="n1", r2="n2", r3="n3").run("b", "q")
    check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: ....\nn2: bbb.\nn3: bbAA")


def test_racks_that_are_equal_are_taken_in_the_order_of_their_names() -> None:
    """Numbers in names count as numbers."""
    sketch = one_queue("n1: ..\nn2: ..\nn3: ..", r10="n1", r9="n2", r11="n3")
    check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: ..\nn2: AA\nn3: ..")


def test_equal_names_in_different_zones_are_different_racks() -> None:
    """A domain is the combination of its label and all wider ones."""
    sketch = one_queue("n1: ..\nn2: ..", a__r1="n1", b__r1="n2")
    check(sketch.wait("A", "q", tasks=3, topology=RACK), "n1: ..\nn2: ..", held="A")


def test_a_node_without_the_label_is_in_no_domain() -> None:
    """n1 has room, but stands in no rack."""
    sketch = one_queue("n1: ....\nn2: ..", r1="n2").wait("A", "q", tasks=2, topology=RACK)
    check(sketch, "n1: ....\nn2: AA")


def test_a_node_without_a_wider_label_is_in_no_narrower_domain_either() -> None:
    """n1 has a rack and no zone."""
    sketch = one_queue("n1: ....\nn2: ..", a__r1="n2").node("n1", labels={"rack": "r1"})
    check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: ....\nn2: AA")


def test_a_zone_is_wide_enough_for_what_no_rack_holds() -> None:
    """Required zone: any racks of it."""
    sketch = one_queue("n1: ..\nn2: ..\nn3: ...", a__r1="n1", a__r2="n2", b__r1="n3")
    check(sketch.wait("A", "q", tasks=4, topology=ZONE), "n1: AA\nn2: AA\nn3: ...")


def test_inside_the_rack_nodes_are_packed_or_spread_as_ever() -> None:
    """The placement strategy chooses the node."""
    spread = Policy(placement=Placement(gpu="spread"))
    for policy, after in ((None, "n1: b.\nn2: bAA.\nn3: ...."), (spread, "n1: b.\nn2: b.A.\nn3: A...")):
        sketch = Sketch("n1: b.\nn2: b...\nn3: ....", policy or Policy()).with_queues(queue("q", 64))
        sketch.stand(r1="n1", r2="n2 n3").run("b", "q")
        if policy is not None:
            after = "n1: b.\nn2: bA..\nn3: A..."
        check(sketch.wait("A", "q", tasks=2, topology=RACK), after)


# running tasks fix the domain


def test_a_task_that_comes_back_goes_where_the_others_run() -> None:
    """r1 is emptier, r2 is where the gang is."""
    sketch = one_queue("n1: bbb.\nn2: ..A.", r1="n1", r2="n2").run("b", "q").run("A", "q")
    check(sketch.wait("A", "q", topology=RACK), "n1: bbb.\nn2: A.A.")


def test_extras_go_where_the_gang_runs_or_wait() -> None:
    """Two of three extras find room in the rack."""
    sketch = one_queue("n1: ....\nn2: AA..", r1="n1", r2="n2").run("A", "q")
    decision = check(sketch.wait("A", "q", tasks=3, min=2, topology=RACK), "n1: ....\nn2: AAAA")
    sound(sketch, decision)


def test_extras_join_the_minimum_that_was_just_placed() -> None:
    """Both extras in the same decision, in the same rack."""
    sketch = one_queue("n1: ...\nn2: ....", r1="n1", r2="n2")
    check(sketch.wait("A", "q", tasks=4, min=2, topology=RACK), "n1: AAA\nn2: ....")


def test_who_runs_apart_is_joined_by_nobody() -> None:
    """Labels have changed under a running gang: its rest is held, with what is wrong."""
    sketch = one_queue("n1: A...\nn2: A...", r1="n1", r2="n2").run("A", "q")
    decision = check(sketch.wait("A", "q", topology=RACK), "n1: A...\nn2: A...", held="A")
    (hold,) = decision.holds
    assert hold.code == "Topology"
    assert "what runs of it stands in r1, r2" in hold.message


def test_tasks_that_are_done_bind_nobody() -> None:
    """What has succeeded stands nowhere."""
    sketch = one_queue("n1: ..\nn2: ..", r1="n1", r2="n2").wait("A", "q", tasks=2, topology=RACK)
    done = Task("A-0", state="succeeded", request=gpus(1))
    check(sketch.change("A", tasks=(done, *sketch.workloads["A"].tasks[1:])), "n1: A.\nn2: ..")


# preferred: few domains, close together


def test_one_rack_is_preferred_to_a_fuller_node_elsewhere() -> None:
    """As one rack holds it all, it goes there."""
    sketch = one_queue("n1: b.\nn2: ..\nn3: ..", r1="n1", r2="n2 n3").run("b", "q")
    check(sketch.wait("A", "q", tasks=3, topology=NEAR), "n1: b.\nn2: AA\nn3: A.")


def test_where_no_rack_holds_it_two_do() -> None:
    """Not three: the two with most room."""
    sketch = one_queue("n1: ..\nn2: b...\nn3: ...", r1="n1", r2="n2", r3="n3").run("b", "q")
    check(sketch.wait("A", "q", tasks=5, topology=NEAR), "n1: AA\nn2: bAAA\nn3: ...")


def test_two_racks_of_one_zone_are_closer_than_two_of_two() -> None:
    """Equally few racks: those that share the narrowest wider domain."""
    sketch = one_queue("n1: bb..\nn2: ...\nn3: ...", a__r1="n1", b__r1="n2", b__r2="n3").run("b", "q")
    check(sketch.wait("A", "q", tasks=5, topology=NEAR), "n1: bb..\nn2: AAA\nn3: AA.")


def test_fewer_racks_come_before_closer_ones() -> None:
    """Two racks of two zones, not three of one."""
    sketch = one_queue(
        "n1: ..\nn2: ..\nn3: ..\nn4: ...\nn5: ...", a__r1="n1", a__r2="n2", a__r3="n3", b__r1="n4", c__r1="n5"
    )
    check(sketch.wait("A", "q", tasks=6, topology=NEAR), "n1: ..\nn2: ..\nn3: ..\nn4: AAA\nn5: AAA")


def test_an_extra_prefers_the_rack_of_its_gang() -> None:
    """n1 is fuller, n2 is near."""
    sketch = one_queue("n1: bbb.\nn2: A...", r1="n1", r2="n2").run("b", "q").run("A", "q")
    check(sketch.wait("A", "q", min=1, topology=NEAR), "n1: bbb.\nn2: AA..")


def test_preferred_inside_required() -> None:
    """One zone, and there as few racks as possible."""
    wish = TopologyWish("default", "zone", "rack")
    sketch = one_queue("n1: ..\nn2: ..\nn3: ....", a__r1="n1", a__r2="n2", b__r1="n3")
    check(sketch.wait("A", "q", tasks=4, topology=wish), "n1: ..\nn2: ..\nn3: AAAA")


def test_a_preferred_level_wider_than_the_required_one_says_nothing() -> None:
    """As if it were not written."""
    for wish in (RACK, TopologyWish("default", "rack", "zone")):
        sketch = one_queue("n1: ..\nn2: b..\nn3: ..", a__r1="n1", a__r2="n2", b__r1="n3").run("b", "q")
        check(sketch.wait("A", "q", tasks=2, topology=wish), "n1: AA\nn2: b..\nn3: ..")


def test_preferred_is_no_reason_to_wait() -> None:
    """Nodes without a rack serve, too."""
    sketch = one_queue("n1: .\nn2: .\nn3: .", r1="n1")
    check(sketch.wait("A", "q", tasks=3, topology=NEAR), "n1: A\nn2: A\nn3: A")


# groups, groups of groups, segments


def test_each_group_stands_in_a_rack_of_its_own_choice() -> None:
    """Two prefill and two decode tasks: no rack holds all four."""
    sketch = one_queue("n1: ..\nn2: ..", r1="n1", r2="n2").wait("A", "q", tasks=4)
    groups(sketch, "A", Group("d", 2, None, RACK), Group("p", 2, None, RACK), of="ddpp")
    check(sketch, "n1: AA\nn2: AA")


def test_groups_stand_inside_the_zone_of_the_gang() -> None:
    """b has two whole racks, a only one and a half."""
    sketch = one_queue("n1: ..\nn2: .b\nn3: ..\nn4: ..", a__r1="n1", a__r2="n2", b__r1="n3", b__r2="n4")
    sketch.run("b", "q").wait("A", "q", tasks=4, topology=ZONE)
    groups(sketch, "A", Group("d", 2, None, RACK), Group("p", 2, None, RACK), of="ddpp")
    check(sketch, "n1: ..\nn2: .b\nn3: AA\nn4: AA")


def test_the_choice_of_one_group_does_not_spoil_the_next() -> None:
    """The larger group is placed first; where sizes are equal, the search steps back."""
    sketch = one_queue("n1: ..\nn2: ...", r1="n1", r2="n2").wait("A", "q", tasks=5)
    groups(sketch, "A", Group("a", 2, None, RACK), Group("z", 3, None, RACK), of="aazzz")
    check(sketch, "n1: AA\nn2: AAA")


def test_a_group_without_a_wish_goes_anywhere_in_the_zone() -> None:
    """Only the workers are bound to a rack."""
    sketch = one_queue("n1: ..\nn2: .\nn3: ...", a__r1="n1", a__r2="n2", b__r1="n3")
    sketch.wait("A", "q", tasks=3, topology=ZONE)
    groups(sketch, "A", Group("l", 1), Group("w", 2, None, RACK), of="lww")
    check(sketch, "n1: AA\nn2: A\nn3: ...")
    sketch.wait("C", "q", tasks=3, topology=ZONE)
    groups(sketch, "C", Group("l", 1), Group("w", 2, None, RACK), of="lww")
    check(sketch, "n1: AA\nn2: A\nn3: CCC")


def test_groups_of_groups_nest_their_domains() -> None:
    """Each half in a zone of its own, each group of it in a rack."""
    sketch = one_queue("n1: .\nn2: ..\nn3: .\nn4: ..", a__r1="n1", a__r2="n2", b__r1="n3", b__r2="n4")
    rows = [Group("east", 0, None, ZONE), Group("west", 0, None, ZONE)]
    rows += [Group("el", 1, "east", RACK), Group("ew", 2, "east", RACK)]
    rows += [Group("wl", 1, "west", RACK), Group("ww", 2, "west", RACK)]
    sketch.wait("A", "q", tasks=6)
    tasks = tuple(
        Task(f"A-{number}", name, request=gpus(1))
        for number, name in enumerate(("el", "ew", "ew", "wl", "ww", "ww"))
    )
    decision = check(sketch.change("A", groups=tuple(rows), tasks=tasks), "n1: A\nn2: AA\nn3: A\nn4: AA")
    sound(sketch, decision)
    zone = {place.task: "a" if place.node in ("n1", "n2") else "b" for place in decision.places}
    assert zone["A-0"] == zone["A-1"] == zone["A-2"] != zone["A-3"] == zone["A-4"] == zone["A-5"]


def test_segments_of_two_stand_each_in_one_rack() -> None:
    """Three racks of three hold three pairs, one each: a pair is not split."""
    sketch = one_queue("n1: ...\nn2: ...\nn3: ...", r1="n1", r2="n2", r3="n3")
    decision = check(sketch.wait("A", "q", tasks=6, topology=PAIRS), "n1: AA.\nn2: AA.\nn3: AA.")
    at = {place.task: place.node for place in decision.places}
    assert (at["A-0"], at["A-2"], at["A-4"]) == (at["A-1"], at["A-3"], at["A-5"])


def test_a_rack_takes_as_many_segments_as_it_holds() -> None:
    """Fullest first: r1 takes one pair, r2 the two others."""
    sketch = one_queue("n1: b..\nn2: ....", r1="n1", r2="n2").run("b", "q")
    check(sketch.wait("A", "q", tasks=6, topology=PAIRS), "n1: bAA\nn2: AAAA")


def test_the_last_segment_may_be_smaller() -> None:
    """Five tasks are two pairs and one alone."""
    sketch = one_queue("n1: ..\nn2: ..\nn3: .", r1="n1", r2="n2", r3="n3")
    check(sketch.wait("A", "q", tasks=5, topology=PAIRS), "n1: AA\nn2: AA\nn3: A")


def test_a_task_comes_back_to_its_segment() -> None:
    """A-1 belongs to A-0, whose rack is n1's."""
    sketch = one_queue("n1: A.b\nn2: .bb\nn3: AA.", r1="n1", r2="n2", r3="n3").run("b", "q").run("A", "q")
    first, third, fourth = sketch.workloads["A"].tasks
    back = Task("A-1", request=gpus(1))
    tasks = (first, back, Task("A-2", state="running", node="n3", devices=third.devices, request=gpus(1)),
             Task("A-3", state="running", node="n3", devices=fourth.devices, request=gpus(1)))  # fmt: skip
    sketch.change("A", tasks=tasks, groups=(Group("", 4),), topology=PAIRS)
    check(sketch, "n1: AAb\nn2: .bb\nn3: AA.")


def test_extras_of_one_segment_go_where_the_whole_of_it_fits() -> None:
    """One at a time, but not to the rack that has room for one only."""
    sketch = one_queue("n1: .\nn2: ..\nn3: AA", r1="n1", r2="n2", r3="n3").run("A", "q")
    check(sketch.wait("A", "q", tasks=2, min=2, topology=PAIRS), "n1: .\nn2: AA\nn3: AA")


def test_segments_inside_a_zone() -> None:
    """a has room for two pairs in all, but not by racks."""
    wish = TopologyWish("default", "zone", None, Segments(2, "rack"))
    sketch = one_queue("n1: ...\nn2: .\nn3: ..\nn4: ..", a__r1="n1", a__r2="n2", b__r1="n3", b__r2="n4")
    check(sketch.wait("A", "q", tasks=4, topology=wish), "n1: ...\nn2: .\nn3: AA\nn4: AA")


def test_a_segment_may_only_prefer() -> None:
    """The second pair is split rather than held."""
    wish = TopologyWish("default", segments=Segments(2, None, "rack"))
    sketch = one_queue("n1: ..\nn2: .\nn3: .", r1="n1", r2="n2", r3="n3")
    check(sketch.wait("A", "q", tasks=4, topology=wish), "n1: AA\nn2: A\nn3: A")


# with everything else


def test_the_second_alternative_serves_where_no_rack_has_the_first() -> None:
    """Two H100 in one rack there are not; two A100 there are."""
    sketch = one_queue("n1: .\nn2: .\nn3: ..", r1="n1", r2="n2", r3="n3").wait(
        "A", "q", tasks=2, topology=RACK
    )
    old = sketch.snapshot().nodes[2].devices
    sketch.node("n3", devices=tuple(type(device)(device.index, "A100", device.memory_mib) for device in old))
    wish = Request(gpu=(DeviceAsk(1, model="H100"), DeviceAsk(1, model="A100")))
    tasks = tuple(Task(task.name, request=wish) for task in sketch.workloads["A"].tasks)
    check(sketch.change("A", tasks=tasks), "n1: .\nn2: .\nn3: AA")


def test_a_rack_that_is_free_now_beats_a_fuller_one_that_will_be() -> None:
    """r1 would be fuller, but b has yet to leave it."""
    sketch = one_queue("n1: bcc.\nn2: ....", r1="n1", r2="n2").run("b", "q", state_="releasing").run("c", "q")
    decision = decide(sketch.wait("A", "q", tasks=2, topology=RACK).snapshot())
    assert {(place.node, place.after) for place in decision.places} == {("n2", ())}


def test_a_gang_waits_for_room_in_its_rack() -> None:
    """Both places carry what they wait for: a gang starts whole."""
    sketch = one_queue("n1: b.\nn2: c.", r1="n1", r2="n2").run("b", "q", state_="releasing").run("c", "q")
    decision = decide(sketch.wait("A", "q", tasks=2, topology=RACK).snapshot())
    assert {(place.node, place.after) for place in decision.places} == {("n1", ("b-0",))}


def test_fractions_stand_together_too() -> None:
    """The shared GPU of r2 has room for one half only."""
    sketch = one_queue("n1: ..\nn2: [b5]", r1="n1", r2="n2").run("b", "q")
    check(sketch.wait("A", "q", tasks=2, gpu=0.5, topology=RACK), "n1: A.\nn2: [b5.5]")


# taking room back


def test_room_is_made_inside_one_rack() -> None:
    """Any four of six would be enough; four of one rack they have to be."""
    sketch = two_queues("n1: bb\nn2: cc\nn3: dd", r1="n1", r2="n2 n3").with_queues()
    for letter in "bcd":
        sketch.run(letter, "p", min=0)
    check(sketch.wait("A", "q", tasks=4, topology=RACK), "n1: bb\nn2: AA\nn3: AA", evicted=4)


def test_the_rack_in_which_least_is_lost_is_chosen() -> None:
    """Extras rather than a minimum."""
    sketch = two_queues("n1: bb\nn2: cc", r1="n1", r2="n2").run("b", "p").run("c", "p", min=0)
    check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: bb\nn2: AA", evicted=2)


def test_a_rack_that_is_half_free_costs_less() -> None:
    """One has to go, not two."""
    sketch = two_queues("n1: bb\nn2: c.", r1="n1", r2="n2").run("b", "p", min=0).run("c", "p", min=0)
    check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: bb\nn2: AA", evicted=1)


def test_a_queue_at_its_limit_comes_down_for_a_gang_of_higher_priority() -> None:
    """There is room on n3; of what q may hold there is none left, and b has that elsewhere."""
    sketch = Sketch("n1: b\nn2: b\nn3: ..").with_queues(queue("q", 4, limit=2))
    sketch.stand(r1="n1", r2="n2", r3="n3").run("b", "q", min=0, priority=40)
    decision = check(sketch.wait("A", "q", tasks=2, topology=RACK), "n1: .\nn2: .\nn3: AA", evicted=2)
    sound(sketch, decision)


def test_nobody_goes_for_a_gang_that_no_rack_could_hold() -> None:
    """Six GPUs in three racks are no four in one."""
    sketch = two_queues("n1: bb\nn2: bb\nn3: bb", r1="n1", r2="n2", r3="n3").run("b", "p", min=0)
    check(sketch.wait("A", "q", tasks=4, topology=RACK), "n1: bb\nn2: bb\nn3: bb", held="A", evicted=0)


def test_a_full_rack_is_freed_for_the_rest_of_a_gang_that_runs_there() -> None:
    """r2 is half free, but the gang runs in r1."""
    sketch = two_queues("n1: Ab\nn2: c.", r1="n1", r2="n2").run("A", "q")
    sketch.run("b", "p", min=0).run("c", "p", min=0)
    decision = check(sketch.wait("A", "q", topology=RACK), "n1: AA\nn2: cb", evicted=1)
    assert decision.evictions[0].restarts_on == "n2"


def test_room_is_made_for_each_segment_in_a_rack() -> None:
    """One GPU of each rack: two of one would not do."""
    sketch = two_queues("n1: bb.\nn2: cc.", r1="n1", r2="n2").run("b", "p", min=0).run("c", "p", min=0)
    check(sketch.wait("A", "q", tasks=4, topology=PAIRS), "n1: bAA\nn2: cAA", evicted=2)


def test_a_gang_that_stands_together_is_moved_together_or_stopped() -> None:
    """b's two may move to r3 as a pair; to r2 and r4 apart they may not."""
    for nodes, after in (
        ("n1: bb\nn2: cc\nn3: ..", "n1: AA\nn2: cc\nn3: bb"),
        ("n1: bb\nn2: .c\nn3: .c", "n1: AA\nn2: .c\nn3: .c"),
    ):
        sketch = Sketch(nodes).with_queues(queue("q", 3), queue("p", 0, weight=1), queue("r", 2))
        sketch.stand(r1="n1", r2="n2", r3="n3").run("b", "p", topology=RACK).run("c", "r")
        wish = Request(gpu=(DeviceAsk(2),))
        sketch.wait("A", "q").change("A", tasks=(Task("A-0", selector={"rack": "r1"}, request=wish),))
        sound(sketch, check(sketch, after))


# why not


def hold_of(sketch: Sketch) -> tuple[str, str, dict[str, int], dict[str, int]]:
    """The one hold of a sketch."""
    (hold,) = decide(sketch.snapshot()).holds
    return hold.code, hold.message, hold.nodes, hold.short


def test_the_fullest_rack_is_told_and_what_it_lacks() -> None:
    """As the format shows it."""
    sketch = one_queue("n6: ....b\nn7: ..bbb\nn8: ....b", r1="n6 n7", r2="n8")
    sketch.run("b", "q", preemptible=False)
    code, message, nodes, short = hold_of(sketch.wait("A", "q", tasks=2, gpu=4, topology=RACK))
    assert code == "Topology"
    assert message.startswith(
        "needs 2 x 4 GPUs on one rack; the fullest rack (r1) has 6 free, 2 of them on n7"
    )
    assert nodes == {"NotEnoughGpu": 2, "TopologyMismatch": 1}
    assert short == {"gpu": 2000}


def test_what_no_rack_could_ever_hold_is_said() -> None:
    """Even empty."""
    sketch = one_queue("n1: ..\nn2: .b", r1="n1", r2="n2").run("b", "q")
    code, message, _, short = hold_of(sketch.wait("A", "q", tasks=3, topology=RACK))
    assert (code, short) == ("Topology", {"gpu": 1000})
    assert (
        message
        == "needs 3 x 1 GPU on one rack; even empty, the largest rack (r1) has 2 free, so it can never start"
    )


def test_the_rack_of_those_who_run_is_named() -> None:
    """The rest of it can't go elsewhere."""
    sketch = one_queue("n1: Ab\nn2: ..", r1="n1", r2="n2").run("A", "q").run("b", "q", preemptible=False)
    code, message, nodes, short = hold_of(sketch.wait("A", "q", topology=RACK))
    assert (code, short) == ("Topology", {"gpu": 1000})
    assert "needs 1 GPU on one rack; the rack where the rest of it runs (r1) has 0 free" in message
    assert nodes == {"NotEnoughGpu": 1, "TopologyMismatch": 1}


def test_the_group_or_segment_that_has_no_rack_is_named() -> None:
    """Each fits by itself, or this one doesn't."""
    sketch = one_queue("n1: ..\nn2: .", r1="n1", r2="n2").wait("A", "q", tasks=3)
    groups(sketch, "A", Group("w", 3, None, RACK), of="www")
    assert hold_of(sketch)[1].startswith(
        "group w needs 3 x 1 GPU on one rack; even empty, the largest rack (r1)"
    )
    sketch = one_queue("n1: ...\nn2: ...", r1="n1", r2="n2").wait("A", "q", tasks=6, topology=PAIRS)
    assert "part by part, but not all at once" in hold_of(sketch)[1]


def test_without_labels_nothing_stands_together() -> None:
    """Nobody has named the racks."""
    sketch = one_queue("n1: ....", r1="n1").node("n1", labels={}).wait("A", "q", tasks=2, topology=RACK)
    assert hold_of(sketch)[1].startswith("needs 2 x 1 GPU on one rack; no node has the labels of a rack")


def test_preferred_alone_is_never_the_reason() -> None:
    """It has no room anywhere."""
    sketch = one_queue("n1: b", r1="n1").run("b", "q").wait("A", "q", topology=NEAR)
    assert hold_of(sketch)[0] == "NoRoom"
