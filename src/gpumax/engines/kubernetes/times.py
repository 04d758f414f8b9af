"""Moments as the API writes them."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache


@lru_cache(65_536)
def moment_ms(written: str | None) -> int | None:
    """Milliseconds since 1970; None where nothing was written, or nothing that is a time."""
    if not written:
        return None
    try:
        return int(datetime.fromisoformat(written).timestamp() * 1000)
    except ValueError:
        return None
