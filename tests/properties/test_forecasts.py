"""Forecasts against what comes: clusters are played to their end, and each hold's forecast is held against the true start."""

from __future__ import annotations

from statistics import median

import pytest

from played import Told, crowded, play


@pytest.fixture(scope="module")
def told() -> list[Told]:
    """What work on ten crowded clusters was told first, and what came of it; all durations are known, nobody comes later."""
    return [row for seed in range(10) for row in play(crowded(seed, waiting=16)).values()]


def test_the_median_error_is_nothing_where_all_durations_are_known(told: list[Told]) -> None:
    errors = [abs(row.error) for row in told if row.error is not None]
    assert len(errors) > 100
    assert median(errors) == 0


def test_most_are_told_exactly(told: list[Told]) -> None:
    """Three of five; the others are too far ahead to be decided on again."""
    errors = [row.error for row in told if row.error is not None]
    assert 5 * errors.count(0) >= 3 * len(errors)


def test_who_starts_was_told_when_and_who_never_does_was_not(told: list[Told]) -> None:
    started = [row for row in told if row.start is not None]
    assert 20 * sum(row.forecast is None for row in started) <= len(started)
    assert all(row.forecast is None for row in told if row.start is None)
