"""Reclaim: a queue within its share takes back what others hold above theirs, and no more."""

from __future__ import annotations

import pytest

from board import MINUTE_MS, NOW_MS, Sketch, after, check, gpus, picture, queue
from gpumax.loop.verify import verify
from gpumax.model.node import Taint
from gpumax.model.snapshot import Policy
from gpumax.model.workload import DeviceShare, Group, Task
from gpumax.policy.decide import decide

pytestmark = pytest.mark.usefixtures("both_searches")


def two_queues(nodes: str, a: float = 4, b: float = 4, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("a", a), queue("b", b))


def test_the_owner_gets_its_quota_back_and_no_more() -> None:
    sketch = two_queues("n1: bbbbbbbb").run("b", "b", min=1).wait("A", "a", tasks=6, min=1)
    decision = check(sketch, "n1: bbbbAAAA", evicted=4)
    assert {eviction.cause for eviction in decision.evictions} == {"reclaim"}
    assert {eviction.beneficiary for eviction in decision.evictions} == {"A"}


def test_places_wait_for_those_who_make_way() -> None:
    sketch = two_queues("n1: bbbbbbbb").run("b", "b", min=1).wait("A", "a")
    decision = decide(sketch.snapshot())
    assert [place.after for place in decision.places] == [
        tuple(eviction.task for eviction in decision.evictions)
    ]


def test_extras_go_in_reverse_order_before_any_minimum() -> None:
    sketch = two_queues("n1: bbbbbbcc").run("b", "b", min=2).run("c", "b").wait("A", "a", tasks=4)
    decision = check(sketch, "n1: bbAAAAcc")
    assert [eviction.task for eviction in decision.evictions] == ["b-5", "b-4", "b-3", "b-2"]


def test_the_tenth_extra_goes_before_the_ninth() -> None:
    sketch = Sketch("n1: bbbbbbbbbbbb").with_queues(queue("a", 2), queue("b", 0)).run("b", "b", min=1)
    decision = check(sketch.wait("A", "a", tasks=2), "n1: bbbbbbbbbbAA")
    assert [eviction.task for eviction in decision.evictions] == ["b-11", "b-10"]


def test_a_queue_within_its_share_keeps_its_work_though_its_parent_is_above() -> None:
    queues = (queue("x", 2), queue("y", 2), queue("a", 2, parent="x"),
              queue("b", 1, parent="y"), queue("c", 1, parent="y"))  # fmt: skip
    sketch = Sketch("n1: b\nn2: ccc").with_queues(*queues).run("b", "b").run("c", "c", min=1)
    check(sketch.wait("A", "a", tasks=3, min=1), "n1: b\nn2: cAA", held="", evicted=2)


def test_a_gang_is_never_left_below_its_minimum() -> None:
    sketch = two_queues("n1: bbbbbbbb").run("b", "b").wait("A", "a")
    check(sketch, "n1: A.......", evicted=8)


def test_nobody_is_evicted_for_work_that_then_does_not_fit() -> None:
    sketch = (
        two_queues("n1: bbbb\nn2: cccc")
        .run("b", "b", min=1)
        .run("c", "b", priority=100)
        .wait("A", "a", gpu=4, tasks=2)
    )
    check(sketch, "n1: bbbb\nn2: cccc", held="A", evicted=0)


def test_a_queue_beyond_its_share_takes_nothing_back() -> None:
    sketch = two_queues("n1: aaaabbbb").run("a", "a").run("b", "b", min=1).wait("A", "a")
    decision = check(sketch, "n1: aaaabbbb", held="A", evicted=0)
    assert "share of 4" in decision.holds[0].message


def test_what_is_within_its_owners_share_stays() -> None:
    sketch = Sketch("n1: bbbbcccc").with_queues(queue("a", 2), queue("b", 2), queue("c", 4))
    sketch.run("b", "b", min=1).run("c", "c", min=1)
    check(sketch.wait("A", "a", tasks=3, min=1), "n1: bbAAcccc", evicted=2)


def test_the_last_step_may_end_below_the_share_but_no_step_starts_there() -> None:
    sketch = two_queues("n1: bbbccc..").run("b", "b").run("c", "b").wait("A", "a", tasks=4)
    check(sketch, "n1: bbbAA.AA", evicted=3)


