"""How much a decision looks at: steps, which are the same in every run. What was found once is not looked for again.

One room is copied for every decision: what running work holds, as it was read before.
"""

from __future__ import annotations

from collections import Counter

import pytest

from board import MINUTE_MS, Sketch, gpus, queue, slices
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, Expression, NodeTerm, Segments, TopologyWish
from gpumax.policy.decide import PASSES, decide
from gpumax.policy.explain import explain
from gpumax.policy.forecast import NONE
from neighbours import apart, term
from steps import steps

RECLAIM = ("allocate", "reclaim")
HOUR_MS = 60 * MINUTE_MS


def decided(snapshot: Snapshot, passes: tuple[str, ...] = tuple(PASSES)) -> Counter[str]:
    return steps(lambda: decide(snapshot, passes))


def at_most(found: Counter[str], bounds: dict[str, int]) -> None:
    """None of these more often than that; what a bound is about does happen."""
    assert {name: found[name] for name, most in bounds.items() if found[name] > most} == {}
    assert all(found[name] for name, most in bounds.items() if most)


def alike(count: int) -> Snapshot:
    """So many who ask the same in vain: nothing is free, and nobody may go."""
    sketch = Sketch("n1: bbbb\nn2: bbbb").with_queues(queue("a", 4), queue("b", 4), queue("c", 4))
    sketch.run("b", "b", preemptible=False)
    for number in range(count):
        sketch.wait(f"w{number:02}", "a")
    return sketch.snapshot()


def hard(nodes: int, gang: int, queues: str = "b", least: int = 0) -> Snapshot:
    """Every GPU is held by one-GPU tasks of others, and a gang of tasks of eight takes back."""
    rows = [
        f"n{at:03}: " + "".join(queues[(at + column) % len(queues)] for column in range(8))
        for at in range(nodes)
    ]
    sketch = Sketch("\n".join(rows)).with_queues(
        queue("a", 8 * gang), *(queue(name, 0, weight=0) for name in queues)
    )
    for name in queues:
        sketch.run(name, name, min=least)
    return sketch.wait("A", "a", tasks=gang, gpu=8).snapshot()


def many(tasks: int, gpu: float = 1, nodes: int = 20) -> Snapshot:
    """So many that ask the same on empty nodes that are alike."""
    sketch = Sketch("\n".join(f"n{at:03}: ...." for at in range(nodes))).with_queues(queue("q", 999))
    for number in range(tasks):
        sketch.wait(f"w{number:03}", "q", gpu=gpu)
    return sketch.snapshot()


def test_those_who_ask_the_same_in_vain_are_looked_at_once() -> None:
    """By every pass, and for the reason why they wait; each further one costs little more than its place in the order."""
    one, thirty = decided(alike(1)), decided(alike(30))
    once = dict.fromkeys(
        ("Placer.arrange", "Placer.spot", "Fits._look", "_Taking._serve", "search", "Reasons._reason", "Lacks._measure", "shortfall"), 1
    )  # fmt: skip
    at_most(
        thirty,
        {
            **once,
            "Fairness.__init__": 2,
            "sibling_key": 2,
            "Room.copy": 1,
            "Room.view": 2,
            "Asks._intern": 31 + 8,
        },
    )
    assert sum(thirty.values()) - sum(one.values()) <= 29 * 140


def test_reclaim_opens_one_node_a_task_however_many_there_are() -> None:
    """The others are told apart by bounds, looked up once; a trial copies the rooms once, and no more where the gang is larger."""
    bounds = {
        "opening": 4, "Candidates.cheapest": 4, "Candidates._open": 10, "Candidates.cheapest>heappop": 3, "bounds": 1, "Pool.freed": 1,
        "Room.copy": 4, "Ledger.copy": 1, "Room.view>copy": 6, "Fits._look": 3, "_fits_on": 6, "Fairness.may_go": 32, "rehome": 32,
        "Trial.__init__": 1, "_Taking._make_room": 1, "Pool.givers": 1, "Fairness.height": 43,
    }  # fmt: skip
    at_most(decided(hard(40, 4), RECLAIM), bounds)
    at_most(decided(hard(120, 4), RECLAIM), bounds)
    larger = decided(hard(40, 8), RECLAIM)
    at_most(
        larger,
        {
            "opening": 8,
            "Candidates._open": 22,
            "Room.copy": 4,
            "Ledger.copy": 1,
            "Room.view>copy": 6,
            "Fits._look": 3,
            "bounds": 1,
        },
    )


