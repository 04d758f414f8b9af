"""Numbers as people read them; no line ends between a number and its unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_UNITS: Final = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float) -> str:
    """Two or three digits and a unit: 45 s, 12 min, 2.1 h, 12.8 days."""
    if seconds < 1:
        return "0\u00a0s" if seconds < 0.05 else f"{seconds:.1f}\u00a0s"
    # Hours up to two days: that is how waits are spoken of.
    size, unit = next(
        (size, unit) for size, unit in _UNITS if seconds >= (2 * size if size > 3600 else size) or size == 1
    )
    return f"{_short(seconds / size)}\u00a0{unit}"


def percent(part: float) -> str:
    """A part as percent: 65.0 %, 0.07 %."""
    value = part * 100
    if not value:
        return "0\u00a0%"
    if 0 < value < 0.01:
        return "<\u00a00.01\u00a0%"
    return f"{value:.2f}\u00a0%" if 0 < value < 1 else f"{value:.1f}\u00a0%"


def count(number: float) -> str:
    """A number with its thousands set apart."""
    return f"{number:,.0f}"


def factor(number: float) -> str:
    """So many times: 4.0."""
    return f"{number:.1f}" if number < 100 else count(number)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 99.5 or abs(number - round(number)) < 0.05 else f"{number:.1f}"