def test_non_preemptible_work_is_never_evicted() -> None:
    sketch = (
        two_queues("n1: bbbbcccc").run("b", "b", priority=100).run("c", "b", min=1).wait("A", "a", tasks=4)
    )
    check(sketch, "n1: bbbbAAAA", evicted=4)


def test_of_two_givers_the_one_that_is_further_above_its_share_gives() -> None:
    sketch = Sketch("n1: bbbccccc").with_queues(queue("a", 2), queue("b", 2), queue("c", 2))
    sketch.run("b", "b", min=1).run("c", "c", min=1)
    check(sketch.wait("A", "a", tasks=2), "n1: bbbcccAA", evicted=2)


def test_the_lowest_priority_goes_first() -> None:
    sketch = two_queues("n1: bbbbcccc").run("b", "b", min=1, priority=60).run("c", "b", min=1, priority=40)
    check(sketch.wait("A", "a", tasks=2), "n1: bbbbccAA", evicted=2)


def test_fewer_tasks_go_rather_than_more() -> None:
    sketch = Sketch("n1: bc\nn2: dd").with_queues(queue("a", 2), queue("b", 0, weight=0))
    sketch.run("b", "b").run("c", "b").run("d", "b")
    big = Task(
        name="d-0",
        state="running",
        node="n2",
        request=gpus(2),
        devices=(DeviceShare(0, 1000), DeviceShare(1, 1000)),
    )
    sketch.change("d", tasks=(big,), groups=(Group("", 1),))
    check(sketch.wait("A", "a", gpu=2), "n1: bc\nn2: AA", evicted=1)


def test_the_youngest_goes_among_equals() -> None:
    sketch = two_queues("n1: bcdefghi", a=2, b=2)
    for minute, letter in enumerate("bcdefghi"):
        sketch.run(letter, "b", started=minute * MINUTE_MS)
    check(sketch.wait("A", "a"), "n1: bcdefghA", evicted=1)


def test_a_late_checkpoint_makes_an_eviction_cheap() -> None:
    sketch = two_queues("n1: bc", a=1, b=1).run("b", "b").run("c", "b", started=10 * MINUTE_MS)
    sketch.change("b", checkpointed_ms=NOW_MS - MINUTE_MS)
    check(sketch.wait("A", "a"), "n1: Ac", evicted=1)


def test_the_later_name_goes_last_of_all_ties() -> None:
    check(two_queues("n1: bc", a=1, b=1).run("b", "b").run("c", "b").wait("A", "a"), "n1: bA", evicted=1)


def test_minimum_runtimes_protect_minimums_but_not_extras() -> None:
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 4), queue("b", 0, min_runtime_ms=60 * MINUTE_MS))
    sketch.run("b", "b", min=2)
    check(sketch.wait("A", "a", tasks=4, min=1), "n1: bbAA", evicted=2)


def test_a_minimum_runtime_is_the_one_below_the_common_ancestor() -> None:
    queues = (queue("top"), queue("a", 4, parent="top"), queue("mid", parent="top", min_runtime_ms=0),
              queue("b", 0, parent="mid", min_runtime_ms=60 * MINUTE_MS))  # fmt: skip
    sketch = Sketch("n1: bbbb").with_queues(*queues).run("b", "b")
    check(sketch.wait("A", "a", tasks=4), "n1: AAAA", evicted=4)


def test_victims_restart_elsewhere_where_they_fit() -> None:
    sketch = Sketch("n1: bb\nn2: .").with_queues(queue("a", 2), queue("b", 0, weight=0))
    sketch.run("b", "b", min=1)
    decision = check(sketch.wait("A", "a", gpu=2), "n1: AA\nn2: b", evicted=2)
    assert [eviction.restarts_on for eviction in decision.evictions].count("n2") == 1


def test_moved_work_counts_at_every_queue_above_the_asker() -> None:
    queues = (queue("top", 2, limit=2), queue("a", 2, parent="top"), queue("b", 0, weight=0, parent="top"))
    sketch = Sketch("n1: bb\nn2: ..").with_queues(*queues).run("b", "b", min=1)
    check(sketch.wait("A", "a", gpu=2), "n1: ..\nn2: AA", evicted=2)


