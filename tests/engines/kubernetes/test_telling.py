"""What pods are told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from gpumax.engines.kubernetes.telling import MORE_NODES_HELP, Told, condition, event, told
from gpumax.errors import Fault
from gpumax.model.decision import HOLD_CODES, Decision, Hold, HoldCode
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import decide


def waiting() -> Snapshot:
    """x waits, beside what runs of b."""
    drawn = Sketch("n1: bb").with_queues(queue("a", 1), queue("b", 1))
    drawn.run("b", queue="b", min=1)
    return drawn.wait("x", queue="a").snapshot()


def held(code: HoldCode, message: str = "no room", **changes: object) -> Decision:
    """x is held."""
    return Decision(holds=(replace(Hold("x", code, message), **changes),))


def said(
    snapshot: Snapshot, decision: Decision, faults: Mapping[str, tuple[Fault, ...]] | None = None
) -> dict[str, Told]:
    """What is told of a snapshot that hasn't changed since."""
    return told(snapshot, decision, faults or {}, {row.name: row for row in snapshot.workloads}.get)


@pytest.mark.parametrize("code", sorted(HOLD_CODES))
def test_autoscalers_are_called_only_where_more_nodes_would_help(code: HoldCode) -> None:
    """Unschedulable is the word that makes them add nodes; what waits for quota would leave those idle."""
    found = said(waiting(), held(code))["x-0"]
    assert (found.reason == "Unschedulable") == (code in MORE_NODES_HELP)
    assert found.code == code
    assert condition(found, "2023-11-14T22:00:00Z")["status"] == "False"


def test_a_hold_says_when_it_ends() -> None:
    """Where that is known."""
    found = said(waiting(), held("NoRoom", forecast_ms=NOW_MS + 12 * MINUTE_MS))["x-0"]
    assert found.message == "no room; starts in about 12m if nothing else comes"


def test_who_goes_is_told_for_whom_and_who_comes_what_it_waits_for() -> None:
    """Both sides of one reclaim."""
    snapshot = waiting()
    decision = decide(snapshot)
    (gone,) = decision.evictions
    found = said(snapshot, decision)
    assert found[gone.task] == Told(
        gone.task, "DisruptionTarget", "Reclaimed",
        "its queue used more than its share, and x of queue a takes back what it is due", "reclaim",
    )  # fmt: skip
    assert found["x-0"].message == f"gets room on n1 when {gone.task} has left"
    assert found["x-0"].reason == "WaitsForEvictions"
    assert condition(found[gone.task], "")["status"] == "True"


def test_faults_are_told_whatever_the_decision_says() -> None:
    """In one message, however long; never longer than an event may be, in bytes."""
    faults = tuple(Fault(f"spec.x[{index}]", None, "ü" * 80, "something right") for index in range(50))
    found = said(waiting(), Decision(), {"x-0": faults})["x-0"]
    assert (found.reason, found.code) == ("Invalid", "Invalid")
    assert found.message.startswith("spec.x[0]: found ")
    assert len(found.message.encode()) <= 1024
    assert found.message.endswith(" ...")


def test_an_event_names_the_pod_and_the_code() -> None:
    """So that `kubectl get events` and `kubectl describe` show it."""
    found = said(waiting(), held("OverLimit", "over"))["x-0"]
    made = event(found, {"namespace": "ml", "name": "p" * 253, "uid": "u"}, "2023-11-14T22:00:00.000000Z")
    assert made["reason"] == "OverLimit"
    assert made["note"] == "over"
    assert made["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ml",
        "name": "p" * 253,
        "uid": "u",
    }
