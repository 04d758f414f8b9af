"""How much is looked at: enough for every day, or with THOROUGH=1, as `make thorough` sets it, many times as much."""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = bool(os.environ.get("THOROUGH"))


def examples(every_day: int, thorough: int) -> int:
    """How many cases are looked at. A test that asks is marked `deep`, so `make thorough` runs it."""
    return thorough if THOROUGH else every_day
