"""Decisions as documents."""

from __future__ import annotations

import msgspec

from formats.kit import faults_of
from gpumax.formats.decision import dump_decision, encode_decision, load_decision
from gpumax.model.decision import Decision, Eviction, Hold, Place, Share
from gpumax.model.workload import DeviceShare
from gpumax.units import UNLIMITED

NOON_MS = 1_795_435_200_000

DECISION = Decision(
    places=(Place("train-llm-1", "n1", (DeviceShare(1, 1000),), ("old-3",)),),
    evictions=(
        Eviction("old-3", "reclaim", "train-llm", "n2", (DeviceShare(0, 500),)),
        Eviction("old-4", "reclaim", "train-llm"),
    ),
    holds=(Hold("big", "NoRoom", "needs 2 x 4 GPUs", {"TaintNotTolerated": 3, "NotEnoughGpu": 12}, {"gpu": 2000, "memory": 1024, "rdma/hca": 3}, NOON_MS),),
    shares=(Share("research", "gpu", 8000, 10_500, 9000, 14_000), Share("research", "memory", UNLIMITED, 1, 2, 3)),
    warnings=("quotas exceed what there is",),
)  # fmt: skip


def test_a_decision_is_written_as_the_format_says() -> None:
    """GPUs and cores as people count them, memory in bytes, times in RFC 3339, null for what is unknown."""
    assert dump_decision(DECISION) == {
        "version": "gpumax/v1",
        "places": [{"task": "train-llm-1", "node": "n1", "devices": [{"index": 1, "milli": 1000}], "after": ["old-3"]}],
        "evictions": [
            {
                "task": "old-3", "cause": "reclaim", "for": "train-llm", "restarts_on": "n2",
                "devices": [{"index": 0, "milli": 500}],
            },
            {"task": "old-4", "cause": "reclaim", "for": "train-llm"},
        ],
        "holds": [
            {
                "workload": "big", "code": "NoRoom", "message": "needs 2 x 4 GPUs",
                "nodes": {"NotEnoughGpu": 12, "TaintNotTolerated": 3},
                "short": {"gpu": 2, "memory": 1 << 30, "rdma/hca": 3}, "forecast": "2026-11-23T12:00:00Z",
            }
        ],
        "shares": [
            {"queue": "research", "resource": "gpu", "quota": 8, "share": 10.5, "allocated": 9, "demand": 14},
            {"queue": "research", "resource": "memory", "quota": "unlimited", "share": 1 << 20, "allocated": 2 << 20, "demand": 3 << 20},
        ],
        "warnings": ["quotas exceed what there is"],
    }  # fmt: skip
    hold = Hold("w", "Topology", "")
    assert dump_decision(Decision(holds=(hold,)))["holds"][0]["forecast"] is None


def test_who_has_room_kept_is_read_back_so() -> None:
    decision = Decision(
        holds=(Hold("w", "NoRoom", "", forecast_ms=1000, reserved=True), Hold("x", "NoRoom", ""))
    )
    assert [row.get("reserved") for row in dump_decision(decision)["holds"]] == [True, None]
    assert load_decision(encode_decision(decision)) == decision


def test_what_was_written_is_read_back() -> None:
    """From plain dicts, JSON and bytes."""
    assert load_decision(dump_decision(DECISION)) == DECISION
    assert load_decision(encode_decision(DECISION)) == DECISION


def test_what_many_holds_have_in_common_is_written_for_each() -> None:
    """As by itself: one hold after the other that says the same of another workload, and those that differ in one field."""
    first = DECISION.holds[0]
    replace = msgspec.structs.replace
    holds = [replace(first, workload=name) for name in ("a", "b", 'c"')]
    holds += [
        replace(first, message="other"),
        replace(first, forecast_ms=None),
        replace(first, reserved=True),
    ]
    holds += [replace(first, code="GangNoRoom"), replace(first, nodes={}), replace(first, short={})]
    decision = Decision(holds=tuple(holds))
    assert encode_decision(decision) == msgspec.json.encode(dump_decision(decision))


def test_a_decision_is_one_line_and_equal_decisions_are_equal_bytes() -> None:
    """Whatever the order in which reasons were counted."""
    other = msgspec.structs.replace(
        DECISION,
        holds=(
            msgspec.structs.replace(DECISION.holds[0], nodes={"NotEnoughGpu": 12, "TaintNotTolerated": 3}),
        ),
    )
    assert encode_decision(other) == encode_decision(DECISION)
    assert b"\n" not in encode_decision(DECISION)


def test_every_fault_of_a_decision_is_told() -> None:
    """Codes and causes are closed lists."""
    faults = faults_of(
        load_decision,
        """
        places: [{task: a}, {task: b, node: n, devices: [{index: 0}, {index: 0}]}]
        evictions: [{task: a, cause: boredom, for: b}]
        holds: [{workload: w, code: NoRom, message: x, nodes: {NoSuchReason: 1}, short: {gpu: many}}]
        shares: [{queue: q, resource: gpu, quota: -1, share: 1, allocated: 1, demand: 1}]
        """,
    )
    assert [fault.path for fault in faults] == [
        "places[0].node", "places[1].devices[1].index", "evictions[0].cause", "holds[0].code", "holds[0].nodes.NoSuchReason",
        "holds[0].short.gpu", "shares[0].quota",
    ]  # fmt: skip