def test_where_two_queues_share_every_node_it_grows_as_the_nodes_do() -> None:
    """Who gives there together is found by opening each node once, and then not again."""
    some, twice = decided(hard(40, 4, "bc"), RECLAIM), decided(hard(80, 4, "bc"), RECLAIM)
    at_most(
        some,
        {
            "opening": 40,
            "Candidates._open": 50,
            "Candidates._second": 40,
            "Room.copy": 4,
            "Fairness.may_go": 1_460,
        },
    )
    at_most(
        twice,
        {
            "opening": 80,
            "Candidates._open": 90,
            "Candidates._second": 80,
            "Room.copy": 4,
            "Fairness.may_go": 2_900,
        },
    )
    assert sum(twice.values()) <= 2.1 * sum(some.values())


def test_a_large_elastic_gang_costs_steps_as_it_has_tasks() -> None:
    """Its minimum may go only with all its extras, wherever they are: to spare of them whom it can takes no look at every pair."""
    some, twice = decided(hard(40, 4, "bc", least=1), RECLAIM), decided(hard(80, 4, "bc", least=1), RECLAIM)
    assert sum(twice.values()) <= 2.1 * sum(some.values())


def test_preempt_looks_for_nobody_where_nobody_is_lower() -> None:
    """All of one priority: the search for victims doesn't begin."""
    sketch = Sketch("n1: bbbb").with_queues(queue("q", 4)).run("b", "q")
    for number in range(9):
        sketch.wait(f"w{number}", "q", gpu=1 + number % 3)
    found = decided(sketch.snapshot(), ("allocate", "preempt"))
    at_most(found, {"_Taking.__init__": 0, "Seniority.__init__": 0, "Pool.__init__": 0, "Placer.arrange": 3})


def test_victims_that_are_alike_are_one_choice() -> None:
    """Of sixteen equal ones the first set of three is the answer; where none is enough, each number from each of two nodes is tried once."""
    sketch = (
        Sketch("n1: " + "b" * 16).with_queues(queue("a", 16), queue("b", 0, weight=0)).run("b", "b", min=0)
    )
    sketch.wait("A", "a", gpu=3)
    at_most(
        decided(sketch.snapshot(), RECLAIM),
        {"_Search._spots": 4, "Trial.__init__": 4, "Candidates.cheapest": 0},
    )
    sketch = (
        Sketch("n1: bbbbc\nn2: bbbbc")
        .with_queues(queue("a", 16), queue("b", 0, weight=0), queue("c", 2))
        .run("b", "b", min=0)
    )
    sketch.run("c", "c", preemptible=False).wait("A", "a", gpu=5)
    at_most(decided(sketch.snapshot(), RECLAIM), {"_Search._spots": 24, "Candidates._heaps_of": 0})


def test_what_fits_nowhere_even_if_all_go_is_not_searched_for_long() -> None:
    """Sets of those on one node: eight there are that grow one by one, of each of two nodes."""
    sketch = (
        Sketch("n1: bbc\nn2: bbc")
        .with_queues(queue("a", 16), queue("b", 0, weight=0), queue("c", 2))
        .run("b", "b", min=0)
    )
    sketch.run("c", "c", preemptible=False).wait("A", "a", tasks=2, gpu=2).wait("D", "a", gpu=2, priority=40)
    found = decided(sketch.snapshot(), RECLAIM)
    at_most(found, {"_Search._spots": 9, "_Taking._search": 1})


def test_moves_are_tried_on_sixteen_nodes_at_most() -> None:
    """Forty half-full ones, of which none can be emptied for all: what is given up is thrown away, not undone."""
    sketch = (
        Sketch("\n".join(f"n{at:03}: bb.." for at in range(40))).with_queues(queue("q", 99)).run("b", "q")
    )
    found = decided(sketch.wait("A", "q", tasks=2, gpu=4).snapshot(), ("allocate", "consolidate"))
    at_most(
        found,
        {
            "rehouse": 16,
            "Trial.fork": 16,
            "Candidates.cheapest": 16,
            "Candidates._open": 616,
            "opening": 601,
            "Room.copy": 71,
        },
    )
    few = Sketch("\n".join(f"n{at:03}: bb.." for at in range(6))).with_queues(queue("q", 99)).run("b", "q")
    found = decided(few.wait("A", "q", tasks=2, gpu=4).snapshot(), ("allocate", "consolidate"))
    at_most(
        found,
        {"_Search._spots": 3, "rehouse": 3, "Room.copy": 21, "Ground._can_move": 1, "Ground.could_hold": 2},
    )


