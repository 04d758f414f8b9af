"""Pictures of numbers over time, in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
HEIGHT: Final = 8
"""Rows of a picture, without the line below it."""


def plot(values: Sequence[float], labels: tuple[str, str], width: int, *, blocks: bool) -> list[str]:
    """Columns over time, as high as the largest; blocks: in eighths of a row, else in whole ones. labels: below both ends."""
    top = max(values, default=0.0)
    axis = max(len(_tick(top)), len(_tick(top / 2)))
    room = max(width - axis - 2, 10)
    means = resampled(values, min(room, len(values)))
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        tick = {HEIGHT - 1: _tick(top), HEIGHT // 2 - 1: _tick(top / 2)}.get(row, "")
        cells = "".join(_cell(mean / top * HEIGHT - row if top else 0.0, blocks) for mean in means)
        lines.append(f"{tick:>{axis}} {'│' if blocks else '|'}{cells}".rstrip())
    begin, end = labels
    gap = len(means) - len(begin) - len(end)
    below = f"{begin}{' ' * gap}{end}" if gap > 0 else begin
    return [*lines, f"{' ' * (axis + 2)}{below}"]


def _cell(height: float, blocks: bool) -> str:
    """What is seen of a column in one row that it reaches up to `height` of."""
    if not blocks:
        return "#" if height >= 0.5 else " "
    return BLOCKS[max(0, min(8, round(height * 8)))]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def resampled(values: Sequence[float], count: int) -> list[float]:
    """So many means of equal parts of the values, which are at least as many."""
    means = []
    for number in range(count):
        begin, end = number * len(values) / count, (number + 1) * len(values) / count
        whole = 0.0
        for index in range(int(begin), min(len(values), int(end) + 1)):
            whole += values[index] * max(0.0, min(end, index + 1) - max(begin, index))
        means.append(whole / (end - begin))
    return means
