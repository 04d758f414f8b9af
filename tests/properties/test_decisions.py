"""What holds for every decision on every cluster, looked for on drawn ones.
from thorough import examples

GPUMAX_EXAMPLES=5000 looks at so many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gpumax.formats.decision import encode_decision, load_decision
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import PASSES, decide
from gpumax.policy.forecast import NONE
from played import crowded
from properties.carry_out import Chain, done
from properties.reduce import reduced
from properties.strategies import snapshots
from thorough import examples

pytestmark = pytest.mark.deep
EXAMPLES = int(os.environ.get("GPUMAX_EXAMPLES", "0"))
profile = settings(
    max_examples=EXAMPLES or examples(70, 1000),
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # `reduced` is quicker than shrinking
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


def refute(snapshot: Snapshot, wrong: Callable[[Snapshot], object]) -> None:
    """Fail with a small cluster, as a file, where `wrong` finds something."""
    if wrong(snapshot):
        small = reduced(snapshot, lambda candidate: bool(wrong(candidate)))
        pytest.fail(f"{wrong(small)}\n{msgspec.json.encode(dump_snapshot(small)).decode()}")


@profile
@given(snapshots())
def test_no_decision_breaks_a_rule(snapshot: Snapshot) -> None:
    """Checked by code that knows the rules and not the policy."""
    refute(snapshot, lambda state: [str(found) for found in verify(state, decide(state))])


@profile
@given(snapshots())
def test_allocate_alone_breaks_no_rule_either(snapshot: Snapshot) -> None:
    """Some passes only: the same rules."""
    refute(snapshot, lambda state: [str(found) for found in verify(state, decide(state, ["allocate"]))])


@profile
@given(snapshots())
def test_nobody_waits_who_could_be_placed_without_evictions(snapshot: Snapshot) -> None:
    """When a decision has come true, free room that is kept for nobody is of use to nobody who still waits.

    Without the stale pass: what that frees is given out by a later decision.
    """
    passes = [name for name in PASSES if name != "stale"]
    snapshot = replace(snapshot, policy=replace(snapshot.policy, reserve_after_ms=1 << 50))

    def left_over(state: Snapshot) -> list[str]:
        found = decide(done(state, decide(state, passes, effort=NONE)), ["allocate"], effort=NONE)
        return [f"{place.task} fits on {place.node}" for place in found.places]

    refute(snapshot, left_over)


@profile
@given(snapshots())
def test_a_cluster_that_nothing_is_done_to_comes_to_rest(snapshot: Snapshot) -> None:
    """Decision after decision is carried out, and there is an end to it: nobody is evicted and placed for ever."""

    def goes_on(state: Snapshot) -> list[str]:
        chain, trace = Chain(state), []
        for number in range(40):
            decision = decide(chain.snapshot, effort=NONE)
            if not decision.places and not decision.evictions and not chain.leaving:
                return []
            trace.append(
                f"{number}: {[row.task for row in decision.places]}, {[row.task for row in decision.evictions]}"
            )
            chain.carry_out(decision)
        return trace

    refute(snapshot, goes_on)


@pytest.mark.parametrize("seed", range(16))
def test_a_crowded_cluster_comes_to_rest(seed: int) -> None:
    """Three queues of which all want more than they hold; shares are others while somebody leaves."""
    chain = Chain(crowded(seed).snapshot)
    for _ in range(40):
        decision = decide(chain.snapshot, effort=NONE)
        if not decision.places and not decision.evictions and not chain.leaving:
            return
        chain.carry_out(decision)
    pytest.fail("it goes on")


@profile
@given(snapshots(), st.integers(0, 1 << 30))
def test_the_order_of_rows_changes_nothing(snapshot: Snapshot, seed: int) -> None:
    """The same state in a file whose rows are shuffled gives the same bytes."""
    document = dump_snapshot(snapshot)
    chance = random.Random(seed)
    for key in ("nodes", "queues", "workloads"):
        chance.shuffle(document[key])
    for workload in document["workloads"]:
        chance.shuffle(workload["tasks"])
    again = load_snapshot(document)
    assert again == snapshot
    assert encode_decision(decide(again)) == encode_decision(decide(snapshot))


@profile
@given(snapshots())
def test_what_is_written_is_read_back(snapshot: Snapshot) -> None:
    """Snapshots and decisions survive their files."""
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot
    decision = decide(snapshot)
    assert load_decision(encode_decision(decision)) == decision


@profile
@given(snapshots(), st.integers(1, 10_000))
def test_a_later_look_at_the_same_state_places_no_less(snapshot: Snapshot, minutes: int) -> None:
    """Time alone ends protections; it never takes a free place away, but for those who have waited for too long."""
    policy = replace(snapshot.policy, reserve_after_ms=1 << 50)
    snapshot = replace(snapshot, policy=policy)
    later = replace(snapshot, now_ms=snapshot.now_ms + minutes * 60_000)
    now_free = {place.task for place in decide(snapshot, ["allocate"]).places}
    assert {place.task for place in decide(later, ["allocate"]).places} == now_free
