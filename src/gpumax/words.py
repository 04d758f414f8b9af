"""What every floor needs to speak to people, and the command line before it has loaded anything."""

from __future__ import annotations


def plural(number: int, word: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
