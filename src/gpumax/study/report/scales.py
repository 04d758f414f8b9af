"""From figures to places on a picture, with marks at numbers that people say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

Mark = tuple[float, str]
"""A figure that has a mark, and what stands there."""


class Scale(NamedTuple):
    """Where figures lie between `start` and `end`; figures beyond the ends lie at the ends. bend: what is drawn evenly."""

    low: float
    high: float
    start: float
    end: float
    marks: tuple[Mark, ...] = ()
    bend: Callable[[float], float] = float

    def at(self, figure: float) -> float:
        """The place of a figure."""
        low, high = self.bend(self.low), self.bend(self.high)
        part = (self.bend(min(max(figure, self.low), self.high)) - low) / (high - low)
        return self.start + part * (self.end - self.start)


_WAITS: Final[tuple[Mark, ...]] = (
    (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (36_000, "10 h"), (172_800, "2 days"),
    (864_000, "10 days"), (8_640_000, "100 days"), (86_400_000, "1,000 days"),
)  # fmt: skip
_PARTS: Final[tuple[Mark, ...]] = ((0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (1.0, "all"))


def waits(longest: float, start: float, end: float) -> Scale:
    """Seconds, each ten times as long as the last by the same step. All below a second lie at its foot, where it says 1 s."""
    high = next((figure for figure, _ in _WAITS[2:] if figure >= longest), longest)
    marks = ((1.0, "≤ 1 s"), *(mark for mark in _WAITS[1:] if mark[0] <= high))
    return Scale(1.0, high, start, end, marks, log10)


def parts(start: float, end: float) -> Scale:
    """Parts of all, the last ones apart: from 90 to 99 % is as far as from 0 to 90 %."""
    return Scale(0.0, 1.0, start, end, _PARTS, lambda part: -log10(1.003 - part))


def shares(start: float, end: float, low: float = 0.0, high: float = 1.0) -> Scale:
    """Parts of a capacity, even."""
    step = next(
        step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0**9) if (high - low) / step <= 5.001
    )
    low, high = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    count = round((high - low) / step)
    marks = tuple(
        (low + step * number, f"{(low + step * number) * 100:.0f} %") for number in range(count + 1)
    )
    return Scale(low, max(high, low + step), start, end, marks)


def numbers(most: float, start: float, end: float, least: float = 0.0, about: int = 5) -> Scale:
    """Plain numbers, even, at about so many marks."""
    step = _round_step((most - least) / about)
    low, high = floor(least / step) * step, ceil(most / step) * step
    count = max(1, round((high - low) / step))
    marks = tuple((low + step * number, _plain(low + step * number)) for number in range(count + 1))
    return Scale(low, low + step * count, start, end, marks)


def days(seconds: float, start: float, end: float, about: int = 6) -> Scale:
    """Time since the first arrival, in days or hours, to its very end."""
    size, unit = (86_400.0, "day") if seconds >= 2 * 86_400 else (3600.0, "hour")
    most = max(seconds / size, 1e-9)
    step = max(_round_step(most / about), 1 if most > 2 else 0)
    count = floor(most / step + 1e-9)
    marks = [(step * number * size, _plain(step * number)) for number in range(count + 1)]
    marks[0] = (0.0, f"{unit} 0")
    return Scale(0.0, max(seconds, 1e-9), start, end, tuple(marks))


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... that is not less."""
    if step <= 0:
        return 1.0
    power = 10.0 ** floor(log10(step))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= step * (1 - 1e-9))


def _plain(number: float) -> str:
    return f"{number:,.10g}"


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places as near as possible to those that are wanted, each at least so far from the next, between low and high.

    For the words behind lines whose ends lie close together.
    """
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    blocks: list[list[float]] = []  # [sum of wanted starts, count] of neighbours that touch
    for number in order:
        blocks.append([wanted[number], 1.0])
        while len(blocks) > 1 and _start(blocks[-2]) + blocks[-2][1] * least > _start(blocks[-1]):
            last = blocks.pop()
            blocks[-1][0] += last[0] - blocks[-1][1] * least * last[1]
            blocks[-1][1] += last[1]
    places: list[float] = []
    for block in blocks:
        places += [_start(block) + least * number for number in range(round(block[1]))]
    # What would leave the picture pushes its neighbours back.
    for number in range(len(places)):
        places[number] = max(places[number], low if number == 0 else places[number - 1] + least)
    for number in reversed(range(len(places))):
        after = places[number + 1] - least if number < len(places) - 1 else high
        places[number] = min(places[number], after)
    found = [0.0] * len(wanted)
    for number, place in zip(order, places, strict=True):
        found[number] = place
    return found


def _start(block: list[float]) -> float:
    """Where the first of a block goes: blocks keep the mean of what their members want."""
    return block[0] / block[1]
