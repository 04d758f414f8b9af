"""`why`: how the share came about, who is ahead, what was tried, and what would let the work start."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, gpus, queue
from gpumax.formats.explanation import dump_facts
from gpumax.formats.scalars import write_bytes
from gpumax.model.amounts import Amounts
from gpumax.model.explanation import CHANGES, SHARE_RULES, TRIED_REASONS, Explanation, ShareRule
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, Request
from gpumax.policy.decide import decide
from gpumax.policy.explain import explain
from properties.strategies import snapshots
from thorough import examples


def why(sketch: Sketch, name: str = "A") -> Explanation:
    snapshot = sketch.snapshot()
    found = explain(snapshot, decide(snapshot), name)
    assert found is not None
    return found


def used(name: str, millionths: int) -> Queue:
    return replace(queue(name, 0, weight=1), usage=Amounts(millionths, 0, 0))


@pytest.mark.parametrize(
    ("asker", "other", "rule", "said"),
    [
        (queue("a", 8), queue("b", 0), "demand", "all that its work asks for"),
        (queue("a", 2, limit=3), queue("b", 0), "limit", "as much as its limit allows"),
        (queue("a", 8), queue("b", 8), "cut", "its quota of 8 is cut"),
        (queue("a", 2), queue("b", 6), "nothing_left", "beyond quotas the cluster has nothing left"),
        (queue("a", 2, weight=0), queue("b", 2), "no_weight", "its weight is 0"),
        (queue("a", 2), queue("b", 2, priority=200), "priority", "went to queues of higher priority"),
        (queue("a", 2, weight=1), queue("b", 2, weight=1), "weight", "2 of its quota and 2 GPUs of the 4 beyond quotas in the cluster, by weight"),
        (used("a", 500_000), used("b", 100_000), "usage", "by weight and past use"),
    ],
)  # fmt: skip
def test_the_share_is_told_with_what_decided_it(
    asker: Queue, other: Queue, rule: ShareRule, said: str
) -> None:
    """Quota, limit, cut, weight, priority or past use: one rule, the one that kept it from more."""
    sketch = Sketch("n1: bbbbbbbb").with_queues(asker, other).run("b", "b", preemptible=False)
    found = why(sketch.wait("A", "a", tasks=8, min=1))
    (step,) = found.derived
    assert (step.rule, step.total) == (rule, 8000)
    assert any(said in sentence for sentence in found.sentences)


def test_the_queue_above_that_is_short_is_named() -> None:
    """c2's share is cut because p's limit is all that there is to divide."""
    sketch = Sketch("n1: cccccc..").with_queues(
        queue("p", 6, limit=6), queue("c1", 4, parent="p"), queue("c2", 4, parent="p")
    )
    found = why(sketch.run("c", "c1").wait("A", "c2", tasks=4))
    assert [(step.queue, step.parent, step.rule) for step in found.derived] == [
        ("c2", "p", "cut"), ("p", None, "limit"),
    ]  # fmt: skip
    assert "Queue p has a share of 6 GPUs: as much as its limit allows." in found.sentences
    (need,) = found.needs
    assert (need.change, need.queues) == ("limit", {"p": {"gpu": 4000}})
    assert need.message == "with the limit of p raised by 4 GPUs"


def test_only_work_that_can_start_is_ahead() -> None:
    """What asks for more than any node has is served never, so nobody waits for it."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 4), queue("b", 4))
    sketch.run("b", "b", preemptible=False)
    sketch.wait("C", "a", gpu=9, priority=90).wait("D", "a", priority=80).wait("A", "a")
    found = why(sketch)
    assert found.ahead == ("D",)
    assert "Ahead of it: D." in found.sentences
    assert why(sketch, "C").ahead == ()


@pytest.mark.parametrize(
    ("asks", "lacks", "would"),
    [
        ({"gpu": 5}, "even empty, the largest nodes lack 1 GPU", "1 more GPU in n1"),
        ({"gpu": 3, "tasks": 2}, "even empty, all nodes together lack 2 GPUs", "2 more GPUs in n1"),
        ({"request": gpus(1, model="A10")}, "there is no A10, only H100", "1 more A10 in n1"),
        ({"request": gpus(1, memory_mib=100 << 10)}, "the largest GPU has 80Gi", "1 more GPU of 100Gi in n1"),
        ({"request": Request((DeviceAsk(5),), 2_000_000)}, "even empty, the largest nodes lack 1 GPU and 1000 cores", "1 more GPU and 1000 more cores in n1"),
    ],
)  # fmt: skip
def test_who_is_too_large_isn_t_told_of_room_that_comes_free(
    asks: dict[str, Any], lacks: str, would: str
) -> None:
    """It can't start as things are, whoever ends: what helps is another cluster. `never` and `would` aren't said at once."""
    found = why(Sketch("n1: ....").with_queues(queue("a", 16)).wait("A", "a", **asks))
    first, second, *_ = found.sentences
    assert first.endswith(f"; {lacks}, so it can't start as things are.")
    assert second == f"It would start with {would}."
    assert [need.change for need in found.needs] == ["room"]