def test_a_limit_above_makes_siblings_give_way_though_nodes_have_room() -> None:
    queues = (queue("top", 4, limit=4), queue("a", 2, parent="top"), queue("b", 2, parent="top"))
    sketch = Sketch("n1: bbbb....").with_queues(*queues).run("b", "b", min=1)
    check(sketch.wait("A", "a", tasks=2), "n1: bb..AA..", evicted=2)


def test_cousins_compare_where_their_branches_part() -> None:
    queues = (queue("x", 4), queue("y", 4), queue("a", 0, parent="x"), queue("b", 8, parent="y"))
    sketch = Sketch("n1: bbbbbbbb").with_queues(*queues).run("b", "b", min=1)
    check(sketch.wait("A", "a", tasks=4), "n1: bbbbAAAA", evicted=4)


def test_a_gang_takes_whole_nodes_where_that_costs_least() -> None:
    sketch = Sketch("n1: bbbc\nn2: dddd\nn3: bbbb").with_queues(queue("a", 8), queue("b", 0, weight=0))
    sketch.run("b", "b", min=1).run("c", "b", priority=90).run("d", "b", min=1, priority=60)
    check(sketch.wait("A", "a", tasks=1, gpu=4), "n1: bbbc\nn2: dddd\nn3: AAAA", evicted=4)


def test_fractions_are_taken_back_from_one_gpu() -> None:
    sketch = Sketch("n1: [b5c5][d5e5]").with_queues(queue("a", 1), queue("b", 0, weight=0))
    for minute, letter in enumerate("bcde"):
        sketch.run(letter, "b", started=minute * MINUTE_MS)
    check(sketch.wait("A", "a", gpu=1), "n1: [b5c5]A", evicted=2)


def test_evictions_are_bounded() -> None:
    sketch = two_queues("n1: bbbbbbbb", policy=Policy(max_evictions=2)).run("b", "b", min=1)
    check(sketch.wait("A", "a", tasks=4, min=1), "n1: bbbbbbAA", evicted=2)


def test_no_step_on_one_node_starts_below_the_share_either() -> None:
    """b holds one more than its share: one of n1's may go for A, and not the other with it."""
    sketch = Sketch("n1: bb\nn2: b\nn3: c").with_queues(queue("a", 2), queue("b", 2), queue("c", 0))
    sketch.run("b", "b", min=0).run("c", "c", preemptible=False).wait("A", "a", gpu=2)
    check(sketch, "n1: bb\nn2: b\nn3: c", held="A", evicted=0)


def test_whoever_made_way_is_not_placed_again_in_the_same_decision() -> None:
    sketch = two_queues("n1: bbbbbbbb").run("b", "b", min=1).wait("A", "a", tasks=2)
    decision = decide(sketch.snapshot())
    assert not {eviction.task for eviction in decision.evictions} & {place.task for place in decision.places}
    # A gang goes whole, and leaves more than was asked for.
    sketch = two_queues("n1: bbb", 1, 0).run("b", "b", min=3).wait("b", "b", tasks=1, min=3).wait("A", "a")
    check(sketch, "n1: A..", held="b", evicted=3)


def test_work_within_quota_reclaims_from_above_quota_when_quotas_exceed_what_there_is() -> None:
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 4, priority=1), queue("b", 3)).run("b", "b", min=1)
    check(sketch.wait("A", "a"), "n1: bbbA", evicted=1)


def test_a_used_up_search_budget_ends_the_pass_and_is_said() -> None:
    sketch = two_queues("n1: bbbb\nn2: bbbb", policy=Policy(search_steps=1)).run("b", "b", min=1)
    sketch.wait("A", "a", tasks=2).wait("C", "a", tasks=1, submitted=9)
    decision = decide(sketch.snapshot())
    assert [place.task for place in decision.places] == ["A-0", "A-1"]
    assert "search_steps" in decision.holds[0].message


