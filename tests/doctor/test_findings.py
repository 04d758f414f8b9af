"""What `gpumax doctor` makes of what a cluster says: versions, clocks, and objects that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpumax.apps.doctor.patient import differs
from gpumax.apps.doctor.visit import _behind_s, _version

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("v1.32.9", "fail"), ("v1.33.0", "ok"), ("v1.34.4-gke.100", "ok"), ("v1.37.2+k3s1", "ok"), ("v1.38.0", "warn"),
        ("v2.0.0", "warn"), ("", "fail"), ("nonsense", "fail"),
    ],
)  # fmt: skip
def test_versions_that_are_supported(told: str, state: str) -> None:
    """Older ones fail, newer ones are untested, whatever a vendor adds to the number."""
    assert _version(told, "c").state == state


@pytest.mark.parametrize(
    ("asked_s", "answered_s", "said_s", "behind_s"),
    [
        (0.2, 0.4, 0, 0),  # the same second
        (0.9, 1.1, 1, 0),  # it passed meanwhile
        (0.0, 3.0, 2, 0),  # a slow answer proves nothing
        (0.0, 0.5, 10, 9.5),  # the server is ahead by that at least
        (100.0, 100.5, 0, -99),  # it is behind
    ],
)
def test_how_far_a_clock_is_off_for_certain(
    asked_s: float, answered_s: float, said_s: int, behind_s: float
) -> None:
    """The server says a whole second, of some moment between question and answer."""
    asked, answered = NOON + timedelta(seconds=asked_s), NOON + timedelta(seconds=answered_s)
    assert _behind_s(asked, answered, NOON.timestamp() + said_s) == pytest.approx(behind_s)


@pytest.mark.parametrize(
    ("theirs", "place"),
    [
        ({"a": [{"b": 1}], "c": None}, ""),
        ({"a": [{"b": 1, "more": 2}], "c": {}, "added": True}, ""),
        ({"a": [{"b": 2}]}, "spec.a[0].b"),
        ({"a": [{"b": 1}, {"b": 1}]}, "spec.a"),
        ({}, "spec.a"),
        (None, "spec"),
    ],
)
def test_where_an_object_differs_first(theirs: object, place: str) -> None:
    """What the API server adds is no difference, and neither is nothing beside the empty."""
    assert differs({"a": [{"b": 1}], "c": []}, theirs, "spec") == place
