"""What this version reads but does not honour: refused in words, unless it asks for nothing."""

from __future__ import annotations

import pytest

from formats.kit import fault_of, one, snapshot, submit, workload
from gpumax.formats.not_yet import NOT_YET

TASK = "workloads: [{name: w, queue: q, tasks: [{name: t, %s}]}]"
WORKLOAD = "workloads: [{name: w, queue: q, tasks: [{name: t}], %s}]"

REFUSED = {
    "policy: {pools: {a: {stale_grace: 5m}}}": "policy.pools.a.stale_grace",
    "policy: {pools: {a: {fairness_k: 0}}}": "policy.pools.a.fairness_k",
    "policy: {pools: {a: {max_evictions: 4}}}": "policy.pools.a.max_evictions",
    "policy: {pools: {a: {search_steps: 4}}}": "policy.pools.a.search_steps",
    "policy: {pools: {a: {reserve_after: 2h}}}": "policy.pools.a.reserve_after",
}  # fmt: skip

ASKS_FOR_NOTHING = (
    WORKLOAD % "topology: {}",
    WORKLOAD % "topology: null, stale_since: null",
    WORKLOAD % "request: {slices: {}, limit: {}}",
    WORKLOAD % "request: {slices: null, limit: null}",
    TASK % "affinity: {podAffinity: {}, podAntiAffinity: null}",
    TASK % "affinity: {}",
    TASK % "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: []}}",
    "nodes: [{name: n, devices: {count: 8, slices: {}}}]",
    "policy: {stale_grace: 60s}",
    "policy: {stale_grace: 1m}",
    "policy: {fairness_k: 2, pools: {a: {fairness_k: 2.0, max_evictions: 0, search_steps: 10000, stale_grace: 60s}}}",
    "topologies: [{name: default, levels: [zone, block, rack, host]}]",
)


@pytest.mark.parametrize(("text", "path"), REFUSED.items())
def test_what_can_not_be_honoured_is_refused(text: str, path: str) -> None:
    """At its place, with what this version lacks."""
    fault = fault_of(snapshot, text)
    assert fault.path == path
    assert "this version does not honour" in fault.wanted
    assert any(what in fault.wanted for what in NOT_YET.values())


@pytest.mark.parametrize("text", ASKS_FOR_NOTHING)
def test_what_asks_for_nothing_passes(text: str) -> None:
    """null, empty, and the defaults of the format."""
    snapshot(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (WORKLOAD % "topology: {require: rack}", "workloads[0].topology.require"),
        (WORKLOAD % "stale_since: soon", "workloads[0].stale_since"),
        (WORKLOAD % "request: {slices: {big: 1}}", "workloads[0].request.slices.big"),
        (WORKLOAD % "request: {limit: {gpu: 1.5}}", "workloads[0].request.limit.gpu"),
        ("policy: {stale_grace: x}", "policy.stale_grace"),
        ("topologies: [{name: a, levels: []}]", "topologies[0].levels"),
    ],
)
def test_faults_in_what_can_not_be_honoured_are_found_nevertheless(text: str, path: str) -> None:
    """It is read in full first."""
    fault = fault_of(snapshot, text)
    assert fault.path == path
    assert "this version" not in fault.wanted


def test_a_workload_file_is_refused_in_the_same_words() -> None:
    """Topology, slices, and the kinds that are still to be built."""
    for fields in (
        "topology: {required: rack}",
        "resources: {slices: {1g.10gb: 1}}",
    ):
        assert "this version does not honour" in fault_of(submit, f"{{run: x, {fields}}}").wanted
    for kind in ("sweep", "workspace", "inference"):
        fault = fault_of(submit, f"{{kind: {kind}, search: {{}}}}")
        assert (fault.path, fault.wanted) == ("kind", "training: this version runs no other kind yet")
    assert one("{run: x, topology: null, kind: training}").kind == "training"


def test_fields_whose_effect_comes_later_by_themselves_pass() -> None:
    """What protects from a pass that isn't there protects; what lets others backfill ends the work, too."""
    assert workload("max_duration: 8h, labels: {a: b}").max_duration_ms == 8 * 3_600_000
    assert (
        snapshot("queues: [{name: q, preempt_min_runtime: 1h}]").queues[0].preempt_min_runtime_ms == 3_600_000
    )
