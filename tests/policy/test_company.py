"""Work that has to be near other work, or away from it: Kubernetes' rules, for whole gangs, and with victims in view."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import Sketch, check, queue
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision
from gpumax.model.workload import Affinity, Company, DeviceShare, Expression, Group, Task, TaskTerm
from gpumax.policy.decide import decide
from gpumax.policy.explain import explain
from neighbours import anyones, apart, near, term

pytestmark = pytest.mark.usefixtures("both_searches")

DB = {"app": "db"}
WEB = {"app": "web"}


def cluster(nodes: str, **zones: str) -> Sketch:
    """Queue q owns the cluster, p may use what is left. Every node is a host; `a="n1 n2"` puts some into a zone."""
    sketch = Sketch(nodes).with_queues(queue("q", 64), queue("p", 0, weight=1))
    where = {name: zone for zone, names in zones.items() for name in names.split()}
    for line in nodes.splitlines():
        name = line.split(":")[0]
        sketch.node(name, labels={"host": name} | ({"zone": where[name]} if name in where else {}))
    return sketch


def sound(sketch: Sketch, decision: Decision) -> None:
    """The independent check finds nothing."""
    assert verify(sketch.snapshot(), decision) == ()


def told(sketch: Sketch) -> tuple[str, str, dict[str, int]]:
    """Code, message and nodes of the one hold."""
    (hold,) = decide(sketch.snapshot()).holds
    return hold.code, hold.message, hold.nodes


# away


def test_tasks_that_keep_each_other_away_go_to_a_node_each() -> None:
    """Packing alone would put all three on n1."""
    sketch = cluster("n1: ....\nn2: ....\nn3: ....").wait(
        "A", "q", 3, labels=WEB, affinity=apart(term(**WEB))
    )
    sound(sketch, check(sketch, "n1: A...\nn2: A...\nn3: A..."))


def test_a_gang_that_keeps_itself_apart_waits_as_a_whole_where_nodes_are_too_few() -> None:
    """Three hosts are needed and two are there: no two of three start."""
    sketch = cluster("n1: ....\nn2: ....").wait("A", "q", 3, labels=WEB, affinity=apart(term(**WEB)))
    check(sketch, "n1: ....\nn2: ....", held="A")
    assert told(sketch)[:2] == (
        "TaskAffinity",
        "needs 3 x 1 GPU together, away from any task with app=web in its host; "
        "even on empty nodes they can't all be so far apart, so it can never start",
    )


def test_work_keeps_away_from_what_runs_in_the_whole_zone() -> None:
    """n2 is another host than n1, and the same zone."""
    sketch = cluster("n1: b.\nn2: b.\nn3: ..", a="n1 n2", b="n3").run("b", "q", labels=DB)
    check(sketch.wait("A", "q", affinity=apart(term("zone", **DB))), "n1: b.\nn2: b.\nn3: A.")


def test_what_runs_keeps_others_away_that_ask_for_nothing_themselves() -> None:
    """Anti-affinity is symmetric: b must be away from web, so web must be away from b."""
    sketch = cluster("n1: b.\nn2: ..").run("b", "q", labels=DB, affinity=apart(term(**WEB)))
    sketch.wait("A", "q", labels=WEB).wait("C", "q", labels=DB, submitted=1)
    sound(sketch, check(sketch, "n1: bC\nn2: A."))


def test_a_node_without_the_label_is_near_nobody() -> None:
    """n1 is in no zone: nobody is in one zone with it."""
    sketch = cluster("n1: b.\nn2: ..", a="n2").run("b", "q", labels=DB)
    check(sketch.wait("A", "q", affinity=apart(term("zone", **DB))), "n1: bA\nn2: ..")


# near


def test_work_goes_near_the_task_that_it_needs() -> None:
    """n3 is fuller, and in another zone."""
    sketch = cluster("n1: b...\nn2: ....\nn3: ccc.", a="n1 n2", b="n3").run("b", "q", labels=DB).run("c", "q")
    sketch.wait("A", "q", 2, gpu=3, affinity=near(term("zone", **DB)))
    sound(sketch, check(sketch, "n1: bAAA\nn2: AAA.\nn3: ccc."))


def test_nothing_starts_where_nobody_is_whom_it_needs() -> None:
    """Both nodes have room."""
    sketch = cluster("n1: b.\nn2: ..", a="n1", b="n2").run("b", "q")
    sketch.wait("A", "q", affinity=near(term("zone", **DB)))
    check(sketch, "n1: b.\nn2: ..", held="A")
    assert told(sketch) == (
        "TaskAffinity",
        "needs 1 GPU, near a task with app=db in its zone; 2 nodes have room, but 2 are not near the tasks that it must be near",
        {"TaskAffinityMismatch": 2},
    )


def test_a_node_without_the_label_never_satisfies() -> None:
    """The task it needs is on the only node that has room, which is in no zone."""
    sketch = cluster("n1: b.").run("b", "q", labels=DB).wait("A", "q", affinity=near(term("zone", **DB)))
    code, message, _ = told(sketch)
    assert code == "NoNodeMatches"
    assert "no node that may take it has the label zone" in message


def test_the_first_of_its_kind_needs_nobody_and_the_rest_of_the_gang_follows_it() -> None:
    """Of the zones only b has room for all five; a alone would have been fuller."""
    sketch = cluster("n1: ...\nn2: ...\nn3: ...", a="n1", b="n2 n3")
    sketch.wait("A", "q", 5, labels=WEB, affinity=near(term("zone", **WEB)))
    sound(sketch, check(sketch, "n1: ...\nn2: AAA\nn3: AA."))


def test_who_is_not_the_first_of_its_kind_has_to_join_the_others() -> None:
    """One of its kind runs in a, where there is no room."""
    sketch = cluster("n1: bb\nn2: ..", a="n1", b="n2").run("b", "q", labels=WEB)
    check(sketch.wait("A", "q", labels=WEB, affinity=near(term("zone", **WEB))), "n1: bb\nn2: ..", held="A")


def test_whoever_satisfies_one_required_term_must_be_meant_by_all() -> None:
    """As in Kubernetes: b is db in the zone and c web on the host, but nobody is both."""
    sketch = cluster("n1: b..\nn2: c..", a="n1 n2").run("b", "q", labels=DB).run("c", "q", labels=WEB)
    terms = (TaskTerm("zone", term(**DB).labels), TaskTerm("host", (Expression("app", "In", ("web",)),)))
    check(sketch.wait("A", "q", affinity=near(*terms)), "n1: b..\nn2: c..", held="A")


def test_the_first_of_its_kind_may_stand_alone_though_the_next_of_its_gang_is_joined() -> None:
    """A-0 comes first and needs nobody; A-2 comes to A-1, which needs nobody anyhow."""
    sketch = cluster("n1: .\nn2: ..").wait("A", "q", 3, min=2, labels=WEB)
    first, second, third = sketch.workloads["A"].tasks
    first, third = (replace(task, affinity=near(term(**WEB))) for task in (first, third))
    sketch.change("A", tasks=(first, second, third))
    decision = check(sketch, "n1: A\nn2: AA")
    assert decision.places[0].node == "n1"
    sound(sketch, decision)


def test_who_needs_others_may_come_before_and_after_whom_it_needs() -> None:
    """Two on n1, the first of their kind; then A-3, which needs nobody, on n2, and the third beside it."""
    sketch = cluster("n0: .\nn1: ..\nn2: ..").wait("A", "q", 4, labels=WEB, affinity=near(term(**WEB)))
    *needy, last = sketch.workloads["A"].tasks
    sketch.change("A", tasks=(*needy, replace(last, affinity=None)))
    sound(sketch, check(sketch, "n0: .\nn1: AA\nn2: AA"))


def test_tasks_of_one_gang_that_need_each_other_come_together() -> None:
    """Neither could be first by itself; the only zone with room for both is b."""
    sketch = cluster("n1: .\nn2: .\nn3: .", a="n1", b="n2 n3").wait("A", "q", 2)
    one, two = sketch.workloads["A"].tasks
    tasks = (
        replace(one, labels=DB, affinity=near(term("zone", **WEB))),
        replace(two, labels=WEB, affinity=near(term("zone", **DB))),
    )
    sound(sketch, check(sketch.change("A", tasks=tasks), "n1: .\nn2: A\nn3: A"))


def test_work_that_needs_work_of_the_same_decision_is_placed_beside_it() -> None:
    """A is asked first, and again when B has come."""
    sketch = cluster("n1: ..\nn2: ..").wait("A", "q", affinity=near(term(**DB)))
    sketch.wait("B", "q", 1, labels=DB, submitted=5)
    sound(sketch, check(sketch, "n1: BA\nn2: .."))


# whom a term means


@pytest.mark.parametrize(
    ("meant", "picture"),
    [
        (term(**DB), "n1: bA\nn2: .."),
        (anyones(**DB), "n1: b.\nn2: A."),
        (TaskTerm("host", term(**DB).labels, ("p",)), "n1: b.\nn2: A."),
        (TaskTerm("host", term(**DB).labels, ("q",)), "n1: bA\nn2: .."),
        (
            TaskTerm(
                "host",
                term(**DB).labels,
                queue_labels=(Expression("kubernetes.io/metadata.name", "In", ("p",)),),
            ),
            "n1: b.\nn2: A.",
        ),
        (TaskTerm("host", (), ("p",)), "n1: b.\nn2: A."),
        (TaskTerm("host", None, ("p",)), "n1: bA\nn2: .."),
        (TaskTerm("host", (), ("p",), same=("app",)), "n1: bA\nn2: .."),
        (TaskTerm("host", (), ("p",), other=("app",)), "n1: b.\nn2: A."),
    ],
)
def test_a_term_means_tasks_of_its_own_queue_unless_it_names_others(meant: TaskTerm, picture: str) -> None:
    """b is db, of queue p; A is web, of queue q, and would be packed onto n1."""
    sketch = cluster("n1: b.\nn2: ..").run("b", "p", labels=DB)
    check(sketch.wait("A", "q", labels=WEB, affinity=apart(meant)), picture)


def test_a_tasks_own_label_comes_before_that_of_its_workload() -> None:
    """b is web by its workload, and db by itself."""
    sketch = cluster("n1: b.\nn2: ..").run("b", "q", labels=WEB)
    sketch.change("b", tasks=(replace(sketch.workloads["b"].tasks[0], labels=DB),))
    check(sketch.wait("A", "q", affinity=apart(term(**WEB))), "n1: bA\nn2: ..")


# preferred


def test_what_is_preferred_comes_before_packing() -> None:
    """n1 would be packed first."""
    sketch = cluster("n1: cc.\nn2: b..").run("b", "q", labels=DB).run("c", "q")
    wish = Affinity(near=Company((), ((1, term(**DB)),)))
    check(sketch.wait("A", "q", affinity=wish), "n1: cc.\nn2: bA.")


def test_every_task_that_is_meant_adds_its_weight_and_away_takes_it() -> None:
    """Two of b weigh more than one of c; of d it would rather be away."""
    sketch = (
        cluster("n1: c...\nn2: bb..\nn3: bbd.")
        .run("b", "q", labels=DB)
        .run("c", "q", labels=DB)
        .run("d", "q", labels=WEB)
    )
    wish = Affinity(near=Company((), ((10, term(**DB)),)), apart=Company((), ((50, term(**WEB)),)))
    check(sketch.wait("A", "q", affinity=wish), "n1: c...\nn2: bbA.\nn3: bbd.")


def test_what_runs_draws_and_drives_those_that_it_means() -> None:
    """Preferred terms are symmetric in the score: b wants web near, c would rather not."""
    sketch = cluster("n1: cc.\nn2: b..\nn3: ...")
    sketch.run("b", "q", affinity=Affinity(near=Company((), ((5, term(**WEB)),))))
    sketch.run("c", "q", affinity=Affinity(apart=Company((), ((5, term(**WEB)),))))
    check(sketch.wait("A", "q", labels=WEB), "n1: cc.\nn2: bA.\nn3: ...")


def test_a_wish_that_can_not_be_met_keeps_nobody_waiting() -> None:
    """Preferred only."""
    sketch = cluster("n1: b.").run("b", "q", labels=DB)
    wish = Affinity(apart=Company((), ((100, term(**DB)),)))
    check(sketch.wait("A", "q", affinity=wish), "n1: bA")


# whoever leaves


def test_a_place_waits_for_whoever_is_leaving_and_keeps_it_away() -> None:
    """It has room on n1 now, but b, which is leaving, is still there; and nowhere else is any."""
    sketch = (
        cluster("n1: b.")
        .run("b", "q", labels=DB, state_="releasing")
        .wait("A", "q", affinity=apart(term(**DB)))
    )
    (place,) = decide(sketch.snapshot()).places
    assert (place.node, place.after) == ("n1", ("b-0",))
    sound(sketch, decide(sketch.snapshot()))


def test_whoever_is_leaving_is_near_nobody() -> None:
    """b is about to be gone: nothing starts for its sake."""
    sketch = (
        cluster("n1: b.")
        .run("b", "q", labels=DB, state_="releasing")
        .wait("A", "q", affinity=near(term(**DB)))
    )
    decision = decide(sketch.snapshot())
    assert [hold.code for hold in decision.holds] == ["TaskAffinity"]
    sound(sketch, decision)


# victims


def test_who_keeps_it_away_is_reclaimed_though_there_is_room() -> None:
    """Of p's work only b is in the way, in a zone with room on another node; c stays."""
    sketch = (
        cluster("n1: b.\nn2: ...\nn3: cc", a="n1 n2", b="n3")
        .run("b", "p", labels=DB)
        .run("c", "p", preemptible=False)
    )
    wish = apart(anyones("zone", **DB))
    sketch.wait("A", "q", 1, 3, affinity=wish)
    decision = decide(sketch.snapshot())
    assert [(row.task, row.cause, row.restarts_on) for row in decision.evictions] == [
        ("b-0", "reclaim", None)
    ]
    assert [(row.node, row.after) for row in decision.places] == [("n2", ("b-0",))]
    sound(sketch, decision)


