"""What was on a GPU, and when: as lines for a terminal, and as an SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

GIB: Final = 1 << 30
COLORS: Final = ("#2a78b8", "#d2762d", "#4a9a5b", "#8a63b0")


class Sample(NamedTuple):
    """One look: seconds since the beginning, and of each model its bytes on the GPU and whether it may submit."""

    at: float
    resident: tuple[int, ...]
    works: tuple[bool, ...]


class Story(NamedTuple):
    """All of it. needs: bytes that each model has; arrivals: of each model, when requests came."""

    names: tuple[str, ...]
    needs: int
    samples: list[Sample]
    arrivals: tuple[list[float], ...]


def lines(story: Story, width: int) -> list[str]:
    """A row of what was there and one of requests for each model, time from left to right."""
    if not story.samples:
        return []
    end = story.samples[-1].at
    wide = max(len(name) for name in story.names)
    columns = max(width - wide - 2, 20)
    out = []
    for number, name in enumerate(story.names):
        cells = [
            _cell(story, number, end * column / columns, end * (column + 1) / columns)
            for column in range(columns)
        ]
        came = {min(int(at / end * columns), columns - 1) for at in story.arrivals[number]}
        out.append(f"{name:>{wide}}  {''.join(cells)}")
        out.append(f"{'':>{wide}}  {''.join('▴' if c in came else ' ' for c in range(columns))}".rstrip())
    marks = _scale(end, columns)
    return [*out, f"{'':>{wide}}  {marks}".rstrip()]


def _cell(story: Story, number: int, begin: float, end: float) -> str:
    """What of a model was to be seen in a stretch of time: work before waiting, moving before lying still."""
    within = [s for s in story.samples if begin <= s.at < end] or [
        min(story.samples, key=lambda s: abs(s.at - (begin + end) / 2))
    ]
    parts = [s.resident[number] / story.needs for s in within]
    if any(s.works[number] and s.resident[number] > 0.99 * story.needs for s in within):
        return "█"
    if all(part > 0.99 for part in parts):
        return "▒"
    return "·" if all(part < 0.05 for part in parts) else "▚"


def _scale(end: float, columns: int) -> str:
    step = next((s for s in (1, 2, 5, 10, 20, 60) if columns * s / end >= 8), 60)
    marks = [" "] * (columns + 8)
    for second in range(0, int(end) + 1, step):
        at = int(second / end * columns)
        text = f"{second} s"
        marks[at : at + len(text)] = text
    return "".join(marks)


LEGEND: Final = "█ at work   ▒ on the GPU, rests   ▚ on its way   · in host memory   ▴ a request comes"


def svg(story: Story, capacity: int, title: str) -> str:
    """The same as a picture: bytes of each model on the GPU over time, one above the other, below the line of what it has."""
    wide, high, left, top = 900, 300, 60, 50
    end = max(story.samples[-1].at, 0.1)

    def x(at: float) -> float:
        return left + at / end * (wide - left - 20)

    def y(amount: float) -> float:
        return top + high - amount / (1.15 * capacity) * high

    below = [0] * len(story.samples)
    parts = []
    for number, name in enumerate(story.names):
        above = [low + sample.resident[number] for low, sample in zip(below, story.samples, strict=True)]
        parts.append(_area(story.samples, below, above, x, y, COLORS[number % len(COLORS)]))
        parts += [
            f'<path d="M{x(at):.1f} {top + high + 24 + 14 * number} l4 7 h-8 z" fill="{COLORS[number % len(COLORS)]}"/>'
            for at in story.arrivals[number]
        ]
        parts.append(
            f'<text x="{left - 6}" y="{top + high + 31 + 14 * number}" text-anchor="end" font-size="11">{escape(name)}</text>'
        )
        below = above
    parts.append(
        f'<path d="M{left} {y(capacity):.1f} H{wide - 20}" stroke="#444" stroke-dasharray="5 4" fill="none"/>'
        f'<text x="{wide - 20}" y="{y(capacity) - 5:.1f}" text-anchor="end" font-size="11">'
        f"what the GPU has: {capacity / GIB:.0f} GiB</text>"
    )
    for second in range(0, int(end) + 1, 2 if end < 30 else 5):
        parts.append(
            f'<text x="{x(second):.1f}" y="{top + high + 14}" text-anchor="middle" font-size="10">{second} s</text>'
        )
    for amount in range(0, int(capacity / GIB) + 1, 5):
        parts.append(
            f'<text x="{left - 6}" y="{y(amount * GIB) + 4:.1f}" text-anchor="end" font-size="10">{amount} GiB</text>'
        )
    tall = top + high + 40 + 14 * len(story.names)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" font-family="sans-serif" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{wide}" height="{tall}" fill="#fff"/>'
        f'<text x="{left}" y="28" font-size="15">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def _area(
    samples: Sequence[Sample], below: Sequence[int], above: Sequence[int], x: object, y: object, color: str
) -> str:
    assert callable(x)
    assert callable(y)
    up = [f"{x(s.at):.1f} {y(a):.1f}" for s, a in zip(samples, above, strict=True)]
    down = [f"{x(s.at):.1f} {y(b):.1f}" for s, b in zip(samples, below, strict=True)]
    return f'<path d="M{" L".join([*up, *reversed(down)])} Z" fill="{color}"/>'
