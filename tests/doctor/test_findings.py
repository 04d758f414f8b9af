"""What `gpumax doctor` makes of what a cluster says: versions, clocks, and objects that differ."""

from __future__ import annotations

import asyncio

import pytest

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import Patient, differs
from gpumax.apps.doctor.steering import clock
from gpumax.apps.doctor.visit import _version
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api


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
    ("behind_s", "state", "words"),
    [
        (0, "ok", "within"),
        (30, "warn", "30 s behind"),
        (-30, "warn", "30 s before"),
        (-400, "fail", "400 s before"),
    ],
)
def test_how_far_this_clock_is_off(behind_s: float, state: str, words: str) -> None:
    """Against the API server's, either way."""

    async def look() -> list[Check]:
        async with Api(Access("c", "http://127.0.0.1:9")) as api:
            patient = Patient(api, "somebody", frozenset(), "gpumax-system", "gpumax", behind_s)
            return [check async for check in clock(patient)]

    (check,) = asyncio.run(look())
    assert (check.state, words in check.found) == (state, True)


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