def test_nobody_is_evicted_whom_the_asker_needs() -> None:
    """b is what it must be near; c goes instead, though it has run for longer."""
    sketch = cluster("n1: bc").run("b", "p", labels=DB, started=5).run("c", "p")
    sketch.wait("A", "q", affinity=near(anyones(**DB)))
    decision = check(sketch, "n1: bA", evicted=1)
    sound(sketch, decision)


def test_one_of_several_whom_the_asker_needs_may_go() -> None:
    """Either of the two is enough; the one that has run for less time goes."""
    sketch = cluster("n1: bc").run("b", "p", labels=DB, started=5).run("c", "p", labels=DB)
    sketch.wait("A", "q", affinity=near(anyones(**DB)))
    decision = check(sketch, "n1: Ac", evicted=1)
    sound(sketch, decision)


def test_the_last_of_its_own_kind_may_go() -> None:
    """When b has left, the asker is the first of its kind, and needs nobody."""
    sketch = cluster("n1: b").run("b", "p", labels=DB)
    sketch.wait("A", "q", labels=DB, affinity=near(anyones(**DB)))
    decision = check(sketch, "n1: A", evicted=1)
    sound(sketch, decision)


def test_nobody_counts_on_whom_it_moves() -> None:
    """b could move from n1 to n2, where A would be near it; but when A is to start, b is nowhere yet."""
    sketch = cluster("n1: bc\nn2: ..").run("b", "q", labels=DB).run("c", "q", preemptible=False)
    check(sketch.wait("A", "q", affinity=near(term(**DB))), "n1: bc\nn2: ..", held="A", evicted=0)


