"""Boards that are decided twice: by the exact search for victims, and by the bounded one that large clusters get."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["exact", "bounded"])
def both_searches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small boards are searched exactly; with no set that may be looked at, they are searched as if they were large."""
    if request.param == "bounded":
        monkeypatch.setattr("gpumax.policy.search.MOST_SETS", 0)
