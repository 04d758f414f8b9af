"""The order of names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_DIGITS: Final = re.compile(r"([0-9]+)")

MOST_KNOWN: Final = 1 << 16
"""Names of which the key is remembered: the same are sorted in every decision."""


@lru_cache(MOST_KNOWN)
def natural(name: str) -> tuple[str | int, ...]:
    """A key that orders names with the numbers in them read as numbers: task-2 before task-10.

    Text and numbers take turns, beginning with text, be it empty: two keys never compare the one with the other.
    """
    parts: list[str | int] = list(_DIGITS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts)