def test_nobody_starts_beside_whom_another_moves() -> None:
    """For A b moves to n2, where B would be near it; B waits until b is there."""
    sketch = cluster("n1: b...\nn2: cc..").run("b", "q", labels=DB).run("c", "q", preemptible=False)
    sketch.wait("A", "q", gpu=4).wait("B", "q", affinity=near(term(**DB)), selector={"host": "n2"})
    decision = check(sketch, "n1: AAAA\nn2: ccb.", held="B", evicted=1)
    sound(sketch, decision)
    found = replace(
        decision,
        places=(
            *decision.places,
            replace(decision.places[0], task="B-0", node="n2", devices=(DeviceShare(3, 1000),), after=()),
        ),
        holds=(),
    )
    assert [(row.rule, row.workload) for row in verify(sketch.snapshot(), found)] == [(9, "B")]


def test_nobody_is_evicted_whom_another_needs_who_has_just_come() -> None:
    """B has come to be near b; for A c goes, though it has run for longer."""
    sketch = cluster("n1: bc.").run("b", "p", labels=DB, started=5).run("c", "p")
    sketch.wait("B", "q", affinity=near(anyones(**DB)), submitted=-5).wait("A", "q")
    decision = check(sketch, "n1: bAB", evicted=1)
    sound(sketch, decision)


