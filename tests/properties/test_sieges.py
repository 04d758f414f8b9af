"""What holds for every decision where several gangs take from several others, however those who go are searched for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import PASSES, decide
from gpumax.policy.forecast import NONE
from properties.carry_out import Chain, done
from sieges import siege
from thorough import examples

KINDS = {
    "plain": {}, "tied": {"tied": True}, "racked": {"racked": True}, "both": {"tied": True, "racked": True},
}  # fmt: skip
TIMED = {f"timed {kind}": {"timed": True, **row} for kind, row in KINDS.items() if kind != "both"}
kinds = pytest.mark.parametrize("kind", KINDS)
COUNT = examples(60, 360)
pytestmark = pytest.mark.deep


@pytest.fixture(autouse=True, params=["exact", "bounded"])
def searched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, as small clusters are, or by bounds, as if they were large."""
    if request.param == "bounded":
        monkeypatch.setattr("gpumax.policy.take.MOST_PARTS", -1)
        monkeypatch.setattr("gpumax.policy.search.MOST_PARTS", -1)


def drawn(kind: str, count: int) -> Iterator[tuple[int, Snapshot]]:
    """So many clusters with their numbers."""
    for number in range(count):
        yield number, siege(number, **{**KINDS, **TIMED}[kind])


@pytest.mark.parametrize("kind", [*KINDS, *TIMED])
def test_no_decision_breaks_a_rule(kind: str) -> None:
    """Nobody goes who could have stayed, nobody is short of room, of its share, or of those that it needs, and nobody delays those
    for whom room is kept.
    """
    taken = 0
    for number, snapshot in drawn(kind, COUNT):
        decision = decide(snapshot, effort=NONE)
        assert [str(found) for found in verify(snapshot, decision)] == [], number
        taken += len({row.beneficiary for row in decision.evictions}) > 1
    assert taken > COUNT // 8


@kinds
def test_nobody_waits_who_could_be_placed_without_evictions(kind: str) -> None:
    """When the decision has come true, free room is of use to nobody who still waits."""
    passes = [name for name in PASSES if name != "stale"]
    for number, snapshot in drawn(kind, COUNT // 2):
        found = decide(done(snapshot, decide(snapshot, passes, effort=NONE)), ["allocate"], effort=NONE)
        assert [f"{place.task} fits on {place.node}" for place in found.places] == [], number


@kinds
def test_it_comes_to_rest(kind: str) -> None:
    """Decision after decision is carried out, and there is an end to it."""
    for number, snapshot in drawn(kind, COUNT // 6):
        chain = Chain(snapshot)
        for _ in range(40):
            decision = decide(chain.snapshot, effort=NONE)
            if not decision.places and not decision.evictions and not chain.leaving:
                break
            chain.carry_out(decision)
        else:
            pytest.fail(f"{number} goes on")
