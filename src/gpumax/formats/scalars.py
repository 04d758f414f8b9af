"""Shapes of single values: text, names, whole numbers, amounts, durations, times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

from gpumax.formats.shape import Schema, wrong
from gpumax.model.amounts import Resource
from gpumax.units import (
    LARGEST,
    MIB,
    MILLI,
    UNLIMITED,
    ceil,
    floor,
    format_duration,
    format_memory,
    parse_duration_ms,
    parse_quantity,
)  # fmt: skip

LONGEST_DURATION_MS: Final = 100 * 365 * 86_400_000
"""The longest duration that may be written: a hundred years."""

_LAST_MS: Final = 253_402_300_799_999  # the end of year 9999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,18})?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


class Text:
    """Text that matches a pattern as a whole."""

    def __init__(self, pattern: str, wanted: str, *, most: int = 253) -> None:
        self._match = re.compile(pattern, re.ASCII).fullmatch
        self._pattern = pattern
        self._wanted = wanted
        self._most = most

    def read(self, value: object) -> str:
        """The text."""
        if isinstance(value, str) and len(value) <= self._most and self._match(value):
            return value
        if isinstance(value, str) and len(value) > self._most:
            raise wrong(value, f"at most {self._most:,} characters")
        quotes = " (numbers and booleans in quotes)" if isinstance(value, bool | int | float) else ""
        raise wrong(value, self._wanted + quotes)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A string."""
        return {"type": "string", "pattern": f"^(?:{self._pattern})$", "maxLength": self._most}


NAME: Final = Text(
    r"[A-Za-z0-9][A-Za-z0-9._/-]*",
    "a name: a letter or digit first, then letters, digits, `.`, `_`, `-`, `/`",
)
"""A name in a snapshot; tasks may come from Kubernetes, as `namespace/pod`."""

GROUP_NAME: Final = Text(r"(?:[A-Za-z0-9][A-Za-z0-9._/-]*)?", "a name like those of workloads")
"""Of a group; empty for the group of the tasks that name none."""

LABEL_NAME: Final = Text(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?",
    "lower-case letters, digits and `-`, with a letter or digit at both ends, at most 63: it becomes a DNS name and a path",
    most=63,
)
"""A name that becomes a DNS name and a path."""

KEY: Final = Text(r"[A-Za-z0-9][A-Za-z0-9._/-]*", "a key like `zone` or `example.com/zone`", most=317)
"""Of a label, a taint or an extended resource."""

VALUE: Final = Text(r"[^\x00-\x1f\x7f\ud800-\udfff]*", "text on one line")
"""Of a label or a taint."""

MODEL: Final = Text(r"[A-Za-z0-9][A-Za-z0-9 ._+/()-]*", "the model of a device, like H100", most=64)


class Flag:
    """true or false, or one of a few words between them."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def read(self, value: object) -> bool | str:
        """The boolean, or the word."""
        if isinstance(value, bool) or (isinstance(value, str) and value in self._words):
            return value
        *others, last = "true", "false", *self._words
        raise wrong(value, f"{', '.join(others)} or {last}", self._words)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A boolean, or one of the words."""
        boolean: Schema = {"type": "boolean"}
        return {"anyOf": [boolean, {"enum": list(self._words)}]} if self._words else boolean


class Whole:
    """A whole number in a range."""

    def __init__(self, least: int = 0, most: int = LARGEST) -> None:
        self._least = least
        self._most = most

    def read(self, value: object) -> int:
        """The number."""
        number = value
        if isinstance(value, float) and value.is_integer():
            number = int(value)
        if isinstance(number, int) and not isinstance(number, bool) and self._least <= number <= self._most:
            return int(number)
        raise wrong(value, f"a whole number, {self._range()}")

    def _range(self) -> str:
        return f"{self._least} or more" if self._most >= LARGEST else f"{self._least} to {self._most}"

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An integer."""
        return {"type": "integer", "minimum": self._least, "maximum": self._most}


class Real:
    """A finite number in a range, not negative."""

    def __init__(self, least: float = 0, most: float = LARGEST, wanted: str = "") -> None:
        self._least = least
        self._most = most
        self._wanted = wanted or f"a number, {least:g} to {most}"

    def read(self, value: object) -> float:
        """The number."""
        # Not a number is in no range.
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self._least <= value <= self._most
        ):
            return float(value)
        raise wrong(value, self._wanted)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A number."""
        return {"type": "number", "minimum": self._least, "maximum": self._most}