def test_two_who_need_each_other_are_not_enough_where_whom_they_came_to_goes() -> None:
    """A-1 comes to be near b on n1; for A-2 the other b may not go, though A-2 would be near A-1 then."""
    sketch = cluster("n1: bb\nn2: ..").run("b", "p", labels=DB, min=0)
    sketch.wait("C", "q", labels=DB, submitted=-5).wait("A", "q", tasks=3, min=1, labels=DB)
    first, *others = sketch.workloads["A"].tasks
    rest = [replace(task, affinity=near(anyones(**DB))) for task in others]
    decision = check(sketch.change("A", tasks=(first, *rest)), "n1: bA\nn2: CA", evicted=1)
    sound(sketch, decision)


def test_nobody_is_evicted_where_that_opens_nothing() -> None:
    """c on n2 could go, but n2 is not near b, and b itself is what is needed."""
    sketch = cluster("n1: b\nn2: c").run("b", "p", labels=DB).run("c", "p")
    sketch.wait("A", "q", affinity=near(anyones(**DB)))
    check(sketch, "n1: b\nn2: c", held="A", evicted=0)


def test_work_of_higher_priority_preempts_what_keeps_it_away() -> None:
    """Inside a queue."""
    sketch = cluster("n1: b.").run("b", "q", labels=DB, priority=40)
    decision = check(sketch.wait("A", "q", affinity=apart(term(**DB))), "n1: .A", evicted=1)
    sound(sketch, decision)