@pytest.mark.parametrize("nodes", [20, 60])
def test_each_task_that_is_placed_looks_at_the_node_that_changed(nodes: int) -> None:
    """All nodes are looked at once; no room is copied. Ties are looked at where nodes are in the same state, of which a full one is none."""
    at_most(
        decided(many(20, nodes=nodes)),
        {"Fits._look": 1, "_fits_on": 19, "_look": 1, "_look_at": 19, "Room.copy": 1, "Room.view>copy": 0, "Scores.best": 20,
         "Placer.arrange": 20, "sibling_key": 20, "Fragments.fewest": 5, "Fragments.more": 0, "_refusal": nodes, "_liking": nodes},
    )  # fmt: skip
    at_most(
        decided(many(20, 0.5, nodes)),
        {"Fits._look": 1, "_fits_on": 19, "Fragments.fewest": 3, "Fragments.more": 0, "Room.copy": 1},
    )


def test_fragments_are_measured_once_for_each_state_of_a_node() -> None:
    """Two GPUs are free on each, on half of the nodes in parts; what comes of that are two states."""
    rows = "\n".join(f"n{at:02}: bb..\nm{at:02}: b[b5][b5]." for at in range(8))
    sketch = Sketch(rows).with_queues(queue("q", 99)).run("b", "q")
    for number in range(16):
        sketch.wait(f"w{number:02}", "q", tasks=1, gpu=2 if number % 2 else 1)
    at_most(decided(sketch.snapshot()), {"Fragments.more": 2, "typical": 1})


def test_a_set_of_slices_is_laid_out_once() -> None:
    """Twelve tasks on eight GPUs that are cut: states come again and again."""
    sketch = Sketch("\n".join(f"n{at}: (.)(.)" for at in range(4))).with_queues(queue("q", 99))
    for number in range(12):
        sketch.wait(f"w{number:02}", "q", request=slices(1 + number % 3))
    at_most(decided(sketch.snapshot()), {"Kind._can_hold": 66, "_lay": 18, "Fits._look": 3, "_fits_on": 13})