class Choice:
    """One of a few words."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)

    def read(self, value: object) -> str:
        """The word."""
        if isinstance(value, str) and value in self._words:
            return value
        raise wrong(value, f"one of {', '.join(self._words)}", self._words)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An enumeration."""
        return {"enum": list(self._words)}


Round = Literal["up", "down"]
_PLAIN: Final = r"\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_NO_UNIT: Final = re.compile(rf"^\s*{_PLAIN}\s*$", re.ASCII)
_DURATION: Final = rf"^\s*(([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+|{_PLAIN})\s*$"
_UNITS: Final = {"gpu": "m|k|K", "cpu": "m|k|K", "memory": "m|k|K|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei"}
_LIKE: Final = {
    "gpu": "2, 0.5 or 500m",
    "cpu": "4, 0.5 or 500m",
    "memory": "16Gi, 512Mi or a number of bytes",
}


class Amount:
    """An amount of a resource, in milli-devices, millicores or MiB: requests are rounded up, capacities down."""

    def __init__(
        self, resource: Resource, rounding: Round, *, unlimited: bool = False, most: int = LARGEST
    ) -> None:
        self._most = most
        self._resource = resource
        self._round = ceil if rounding == "up" else floor
        self._unlimited = unlimited
        self._wanted = f"an amount like {_LIKE[resource]}" + (", or unlimited" if unlimited else "")
        self._pattern = rf"^\s*{_PLAIN}({_UNITS[resource]})?\s*$"
        self._match = re.compile(self._pattern, re.ASCII).match
        self._of_text = lru_cache(1024)(self._parse)

    def read(self, value: object) -> int:
        """The amount; UNLIMITED for `unlimited`."""
        if type(value) is int and self._resource != "memory" and 0 <= value <= LARGEST // MILLI:
            return value * MILLI
        return self._of_text(value) if isinstance(value, str) else self._parse(value)

    def _parse(self, value: object) -> int:
        if value == "unlimited" and self._unlimited:
            return UNLIMITED
        try:
            quantity = parse_quantity(value)
        except ValueError:
            raise wrong(value, self._wanted) from None
        if quantity < 0:
            raise wrong(value, "0 or more")
        if isinstance(value, str) and self._match(value) is None:
            raise wrong(value, self._wanted)
        if self._resource == "memory" and quantity.denominator != 1:
            raise wrong(value, "whole bytes; write units like 16Gi")
        scaled = quantity / MIB if self._resource == "memory" else quantity * MILLI
        if scaled > self._most:
            raise wrong(value, f"at most {write_amount(self._resource, self._most)}")
        return self._round(scaled)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A number or text with a unit."""
        parts: list[Schema] = [{"type": "number", "minimum": 0}, {"type": "string", "pattern": self._pattern}]
        if self._unlimited:
            parts.append({"const": "unlimited"})
        return {"anyOf": parts}


class Decimal:
    """A plain number, in parts of `scale`, rounded down. least, most: such parts."""

    def __init__(self, scale: int, *, least: int = 0, most: int = LARGEST) -> None:
        self._scale = scale
        self._least = least
        self._most = most

    def read(self, value: object) -> int:
        """How many parts."""
        try:
            quantity = parse_quantity(value)
        except ValueError:
            raise wrong(value, "a number, 0 or more") from None
        if isinstance(value, str) and quantity >= 0 and _NO_UNIT.match(value) is None:
            raise wrong(value, "a number without a unit")
        if not self._least <= quantity * self._scale <= self._most:
            least = f"{self._least / self._scale:g}"
            raise wrong(value, f"a number, {least} to {self._most // self._scale}")
        return floor(quantity * self._scale)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A number."""
        number: Schema = {"type": "number", "minimum": self._least / self._scale if self._least else 0}
        if self._most < LARGEST:
            number["maximum"] = self._most / self._scale
        return {"anyOf": [number, {"type": "string", "pattern": _NO_UNIT.pattern}]}


