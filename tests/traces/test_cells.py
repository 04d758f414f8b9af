"""What single cells mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumax.formats.scalars import write_time
from gpumax.traces.cells import duration, memory, milli, moment

NOON = 1_767_268_800_000
SECOND = 1000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-01 12:00:00", NOON), ("2026-01-01T12:00:00", NOON), ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01 12:00:00 UTC", NOON), ("2026-01-01T14:00:00+02:00", NOON), ("2026-01-01T07:00:00-0500", NOON),
        ("2026-01-01 12:00", NOON), (" 2026-01-01T12:00:00.250Z ", NOON + 250), ("2026-01-01T12:00:00.1234567Z", NOON + 123),
        ("2026-01-01", NOON - 12 * 3_600_000), ("1767268800", NOON), ("1767268800.5", NOON + 500), ("1.7672688e9", NOON), ("0", 0),
    ],
)  # fmt: skip
def test_moments(text: str, ms: int) -> None:
    """As people and tools write them; without a zone in UTC."""
    assert moment("x", text) == ms


@given(st.integers(0, 253_402_300_799_999))
def test_a_moment_that_we_write_reads_back(ms: int) -> None:
    """To the millisecond."""
    assert moment("x", write_time(ms)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90", 90 * SECOND), ("0.5", 500), ("1.5e3", 1_500_000), ("90s", 90 * SECOND), ("2h30m", 9_000_000), ("7d", 604_800_000),
        ("00:01:30", 90 * SECOND), ("1-02:03:04", 93_784 * SECOND), ("02:03.250", 123_250), ("10:00:00", 36_000_000), ("250ms", 250),
    ],
)  # fmt: skip
def test_durations(text: str, ms: int) -> None:
    """In seconds, with units, or as Slurm writes them."""
    assert duration("x", text) == ms


@pytest.mark.parametrize(
    ("text", "mib"), [("16Gi", 16_384), ("1", 1), ("1048577", 2), ("0", 0), ("512Mi", 512), ("1G", 954)]
)
def test_memory(text: str, mib: int) -> None:
    """In bytes or with units, rounded up."""
    assert memory("x", text) == mib


@pytest.mark.parametrize(("text", "thousandths"), [("4", 4000), ("0.5", 500), ("500m", 500), ("0.0001", 1)])
def test_amounts(text: str, thousandths: int) -> None:
    """Rounded up to thousandths."""
    assert milli("x", text) == thousandths