def racks(nodes: int) -> Sketch:
    sketch = Sketch("\n".join(f"n{at:03}: .." for at in range(nodes))).with_queues(queue("q", 999))
    places = {(at // 4 % 2, at % 4): [] for at in range(8)}  # type: dict[tuple[int, int], list[str]]
    for at in range(nodes):
        places[at // 4 % 2, at % 4].append(f"n{at:03}")
    return sketch.stand(**{f"z{zone}__r{rack}": " ".join(names) for (zone, rack), names in places.items()})


def test_a_gang_is_laid_out_in_domains_that_have_room_by_count() -> None:
    """No domain is tried that can't hold it, and the first that can is the answer; a gang that is too large is tried nowhere."""
    near = racks(32).wait("A", "q", tasks=12).change("A", topology=TopologyWish("default", "zone", "rack"))
    at_most(
        decided(near.snapshot()),
        {"Layout._regions": 2, "Regions.__init__": 1, "Fits.most": 3, "Layout._siblings_fit": 2, "Placer.spot": 16, "Room.copy": 2, "Level.__init__": 2},
    )  # fmt: skip
    cut = TopologyWish("default", "zone", None, Segments(2, "rack"))
    found = decided(racks(32).wait("A", "q", tasks=12).change("A", topology=cut).snapshot())
    at_most(
        found,
        {
            "Layout._regions": 8,
            "Regions.__init__": 7,
            "Placer.together": 6,
            "Placer.spot": 12,
            "Room.copy": 13,
        },
    )
    full = racks(8).wait("A", "q", tasks=20).change("A", topology=TopologyWish("default", "zone", "rack"))
    at_most(
        decided(full.snapshot(), ("allocate",)),
        {"Layout._regions": 2, "Layout._siblings_fit": 1, "Placer.together": 1},
    )


def test_tasks_that_keep_apart_are_placed_one_by_one() -> None:
    """What ties them is read once, and each counts where it stands in two crowds: of all, and of those who have just come."""
    sketch = Sketch("\n".join(f"n{at:03}: .." for at in range(16))).with_queues(queue("q", 99))
    for at in range(16):
        sketch.node(f"n{at:03}", labels={"host": f"n{at:03}"})
    sketch.wait("A", "q", tasks=16, labels={"app": "x"}, affinity=apart(term("host", app="x")))
    at_most(
        decided(sketch.snapshot()),
        {
            "Ties._read": 1,
            "Crowd.count": 32,
            "Gather.in_turn": 1,
            "Placer.spot": 16,
            "Room.copy": 2,
            "Fits._look": 1,
        },
    )


def test_room_is_kept_and_gone_around_with_few_looks() -> None:
    """The moment is found by halves, and those who come after the gang share one view of what is left for them."""
    sketch = (
        Sketch("\n".join(f"n{at}: bb.." for at in range(3)))
        .with_queues(queue("q", 99))
        .run("b", "q", max_duration_ms=HOUR_MS)
    )
    sketch.wait("G", "q", gpu=4, submitted=-MINUTE_MS)
    for number in range(10):
        sketch.wait(f"w{number}", "q", submitted=1 + number)
    snapshot = sketch.snapshot()
    found = steps(lambda: decide(snapshot, ("allocate",), effort=NONE))
    at_most(
        found,
        {
            "_earliest": 1,
            "_at": 1,
            "Reservations.consider": 7,
            "Reservations.find": 10,
            "_Ground.__init__": 2,
            "Room.copy": 11,
        },
    )


def test_a_forecast_decides_once_a_moment_and_ends_with_its_tasks() -> None:
    """Of eight that wait each starts at a moment of its own; forty that start one after the other are decided on as far as the budget of tasks goes."""
    sketch = Sketch("n1: bbcc").with_queues(queue("q", 99)).run("b", "q", max_duration_ms=HOUR_MS)
    sketch.run("c", "q", max_duration_ms=HOUR_MS + HOUR_MS // 2)
    for number in range(8):
        sketch.wait(f"w{number:02}", "q", gpu=2, max_duration_ms=HOUR_MS // 3)
    at_most(decided(sketch.snapshot()), {"decided": 17, "Future.follow": 16, "_Ahead.run": 0})
    sketch = Sketch("n1: b").with_queues(queue("q", 99)).run("b", "q", max_duration_ms=HOUR_MS)
    for number in range(40):
        sketch.wait(f"w{number:02}", "q", max_duration_ms=MINUTE_MS)
    at_most(decided(sketch.snapshot()), {"decided": 56, "Future.follow": 55})


def test_an_explanation_takes_sixteen_decisions_at_most() -> None:
    """However many moments there are at which somebody's minimum runtime ends: they are halved."""
    sketch = Sketch("n1: bcdefgh").with_queues(queue("a", 7))
    for number, name in enumerate("bcdefgh"):
        sketch.with_queues(queue(name, 0, min_runtime_ms=(31 + number) * MINUTE_MS)).run(name, name)
    snapshot = sketch.wait("A", "a", request=gpus(4)).snapshot()
    decision = decide(snapshot)
    found = steps(lambda: explain(snapshot, decision, "A"))
    at_most(found, {"Needs.starts": 5})


def test_victims_are_looked_for_where_they_could_make_room() -> None:
    """Those of another pool, where A may not go, are in no set."""
    sketch = Sketch("n1: bb\nn2: cc\nn3: cc\nn4: cc").with_queues(
        queue("a", 8), queue("b", 0, weight=0), queue("c", 0, weight=0)
    )
    sketch.node("n1", pool="p").run("b", "b", min=0).run("c", "c", min=0, priority=40)
    found = decided(sketch.wait("A", "a", gpu=2, pool="p").snapshot(), RECLAIM)
    at_most(found, {"_Search._spots": 2, "_Search._grow>heappush": 2})


def test_ties_cost_only_those_who_are_tied() -> None:
    """Others are not asked again when somebody has come; tasks of two kinds share what their node affinity says of nodes."""
    sketch = Sketch("n1: bb.\nn2: bb.").with_queues(queue("q", 99)).run("b", "q", preemptible=False)
    for name in ("n1", "n2"):
        sketch.node(name, labels={"host": name})
    zone = NodeTerm((Expression("host", "Exists"),))
    for app in ("x", "y"):
        wishes = Affinity((zone,), apart=Company((term("host", app=app),)))
        sketch.wait(app, "q", labels={"app": app}, affinity=wishes, gpu=1, priority=60)
    for number in range(6):
        sketch.wait(f"w{number}", "q", gpu=2 + number)
    found = decided(sketch.snapshot(), ("allocate",))
    at_most(found, {"_Giving._find": 8, "_refusal": 4, "Ties._read": 4})


def test_preempt_of_one_queue_compares_no_queues() -> None:
    """Bounds by queue are for reclaim."""
    sketch = (
        Sketch("\n".join(f"n{at:02}: bbbb" for at in range(40)))
        .with_queues(queue("q", 160))
        .run("b", "q", priority=40, min=0)
    )
    found = decided(sketch.wait("A", "q", gpu=2, priority=60).snapshot(), ("allocate", "preempt"))
    at_most(found, {"bounds": 1, "_by_owner": 0, "opening": 1})


def test_slices_that_do_not_all_fit_are_tried_once_in_each_state() -> None:
    """Nine of two parts on four GPUs that take two each: which goes where is all one."""
    sketch = Sketch("n1: (b3)(b3)(b3)(b3)").with_queues(queue("q", 99)).run("b", "q", preemptible=False)
    found = decided(sketch.wait("A", "q", request=slices(*[2] * 9)).snapshot(), ("allocate",))
    at_most(found, {"_lay.<locals>.go": 31, "_options": 33})
