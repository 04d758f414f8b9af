"""What the checks know of one snapshot makes no difference to what they find in the next."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from gpumax.loop.verify import Known, verify
from gpumax.model.decision import Decision
from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from story import story
from thorough import examples


def _claims(before: Snapshot, now: Snapshot) -> Iterator[Decision]:
    """The decision on a snapshot, and faulty ones: that on the one before, what is owed left out, too much held."""
    own, old = decide(now, effort=NONE), decide(before, effort=NONE)
    yield own
    yield old
    yield replace(own, holds=own.holds[1:], places=own.places[1:])
    yield replace(own, shares=old.shares)
    yield replace(own, shares=tuple(replace(row, allocated=row.allocated + 1) for row in own.shares))
    yield replace(old, shares=own.shares)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(examples(3, 24)))
def test_checks_that_follow_find_what_checks_from_nothing_find(seed: int) -> None:
    """Rows known from the snapshot before count as if they were read for the first time, in sound decisions and in faulty ones."""
    known, found = Known(), 0
    for before, now in pairwise(story(seed)):
        for claim in _claims(before, now):
            broken = verify(now, claim, known)
            assert broken == verify(deepcopy(now), claim)
            found += len(broken)
    assert found > 50


def test_checks_that_failed_half_way_begin_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while they follow leaves nothing wrong behind."""
    told = story(3)
    known = Known().follow(told[0])
    with monkeypatch.context() as patch:
        patch.setattr(Known, "_take", lambda self, row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            known.follow(told[5])
    decision = decide(told[6], effort=NONE)
    assert verify(told[6], decision, known) == verify(told[6], decision) == ()


@pytest.mark.parametrize(
    ("before", "after", "gone", "come"),
    [
        ("abc", "abc", "", ""),
        ("", "ab", "", "ab"),
        ("ab", "", "ab", ""),
        ("abc", "axc", "b", "x"),
        ("abcd", "ad", "bc", ""),
        ("ad", "abcd", "", "bc"),
        ("abcde", "xbcdy", "ae", "xy"),
        ("abc", "bca", "", ""),
    ],
)
def test_the_difference_of_rows_is_what_has_gone_and_what_has_come(
    before: str, after: str, gone: str, come: str
) -> None:
    """Wherever it is, and whatever has only changed its place is neither."""
    rows = {name: object() for name in before + after}
    old, new = tuple(rows[name] for name in before), tuple(rows[name] for name in after)
    lost, won = difference(old, new)
    assert [list(lost), list(won)] == [[rows[name] for name in gone], [rows[name] for name in come]]


@pytest.mark.parametrize("seed", range(40))
def test_the_difference_is_that_of_sets_in_order(seed: int) -> None:
    """Whatever came, went, changed or moved, in runs and one by one, in rows that are few or many."""
    chance = Random(seed)
    rows = [object() for _ in range(chance.choice((0, 1, 3, 40, 400)))]
    other = rows.copy()
    for _ in range(chance.choice((0, 1, 2, 10, 300))):
        at, run = chance.randrange(len(other) + 1), chance.choice((1, 1, 2, 5, 12))
        match chance.choice(("come", "go", "change", "move")):
            case "come":
                other[at:at] = [object() for _ in range(run)]
            case "go":
                del other[at : at + run]
            case "change":
                other[at : at + run] = [object() for _ in other[at : at + run]]
            case _:
                moved = other[at : at + run]
                del other[at : at + run]
                other[:0] = moved
    gone, come = difference(tuple(rows), tuple(other))
    old, new = set(map(id, rows)), set(map(id, other))
    assert list(gone) == [row for row in rows if id(row) not in new]
    assert list(come) == [row for row in other if id(row) not in old]
