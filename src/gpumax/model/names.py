"""The order of names."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = re.compile(r"([0-9]+)")


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that orders names with the numbers in them read as numbers: task-2 before task-10."""
    parts = _DIGITS.split(name)
    return tuple([(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part])
