"""Pictures as SVG: everything that is written into one is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final
from unicodedata import east_asian_width

from gpumax.study.report.style import Theme, drawing

_UNSAFE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Marks that turn the direction of text around would turn the words after a name, too.
_TURNS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_MARGIN: Final = 12.0
"""Around a picture that stands alone, in points."""

_BOLD: Final = 1.14
_WIDTHS: Final = {
    **dict.fromkeys("ijl.,:;'|!", 4.6), **dict.fromkeys(" -()[]/\\tfr", 5.1), **dict.fromkeys("w", 9.9), **dict.fromkeys("m%", 11.8),
    **dict.fromkeys("MW@", 12.2), "\u00a0": 4.0, "…": 12.0,
}  # fmt: skip

Point = tuple[float, float]


def clean(text: str) -> str:
    """Text as it may stand in HTML or XML: escaped, without characters that these forbid or that turn other text around."""
    return escape(_TURNS.sub("", _UNSAFE.sub("�", text)))


def fitted(text: str, room: float, *, bold: bool = False) -> str:
    """So much of a text as fits, with three dots for the rest."""
    thick = _BOLD if bold else 1.0
    if sum(map(_wide, text)) * thick <= room:
        return text
    left = room / thick - _wide("…")
    for number, char in enumerate(text):
        left -= _wide(char)
        if left < 0:
            return text[:number] + "…"
    return text


def _wide(char: str) -> float:
    """Points that a character takes at most, in the widest of the fonts that a system has for pages."""
    if char in _WIDTHS:
        return _WIDTHS[char]
    if char.isascii():
        return 8.6 if char.isupper() else 7.7
    return 12.5 if east_asian_width(char) in "WF" else 11.0


class Canvas:
    """A picture that grows."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def line(self, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """From one point to another."""
        self._parts.append(f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>')

    def path(self, kind: str, points: Iterable[Point]) -> None:
        """Along points."""
        if text := " ".join(f"{_n(x)},{_n(y)}" for x, y in points):
            self._parts.append(f'<polyline class="{kind}" points="{text}"/>')

    def ring(self, kind: str, points: Iterable[Point]) -> None:
        """Around points."""
        if text := " ".join(f"{_n(x)},{_n(y)}" for x, y in points):
            self._parts.append(f'<polygon class="{kind}" points="{text}"/>')

    def area(self, kind: str, points: Iterable[Point], foot: float) -> None:
        """Between points and a level."""
        found = list(points)
        if found:
            self.ring(kind, [(found[0][0], foot), *found, (found[-1][0], foot)])

    def box(self, kind: str, x: float, y: float, width: float, height: float, tip: str = "") -> None:
        """A rectangle. tip: what is told where somebody points at it."""
        inner = f"<title>{clean(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(height)}">{inner}</rect>'
        )

    def dot(self, kind: str, x: float, y: float, size: float, tip: str = "") -> None:
        """A disc."""
        inner = f"<title>{clean(tip)}</title>" if tip else ""
        self._parts.append(
            f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}">{inner}</circle>'
        )

    def text(
        self, text: str, x: float, y: float, kind: str = "", anchor: str = "start", room: float | None = None
    ) -> None:
        """Words. room: how wide they may be; where they are cut, the whole is told where somebody points at them."""
        if not text:
            return
        words = text if room is None else fitted(text, room, bold="b" in kind.split())
        tip = f"<title>{clean(text)}</title>" if words != text else ""
        named = f' class="{kind}"' if kind else ""
        placed = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{named}{placed}>{clean(words)}{tip}</text>')

    def inline(self, name: str, kind: str, title: str, about: str) -> str:
        """As a part of a page. name: unlike any other on that page."""
        return (
            f'<svg class="{kind}" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{clean(title)}</title>'
            f'<desc id="{name}-d">{clean(about)}</desc>{"".join(self._parts)}</svg>'
        )

    def alone(self, title: str, about: str, theme: Theme) -> str:
        """As a file."""
        width, height = _n(self.width + 2 * _MARGIN), _n(self.height + 2 * _MARGIN)
        corner = _n(-_MARGIN)
        size = f'width="{width}" height="{height}" viewBox="{corner} {corner} {width} {height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{clean(title)}</title>\n<desc>{clean(about)}</desc>\n'
            f'<style>{drawing(theme)}</style>\n<rect x="{corner}" y="{corner}" width="100%" height="100%" fill="{theme.card}"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
