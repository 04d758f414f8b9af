"""What holds for every decision where tasks have to be near each other, or away from each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec.structs import replace

from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import PASSES, decide
from gpumax.policy.forecast import NONE
from properties.carry_out import Chain, done
from properties.strategies import snapshots
from properties.test_decisions import profile, refute

pytestmark = pytest.mark.deep


@profile
@given(snapshots(tied=True))
def test_no_decision_breaks_a_rule(snapshot: Snapshot) -> None:
    """Checked by code that knows the rules and not the policy."""
    refute(snapshot, lambda state: [str(found) for found in verify(state, decide(state))])


@profile
@given(snapshots(tied=True))
def test_nobody_waits_who_could_be_placed_without_evictions(snapshot: Snapshot) -> None:
    """When a decision has come true, nobody who still waits has room where it may stand."""
    passes = [name for name in PASSES if name != "stale"]
    snapshot = replace(snapshot, policy=replace(snapshot.policy, reserve_after_ms=1 << 50))

    def left_over(state: Snapshot) -> list[str]:
        found = decide(done(state, decide(state, passes, effort=NONE)), ["allocate"], effort=NONE)
        return [f"{place.task} fits on {place.node}" for place in found.places]

    refute(snapshot, left_over)


@profile
@given(snapshots(tied=True))
def test_a_cluster_that_nothing_is_done_to_comes_to_rest(snapshot: Snapshot) -> None:
    """Decision after decision is carried out, and there is an end to it."""

    def goes_on(state: Snapshot) -> list[str]:
        chain = Chain(state)
        for _ in range(40):
            decision = decide(chain.snapshot, effort=NONE)
            if not decision.places and not decision.evictions and not chain.leaving:
                return []
            chain.carry_out(decision)
        return ["after 40 decisions"]

    refute(snapshot, goes_on)