class Duration:
    """A duration in milliseconds."""

    def __init__(self, *, least_ms: int = 0) -> None:
        self._least_ms = least_ms
        self._of_text = lru_cache(1024)(self._parse)

    def read(self, value: object) -> int:
        """The milliseconds."""
        return self._of_text(value) if isinstance(value, str) else self._parse(value)

    def _parse(self, value: object) -> int:
        try:
            duration = parse_duration_ms(value)
        except ValueError:
            raise wrong(value, "a duration like 90s, 10m, 2h, 7d, or a number of seconds") from None
        if not self._least_ms <= duration <= LONGEST_DURATION_MS:
            raise wrong(
                value, "a duration of 100 years at most, not negative" + (", not 0" * bool(self._least_ms))
            )
        return duration

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """Text with units, or seconds."""
        return {
            "anyOf": [
                {"type": "string", "pattern": _DURATION},
                {"type": "number", "minimum": 0},
            ]
        }


class Time:
    """A moment, in milliseconds since 1970."""

    def read(self, value: object) -> int:
        """The milliseconds."""
        if isinstance(value, str):
            return _time(value)
        try:
            moment = parse_quantity(value) * 1000
        except ValueError:
            raise wrong(value, _TIME_WANTED) from None
        if not 0 <= moment <= _LAST_MS:
            hint = "; this looks like milliseconds" if moment / 1000 <= _LAST_MS else ""
            raise wrong(value, f"seconds since 1970, before the year 10000{hint * (moment > 0)}")
        return floor(moment)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """RFC 3339 or seconds."""
        return {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number", "minimum": 0}]}


_TIME_WANTED: Final = "a time like 2026-11-23T12:00:00Z, or seconds since 1970"


@lru_cache(4096)
def _time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise wrong(text, _TIME_WANTED)
    year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
    offset = timedelta(hours=int(match[10] or 0), minutes=int(match[11] or 0))
    try:
        zone = timezone(-offset if match[9] == "-" else offset)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as error:
        raise wrong(text, f"a time that exists ({error})") from None
    ms = (moment - _EPOCH) // timedelta(milliseconds=1) + floor(Fraction(match[7] or 0) * 1000)
    if not 0 <= ms <= _LAST_MS:
        raise wrong(text, "a time after 1970")
    return ms


def write_time(ms: int) -> str:
    """A moment in RFC 3339, UTC, with milliseconds only where there are any."""
    moment = _NAIVE_EPOCH + timedelta(milliseconds=ms)
    return f"{moment.isoformat(timespec='milliseconds' if ms % 1000 else 'seconds')}Z"


def write_duration(ms: int) -> str | int | float:
    """A duration as people write it, or in seconds where that would not be exact."""
    text = format_duration(ms)
    return text if parse_duration_ms(text) == ms else write_number(ms)


def write_number(parts: int, scale: int = MILLI) -> int | float | str:
    """`parts` of `scale` as a number that reads back exactly."""
    whole, rest = divmod(parts, scale)
    if not rest:
        return whole
    # A float holds 15 digits of any decimal.
    return parts / scale if parts < 10**15 else f"{whole}.{rest:0{len(str(scale)) - 1}d}"


def write_amount(resource: Resource, amount: int) -> int | float | str:
    """An amount as files carry it: gpu and cpu as numbers, memory with its unit."""
    if amount >= UNLIMITED:
        return "unlimited"
    return format_memory(amount) if resource == "memory" else write_number(amount)


def write_bytes(resource: str, amount: int) -> int | float | str:
    """An amount as answers carry it: gpu and cpu as numbers, memory in bytes."""
    if amount >= UNLIMITED:
        return "unlimited"
    if resource != "memory":
        return write_number(amount)
    # JSON has no integers beyond 64 bits that every reader takes.
    return amount * MIB if amount < 1 << 43 else format_memory(amount)