def test_what_keeps_it_away_moves_where_that_is_enough() -> None:
    """Of the two that keep it away the later name moves, and goes on."""
    sketch = cluster("n1: b..\nn2: c..", a="n1", b="n2").run("b", "q", labels=DB).run("c", "q", labels=WEB)
    both = term("zone", **WEB), term("zone", **DB)
    decision = check(sketch.wait("A", "q", affinity=apart(*both)), "n1: bc.\nn2: .A.")
    assert [(row.task, row.cause, row.restarts_on) for row in decision.evictions] == [
        ("c-0", "consolidate", "n1")
    ]
    sound(sketch, decision)


def test_work_that_keeps_others_of_its_kind_away_moves_past_its_own_old_place() -> None:
    """b moves within its zone: it is not kept away by itself."""
    sketch = cluster("n1: b.\nn2: ..", a="n1 n2").run("b", "q", labels=DB, affinity=apart(term("zone", **DB)))
    decision = check(sketch.wait("A", "q", gpu=2).wait("C", "q", gpu=1, submitted=1), "n1: bC\nn2: AA")
    sound(sketch, decision)
    sketch = (
        cluster("n1: b.\nn2: c...", a="n1 n2")
        .run("b", "q", labels=DB, affinity=apart(term("zone", **DB)))
        .run("c", "q")
    )
    sketch.node("n1", pool="p").wait("A", "q", gpu=2, pool="p")
    sound(sketch, check(sketch, "n1: AA\nn2: cb..", evicted=1))


# gangs of groups, elastic work


def test_a_leader_and_its_workers_may_have_terms_of_their_own() -> None:
    """Workers on hosts of their own, all in the zone of the leader; only zone b has three hosts."""
    sketch = cluster("n1: ..\nn2: ..\nn3: ..\nn4: ..\nn5: ..", a="n1 n2", b="n3 n4 n5").wait("A", "q", 4)
    lead = Task("A-0", "lead", labels=DB, request=sketch.workloads["A"].tasks[0].request)
    wish = Affinity(near=Company((term("zone", **DB),)), apart=Company((term(**WEB),)))
    rest = tuple(
        replace(task, group="work", labels=WEB, affinity=wish) for task in sketch.workloads["A"].tasks[1:]
    )
    sketch.change("A", tasks=(lead, *rest), groups=(Group("lead", 1), Group("work", 3)))
    decision = check(sketch, "n1: ..\nn2: ..\nn3: AA\nn4: A.\nn5: A.")
    sound(sketch, decision)


def test_extras_come_as_long_as_there_is_a_node_for_each() -> None:
    """Elastic: one of four, at most one a host."""
    sketch = cluster("n1: ..\nn2: ..\nn3: ..").wait(
        "A", "q", 4, min=1, labels=WEB, affinity=apart(term(**WEB))
    )
    sound(sketch, check(sketch, "n1: A.\nn2: A.\nn3: A."))


# why


def test_why_says_which_nodes_fail_for_what() -> None:
    """One is not near, one is near and too near to c, on one b keeps it away."""
    sketch = cluster("n1: b.\nn2: c.\nn3: d.", a="n1 n2", b="n3")
    sketch.run("b", "q", labels=DB, affinity=apart(term(app="api")), preemptible=False).run(
        "c", "q", labels=WEB, preemptible=False
    ).run("d", "q")
    wish = Affinity(near=Company((term("zone", **DB),)), apart=Company((term(**WEB),)))
    sketch.wait("A", "q", labels={"app": "api"}, affinity=wish)
    code, message, nodes = told(sketch)
    assert (code, nodes) == (
        "TaskAffinity", {"KeptAwayByTask": 1, "TaskAffinityMismatch": 1, "TaskAntiAffinityMismatch": 1},
    )  # fmt: skip
    assert message == (
        "needs 1 GPU, near a task with app=db in its zone, away from any task with app=web in its host; 3 nodes have room, but "
        "1 is not near the tasks that it must be near, "
        "1 is not away from those that it must be away from and 1 is kept from it by a task there"
    )
    snapshot = sketch.snapshot()
    found = explain(snapshot, decide(snapshot), "A")
    assert found is not None
    assert "It waits (TaskAffinity): needs 1 GPU, near a task with app=db" in found.sentences[0]