def test_whoever_turns_out_not_to_be_needed_stays() -> None:
    sketch = Sketch("n1: [b6f4]").with_queues(queue("a", 1), queue("b", 0, weight=0))
    sketch.run("b", "b").run("f", "b", priority=40).wait("A", "a", tasks=2, gpu=0.3, min=1)
    decision = check(sketch, "n1: [A6f4]", evicted=1)
    assert {place.after for place in decision.places} == {("b-0",)}


def test_evictions_are_named_in_an_order_in_which_each_may_go() -> None:
    sketch = Sketch("n1: ghg").with_queues(queue("a", 2), queue("b", 1, weight=0))
    sketch.run("g", "b", priority=40).run("h", "b", priority=60).wait("A", "a", gpu=2)
    decision = decide(sketch.snapshot())
    assert [eviction.task for eviction in decision.evictions] == ["g-0", "g-1"]


def test_work_whose_gang_has_to_go_gets_no_extras_in_the_same_decision() -> None:
    sketch = Sketch("n1: bbb").with_queues(queue("a", 1), queue("b", 0)).run("b", "b")
    sketch.wait("b", "b", tasks=1, min=3).wait("A", "a")
    check(sketch, "n1: A..", held="b", evicted=3)


def test_work_that_just_got_an_extra_keeps_its_minimum() -> None:
    sketch = Sketch("n1: bbb.").with_queues(queue("a", 2), queue("b", 0)).run("b", "b")
    sketch.wait("b", "b", tasks=1, min=3).wait("A", "a", gpu=2)
    decision = decide(sketch.snapshot())
    assert bool(decision.evictions) != any(place.task == "b-3" for place in decision.places)


def test_work_within_its_share_moves_out_of_the_way_of_who_takes_back() -> None:
    """Node 1 is the only one with two GPUs. One of b has to stop; the other is within its share, and goes on elsewhere."""
    sketch = Sketch("n1: bc\nn2: .").with_queues(queue("a", 2), queue("b", 1)).run("b", "b").run("c", "b")
    decision = check(sketch.wait("A", "a", gpu=2), "n1: AA\nn2: b", evicted=2)
    assert {(row.task, row.cause, row.restarts_on) for row in decision.evictions} == {
        ("b-0", "consolidate", "n2"),
        ("c-0", "reclaim", None),
    }


def test_work_within_its_share_stays_where_it_finds_no_new_place() -> None:
    """Two GPUs are free, on nodes with a taint."""
    sketch = Sketch("n1: bc\nn2: .").with_queues(queue("a", 2), queue("b", 1)).run("b", "b").run("c", "b")
    sketch.node("n2", taints=(Taint("key", "value", "NoSchedule"),))
    check(sketch.wait("A", "a", gpu=2), "n1: bc\nn2: .", held="A", evicted=0)


def test_nobody_moves_for_who_would_be_above_its_share() -> None:
    """Two of three GPUs are asked for, where the share is one: moves don't smuggle a reclaim past fairness."""
    sketch = Sketch("n1: bc\nn2: .").with_queues(queue("a", 1), queue("b", 2)).run("b", "b").run("c", "b")
    check(sketch.wait("A", "a", gpu=2), "n1: bc\nn2: .", held="A", evicted=0)


def test_nobody_moves_where_stopping_alone_makes_room() -> None:
    """All of c is above its share and makes way; on the other node one would do, but there b would have to move."""
    sketch = Sketch("n1: bc\nn2: cc\nn3: .").with_queues(
        queue("a", 2), queue("b", 1), queue("c", 0, weight=0)
    )
    sketch.node("n3", labels={"only": "b"}).run("b", "b", selector={}).run(
        "c", "c", min=1, selector={"only": "c"}
    )
    for name in ("n1", "n2"):
        sketch.node(name, labels={"only": "c"})
    check(sketch.wait("A", "a", gpu=2), "n1: bc\nn2: AA\nn3: .", evicted=2)


