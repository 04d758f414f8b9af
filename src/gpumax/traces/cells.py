"""What the cells of a trace mean: moments, durations, counts, names. Amounts as everywhere: milli, MiB, milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from gpumax.formats.lines import quote
from gpumax.formats.scalars import LONGEST_DURATION_MS
from gpumax.units import LARGEST, MIB, MILLI, ceil, parse_duration_ms, parse_quantity

_EPOCH: Final = datetime(1970, 1, 1)
_LAST_S: Final = 253_402_300_799  # the end of year 9999
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}", re.ASCII)
_CLOCK: Final = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?", re.ASCII)  # fmt: skip
_TIME: Final = "a time like 2026-11-23 12:00:00, or seconds"
_DURATION: Final = "a duration: seconds, 90m, or 1-02:03:04"


class BadCell(Exception):
    """A cell, or some of them together, that can't be used. column: ours."""

    def __init__(self, column: str, found: str, wanted: str) -> None:
        self.column = column
        self.found = found
        self.wanted = wanted
        super().__init__(column, found, wanted)


def show(text: str) -> str:
    """A cell as a fault names it."""
    if not text:
        return "nothing"
    return quote(text) + (
        ", which is not UTF-8" if any("\udc80" <= char <= "\udcff" for char in text) else ""
    )


def moment(column: str, text: str) -> int:
    """Milliseconds since 1970, or since the beginning of a trace that counts from there. Times without a zone are in UTC."""
    text = text.strip()
    if text[4:5] == "-" and _DATE.fullmatch(text):
        try:
            found = datetime.fromisoformat(text.replace(" UTC", "Z"))
        except ValueError:
            raise BadCell(column, show(text), "a time that exists") from None
        if found.tzinfo is not None:
            found = found.astimezone(UTC).replace(tzinfo=None)
        return _after(column, text, (found - _EPOCH) // timedelta(milliseconds=1))
    seconds = _plain(column, text, _TIME)
    if seconds > _LAST_S:
        hint = "; this looks like milliseconds" if seconds / 1000 <= _LAST_S else ""
        raise BadCell(column, show(text), f"seconds before the year 10000{hint}")
    return _after(column, text, round(seconds * 1000))


def _after(column: str, text: str, ms: int) -> int:
    if ms < 0:
        raise BadCell(column, show(text), "0 or more" if text.startswith("-") else "a time after 1970")
    return ms


def _plain(column: str, text: str, wanted: str) -> float:
    try:
        # float() takes 1_000 and words for infinity, too.
        number = float(text) if "_" not in text else float("nan")
    except ValueError:
        raise BadCell(column, show(text), wanted) from None
    if not abs(number) <= LARGEST:
        raise BadCell(column, show(text), wanted)
    return number


def duration(column: str, text: str) -> int:
    """Milliseconds: of seconds, of `2h30m`, or as Slurm writes them, [D-]HH:MM:SS."""
    text = text.strip()
    if text[-1:].isdigit() and ":" not in text:
        ms = round(_plain(column, text, _DURATION) * 1000)
    elif match := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(match[part] or 0) for part in range(1, 5))
        ms = ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000
        ms += int((match[5] or "").ljust(3, "0")[:3])
    else:
        try:
            ms = parse_duration_ms(text)
        except ValueError:
            raise BadCell(column, show(text), _DURATION) from None
    if ms < 0:
        raise BadCell(column, show(text), "0 or more")
    if ms > LONGEST_DURATION_MS:
        raise BadCell(column, show(text), "100 years at most")
    return ms


def count(column: str, text: str) -> int:
    """A whole number, 0 or more; 2.0 is 2."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    number = _plain(column, text, "a whole number")
    if number < 0:
        raise BadCell(column, show(text), "0 or more")
    if not number.is_integer():
        raise BadCell(column, show(text), "a whole number")
    return int(number)


def whole(column: str, text: str) -> int:
    """A whole number of either sign, as priorities are."""
    number = _plain(column, text.strip(), "a whole number")
    if not number.is_integer() or abs(number) >= 1 << 31:
        raise BadCell(column, show(text), "a whole number, less than 2^31")
    return int(number)


def milli(column: str, text: str) -> int:
    """Thousandths of GPUs or cores: of 4, 0.5 or 500m. Rounded up."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text) * MILLI
    return _quantity(column, text, MILLI, "an amount like 4, 0.5 or 500m")


def memory(column: str, text: str) -> int:
    """MiB: of bytes, or 16Gi. Rounded up."""
    return -(-_quantity(column, text.strip(), 1, "an amount like 16Gi, 512Mi or a number of bytes") // MIB)


def _quantity(column: str, text: str, scale: int, wanted: str) -> int:
    try:
        amount = parse_quantity(text) * scale
    except ValueError:
        raise BadCell(column, show(text), wanted) from None
    if amount < 0:
        raise BadCell(column, show(text), "0 or more")
    if amount > LARGEST * max(1, MIB if scale == 1 else 1):
        raise BadCell(column, show(text), "less than that")
    return ceil(amount)


def name(column: str, text: str) -> str:
    """A name of a workload or of a tenant."""
    text = text.strip()
    if _NAME.fullmatch(text) is None:
        wanted = "a name: a letter or digit first, then letters, digits, `.`, `_`, `-`, `/`"
        raise BadCell(column, show(text), wanted)
    return text


def words(column: str, text: str) -> str:
    """Text in one line."""
    text = text.strip()
    if len(text) > 253 or not text.isprintable():
        raise BadCell(column, show(text), "text on one line, at most 253 characters")
    return text


def models(column: str, text: str) -> tuple[str, ...]:
    """Device models, separated by `|`."""
    return tuple(dict.fromkeys(words(column, part) for part in text.split("|") if part.strip()))
