"""Amounts as integers: milli-devices, millicores, MiB, milliseconds.

Requests are rounded up and capacities down, so that no sum of roundings ever admits more than there is.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MILLI: Final = 1000
"""Milli-devices of one whole device; millicores of one core."""

MIB: Final = 1 << 20
"""Bytes of a MiB."""

UNLIMITED: Final = 1 << 60
"""An amount that no cluster reaches; leaves room for sums in 64 bits."""

LARGEST: Final = 1 << 50
"""The largest amount that a person may write, in base units; more is a slip of the keyboard."""

_NUMBER = re.compile(r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)([A-Za-z]*)$", re.ASCII)
_DECIMAL: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_SECONDS: Final = {
    "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400), "w": Fraction(604800)
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)


def parse_quantity(value: object) -> Fraction:
    """A number as people and Kubernetes write it: 4, 0.5, "500m", "16Gi", "1e9". Exact.

    Raises ValueError for anything else, NaN and infinities included.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a quantity")
    if isinstance(value, int):
        return Fraction(value)
    # repr() is the shortest decimal that reads back as this float: 0.1 means one tenth here, not its binary neighbour.
    match = _NUMBER.match(repr(value) if isinstance(value, float) else value.strip())
    if match is None:
        raise ValueError("not a quantity")
    number, suffix = Fraction(match[1]), match[2]
    if suffix == "m":
        return number / 1000
    factor = _BINARY.get(suffix) or _DECIMAL.get("k" if suffix == "K" else suffix)
    if factor is None:
        raise ValueError(f"unknown unit {suffix!r}")
    return number * factor


def parse_duration_ms(value: object) -> int:
    """A duration in milliseconds: `90s`, `10m`, `2h30m`, `7d`, or a number of seconds. ValueError otherwise."""
    if isinstance(value, str):
        text = value.strip()
        parts = _DURATION_PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return ceil(
                sum((Fraction(number) * _SECONDS[unit] for number, unit in parts), Fraction(0)) * 1000
            )
        if not _NUMBER.match(text) or not text[-1].isdigit():
            raise ValueError("not a duration")
    return ceil(parse_quantity(value) * 1000)


def ceil(value: Fraction) -> int:
    """The smallest integer that is not less."""
    return -(-value.numerator // value.denominator)


def floor(value: Fraction) -> int:
    """The largest integer that is not more."""
    return value.numerator // value.denominator


def format_count(milli: int) -> str:
    """Milli-devices or millicores as a plain number: 1500 -> "1.5"."""
    whole, part = divmod(milli, MILLI)
    return f"{whole}.{part:03d}".rstrip("0") if part else str(whole)


def format_memory(mib: int) -> str:
    """MiB with the largest unit that divides it: 81920 -> "80Gi"."""
    for unit, size in (("Pi", 1 << 30), ("Ti", 1 << 20), ("Gi", 1 << 10)):
        if mib and mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}Mi"


def format_wait(ms: int) -> str:
    """How long something is away, as people say it, rounded up: 680_000 -> "in about 12m"."""
    minutes = -(-max(ms, 0) // 60_000)
    if minutes <= 1:
        return "within a minute"
    if minutes > 24 * 60:
        minutes = -(-minutes // 60) * 60
    return f"in about {format_duration(minutes * 60_000)}"


def format_duration(ms: int) -> str:
    """A duration as people write it, at most two units: 5_400_000 -> "1h30m"."""
    if ms % 1000 and ms < 10_000:
        return f"{ms}ms"
    left, parts = ms // 1000, []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