def test_who_is_within_its_share_stays_where_others_may_stop_though_it_could_move() -> None:
    """c is of lower priority and would fit on n2, where A may not go; b is above its share, and goes on there itself."""
    sketch = Sketch("n1: bbcc\nn2: ..").with_queues(queue("a", 2), queue("b", 0, weight=0), queue("c", 2))
    sketch.node("n1", labels={"only": "A"}).run("b", "b", min=0, priority=60).run(
        "c", "c", min=0, priority=40
    )
    snapshot = sketch.wait("A", "a", gpu=2, selector={"only": "A"}).snapshot()
    decision = decide(snapshot, ("allocate", "reclaim"))
    assert after(snapshot, decision) == picture("n1: AAcc\nn2: bb")
    assert {row.cause for row in decision.evictions} == {"reclaim"}


def test_a_gang_takes_back_on_nodes_that_others_leave_by_moving() -> None:
    """On both nodes that could serve one of c stops, and one of b, within its share, moves."""
    sketch = Sketch("n1: bc\nn2: bc\nn3: .\nn4: .").with_queues(
        queue("a", 4), queue("b", 2), queue("c", 0, weight=0)
    )
    sketch.run("b", "b").run("c", "c", min=1)
    check(sketch.wait("A", "a", tasks=2, gpu=2), "n1: AA\nn2: AA\nn3: b\nn4: b", evicted=4)


def test_who_asks_for_nothing_that_queues_share_takes_nothing_back() -> None:
    """A task slot is nobody's due."""
    sketch = Sketch("n1: b").node("n1", tasks=1).with_queues(queue("a", 1), queue("b", 0, weight=0))
    check(sketch.run("b", "b").wait("A", "a", gpu=0), "n1: b", held="A", evicted=0)


def test_the_last_extra_goes_first_on_whichever_of_many_nodes_it_runs() -> None:
    """More tasks than are searched exactly; each node costs the same but for the name."""
    nodes = "\n".join(f"n{number:02}: bbbb" for number in range(40))
    sketch = Sketch(nodes).with_queues(queue("a", 2), queue("b", 158)).run("b", "b", min=1)
    decision = decide(sketch.wait("A", "a", tasks=2).snapshot())
    assert [eviction.task for eviction in decision.evictions] == ["b-159", "b-158"]


def test_what_a_queue_may_hold_again_after_it_gave_is_given_out() -> None:
    """b was at its limit with room for C on n2; when one of b's has made way on n1, b may hold one more."""
    sketch = Sketch("n1: bb\nn2: ..").with_queues(queue("a", 1), queue("b", 0, limit=2))
    for name in ("n1", "n2"):
        sketch.node(name, labels={"of": name})
    sketch.run("b", "b", min=0, selector={"of": "n1"}).wait("A", "a", selector={"of": "n1"})
    check(sketch.wait("C", "b", tasks=2, min=1, selector={"of": "n2"}), "n1: bA\nn2: C.", evicted=1)


def test_who_stays_for_what_others_freed_later_breaks_no_rule() -> None:
    """Two of w go for A, as g is protected; when g goes for X, of higher priority, one of the two is within p's limit again."""
    sketch = Sketch("n1: wwwgg.....").with_queues(
        queue("p", 0, limit=5, weight=1),
        queue("a", 4, parent="p"),
        queue("b", 0, parent="p", weight=1, min_runtime_ms=40 * MINUTE_MS),
    )
    sketch.run("w", "b", min=0, priority=75).run("g", "b", min=2, priority=50)
    sketch.wait("A", "a", tasks=2).wait("X", "b", priority=75)
    decision = check(sketch, "n1: ww...AAX..", evicted=3)
    assert verify(sketch.snapshot(), decision) == ()


def test_when_a_minimum_stays_after_all_so_may_its_extras() -> None:
    """All of w goes for A, as g is protected; g goes for X and leaves two within p's limit: w's minimum and an extra."""
    sketch = Sketch("n1: wwwggg......").with_queues(
        queue("p", 0, limit=6, weight=1),
        queue("a", 4, parent="p"),
        queue("b", 0, parent="p", weight=1, min_runtime_ms=40 * MINUTE_MS),
    )
    sketch.run("w", "b", min=1, priority=75).run("g", "b", min=3, priority=50)
    sketch.change("w", started_ms=NOW_MS - 60 * MINUTE_MS).wait("A", "a", tasks=3).wait("X", "b", priority=75)
    decision = check(sketch, "n1: ww....AAAX..", evicted=4)
    assert verify(sketch.snapshot(), decision) == ()