def test_gpus_that_fail_are_told_of_to_who_lacks_one() -> None:
    """Where the others are held. Who lacks something else isn't told."""
    sketch = Sketch("n1: bbx.").with_queues(queue("a", 4), queue("b", 4)).run("b", "b", preemptible=False)
    assert "Unhealthy, so without new work: GPU 2 of n1." in why(sketch.wait("A", "a", gpu=2)).sentences
    sketch = Sketch("n1: x.").node("n1", cpu_milli=1_000).with_queues(queue("a", 4))
    told = why(sketch.wait("A", "a", request=Request(cpu_milli=2_000))).sentences
    assert not any("nhealthy" in sentence for sentence in told)


def test_who_can_never_start_and_isn_t_helped_by_any_one_change_is_told_so() -> None:
    """n1 is in use, too."""
    sketch = Sketch("n1: bb..").with_queues(queue("a", 4), queue("b", 4)).run("b", "b", preemptible=False)
    assert why(sketch.wait("A", "a", gpu=5)).sentences == (
        "It waits (NoNodeMatches): needs 5 GPUs; even empty, the largest nodes lack 1 GPU, so it can never start.",
    )


def test_time_until_a_minimum_runtime_ends_is_told() -> None:
    """To the minute from which the decision is another one."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 4), queue("b", 0, min_runtime_ms=34 * MINUTE_MS))
    found = why(sketch.run("b", "b").wait("A", "a", gpu=2))
    (row,) = found.tried
    assert (row.pass_, row.reason, row.queue, row.held.gpu) == ("reclaim", "min_runtime", "b", 4000)
    assert row.until_ms == NOW_MS + 4 * MINUTE_MS
    need = found.needs[0]
    assert (need.change, need.at_ms) == ("wait", row.until_ms)
    assert "in 4m, when enough work has ended its minimum runtime" in need.message
    later = replace(sketch.snapshot(), now_ms=NOW_MS + 4 * MINUTE_MS)
    assert [place.task for place in decide(later).places] == ["A-0"]


def test_the_moment_is_the_one_at_which_enough_work_may_go() -> None:
    """Not the first, when only one of the two GPUs is to be had."""
    sketch = Sketch("n1: bc").with_queues(
        queue("a", 2), queue("b", 0, min_runtime_ms=34 * MINUTE_MS), queue("c", 0, min_runtime_ms=50 * MINUTE_MS)
    )  # fmt: skip
    found = why(sketch.run("b", "b").run("c", "c").wait("A", "a", gpu=2))
    assert found.needs[0].at_ms == NOW_MS + 20 * MINUTE_MS


def test_a_queue_within_its_share_gives_nothing() -> None:
    """Named with what it holds: the question is always `why not from them?`."""
    sketch = Sketch("n1: bbcc").with_queues(queue("a", 2), queue("b", 2), queue("c", 0, weight=0))
    found = why(sketch.run("b", "b").run("c", "c", preemptible=False).wait("A", "a", gpu=1))
    assert {(row.queue, row.reason) for row in found.tried} == {
        ("b", "within_share"), ("c", "non_preemptible"),
    }  # fmt: skip
    text = " ".join(found.sentences)
    assert "b holds 2 GPUs within its share of 2 GPUs: there is nothing to take back" in text
    assert "the 2 GPUs of c run non-preemptible work" in text


def test_its_own_queue_is_told_of_where_nothing_has_a_lower_priority() -> None:
    """Preempt looks for strictly lower priority only."""
    sketch = Sketch("n1: aa").with_queues(queue("a", 2)).run("a", "a").wait("A", "a")
    assert ("preempt", "none_lower") in [(row.pass_, row.reason) for row in why(sketch).tried]
    sketch = Sketch("n1: aa").with_queues(queue("a", 2)).run("a", "a", preemptible=False)
    rows = why(sketch.wait("A", "a", priority=60)).tried
    assert ("preempt", "non_preemptible") in [(row.pass_, row.reason) for row in rows]


def test_passes_that_did_not_run_were_not_tried() -> None:
    """`decide --passes allocate --explain A` says nothing of reclaim."""
    snapshot = Sketch("n1: b").with_queues(queue("a", 1)).run("b", "a").wait("A", "a").snapshot()
    found = explain(snapshot, decide(snapshot, ["allocate"]), "A", ["allocate"])
    assert found is not None
    assert found.tried == ()


def test_a_cordoned_node_that_would_take_it_is_told() -> None:
    """And how many nodes fail for what."""
    sketch = Sketch("n1: bbbb\nn2: ....").with_queues(queue("a", 2), queue("b", 4))
    sketch.node("n2", cordoned=True).run("b", "b").wait("A", "a", gpu=2)
    found = why(sketch)
    assert [(need.change, list(need.nodes)) for need in found.needs] == [("node", ["n2"]), ("room", ["n1"])]
    assert "Nodes that can't take it: 1 Cordoned, 1 NotEnoughGpu." in found.sentences
    assert "It would start with n2 ready and not cordoned, or with 2 more GPUs free on n1." in found.sentences


def test_quota_for_non_preemptible_work_is_asked_for_exactly() -> None:
    """One GPU less would not do."""
    sketch = Sketch("n1: ....").with_queues(queue("a", 1)).wait("A", "a", gpu=2, priority=100)
    (need,) = why(sketch).needs
    assert (need.change, need.queues) == ("quota", {"a": {"gpu": 1000}})


def test_a_gang_is_told_where_its_rest_would_fit() -> None:
    """`short` in all, and by node."""
    sketch = Sketch("n1: bb..\nn2: bbb.\nn3: bbb.").with_queues(queue("a", 6), queue("b", 8)).run("b", "b")
    found = why(sketch.wait("A", "a", gpu=2, tasks=3))
    assert found.hold is not None
    assert found.hold.short == {"gpu": 2000}
    (need,) = found.needs
    assert need.nodes == {"n2": {"gpu": 1000}, "n3": {"gpu": 1000}}
    assert need.message == "with 1 more GPU free on n2 and 1 more GPU free on n3"


def test_elastic_work_says_that_it_runs_and_what_waits() -> None:
    """Both, in one sentence, with since when."""
    sketch = Sketch("n1: AAbb").with_queues(queue("q", 4), queue("b", 4)).run("b", "b")
    found = why(sketch.run("A", "q", min=2).wait("A", "q", tasks=2, min=2))
    assert found.sentences[0].startswith(
        "It has run for 30m, with 2 of 4 tasks; more wait (NoRoom): one more needs 1 GPU"
    )
    assert found.started_ms == NOW_MS - 30 * MINUTE_MS


def test_running_work_says_since_when_and_leaving_work_that_it_leaves() -> None:
    """Never `it waits for nothing` while it holds GPUs."""
    found = why(Sketch("n1: AA").with_queues(queue("a", 2)).run("A", "a"))
    assert (found.state, found.sentences) == ("running", ("It has run for 30m: all 2 tasks.",))
    found = why(Sketch("n1: AA").with_queues(queue("a", 2)).run("A", "a", state_="releasing"))
    assert (found.state, found.sentences) == (
        "releasing", ("It is on its way out: 2 tasks of it have yet to leave.",),
    )  # fmt: skip


def test_work_that_is_moved_is_told_where_to() -> None:
    """It makes way, but goes on elsewhere."""
    sketch = Sketch("n1: bb\nn2: .").with_queues(queue("a", 2), queue("b", 0, weight=0))
    found = why(sketch.run("b", "b", min=1).wait("A", "a", gpu=2), "b")
    assert found.sentences == (
        "1 of its tasks moves to n2 for A (reclaim).", "1 of its tasks makes way for A (reclaim).",
    )  # fmt: skip


def test_the_facts_are_data_too() -> None:
    """Stable names, amounts as in decisions, times as in files; every word of a closed list."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 4), queue("b", 0, min_runtime_ms=34 * MINUTE_MS))
    facts = dump_facts(why(sketch.run("b", "b").wait("A", "a", gpu=2)), write_bytes)
    assert facts["since"] is None
    assert facts["derived"][0] | {"limit": 0} == {
        "queue": "a", "resource": "gpu", "parent": None, "rule": "demand", "share": 2, "quota": 4, "limit": 0,
        "demand": 2, "total": 4, "guaranteed": 2, "left": 2,
    }  # fmt: skip
    assert facts["tried"][0] | {"message": ""} == {
        "pass": "reclaim", "reason": "min_runtime", "message": "", "queue": "b", "held": {"gpu": 4},
        "until": "2001-09-09T01:50:40Z",
    }  # fmt: skip
    assert [(row["change"], row["at"], row["nodes"]) for row in facts["needs"]] == [
        ("wait", "2001-09-09T01:50:40Z", {}), ("room", None, {"n1": {"gpu": 2}}),
    ]  # fmt: skip


@pytest.mark.deep
@settings(
    max_examples=examples(20, 60), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(snapshots())
def test_every_workload_of_every_cluster_is_explained(snapshot: Snapshot) -> None:
    """In whole sentences; who is ahead waits and can start; facts come from the closed lists."""
    decision = decide(snapshot)
    waits = {workload.name for workload in snapshot.workloads} - {
        hold.workload for hold in decision.holds if "never start" in hold.message
    }
    for workload in snapshot.workloads[:6]:
        found = explain(snapshot, decision, workload.name)
        assert found is not None
        check(found, waits)


def check(found: Explanation, waits: set[str]) -> None:
    facts: dict[str, Any] = dump_facts(found, write_bytes)
    assert all(re.fullmatch(r"[A-Z0-9].*\.", sentence) for sentence in found.sentences)
    assert not any(re.search(r"\b1 (GPUs|cores|tasks)\b", sentence) for sentence in found.sentences)
    assert set(found.ahead) <= waits - {found.workload}
    assert {row["rule"] for row in facts["derived"]} <= SHARE_RULES.keys()
    assert {row["reason"] for row in facts["tried"]} <= TRIED_REASONS.keys()
    assert {row["change"] for row in facts["needs"]} <= CHANGES.keys()
