"""What every picture of a report has, and what several of them draw alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from gpumax.study.report.groups import Group, pair
from gpumax.study.report.scales import Scale, apart
from gpumax.study.report.style import DASHES
from gpumax.study.report.svg import Canvas

WIDE: Final = 780.0
"""A picture on a screen or on paper, in points of its own."""

NARROW: Final = 320.0
"""The same on a phone: drawn anew, because letters that shrink can't be read."""

_ROW: Final = 18.0


class Picture(NamedTuple):
    """name: of its file; finding: what it shows, in a sentence; lead: how to read it; about: the same for who doesn't see it."""

    name: str
    finding: str
    lead: str
    about: str
    draw: Callable[[float], Canvas]


class Label(NamedTuple):
    """Words for a line, and its figure. y: where it ends."""

    text: str
    color: int
    y: float
    figure: str = ""


def stroke(found: Sequence[Group], policy: str) -> str:
    """The line of a policy; whom the report is about has a thicker one."""
    subject, _ = pair(found)
    thick = " k" if subject is not None and subject.policy == policy else ""
    return f"s{colors(found)[policy]}{thick}"


def colors(found: Sequence[Group]) -> Mapping[str, int]:
    """A number for the colour and dashes of each policy, the same in every picture: first whom the report is about."""
    subject, other = pair(found)
    first = [group.policy for group in (subject, other) if group]
    names = dict.fromkeys([*first, *(group.policy for group in found)])
    return {name: number % len(DASHES) for number, name in enumerate(names)}


def levels(canvas: Canvas, scale: Scale, left: float, right: float) -> None:
    """Lines across, at the marks of a scale that goes up."""
    for figure, words in scale.marks:
        y = scale.at(figure)
        canvas.line("g", left, y, right, y)
        canvas.text(words, left - 6, y + 4, "m", "end")


def posts(canvas: Canvas, scale: Scale, top: float, foot: float, *, lines: bool = True) -> None:
    """Marks along the foot of a picture, each with a line up."""
    for figure, words in scale.marks:
        x = scale.at(figure)
        if lines:
            canvas.line("g", x, top, x, foot)
        near = "end" if x > canvas.width - 24 else "middle"
        canvas.text(words, min(x, canvas.width - 2) if near == "end" else x, foot + 17, "m", near)


def sample(canvas: Canvas, color: int, x: float, y: float) -> None:
    """A piece of a line, beside its name."""
    canvas.line(f"s{color}", x, y, x + 22, y)


def ends(canvas: Canvas, labels: Sequence[Label], x: float, low: float, high: float) -> None:
    """Words behind the ends of lines, apart from each other, each led to by a thin line."""
    places = apart([label.y for label in labels], _ROW, low, high)
    for label, y in zip(labels, places, strict=True):
        canvas.path("a", [(x + 2, label.y), (x + 10, y), (x + 14, y)])
        sample(canvas, label.color, x + 16, y)
        canvas.text(label.text, x + 43, y + 4, room=canvas.width - x - 110)
        canvas.text(label.figure, canvas.width - 2, y + 4, "b", "end")


def legend(canvas: Canvas, labels: Sequence[Label], x: float, y: float) -> None:
    """The same below a picture, a line each."""
    for number, label in enumerate(labels):
        sample(canvas, label.color, x, y + _ROW * number)
        canvas.text(label.text, x + 29, y + 4 + _ROW * number, room=canvas.width - x - 110)
        canvas.text(label.figure, canvas.width - 10, y + 4 + _ROW * number, "b", "end")


def legend_height(labels: int) -> float:
    """How much room they need."""
    return _ROW * labels + 6
