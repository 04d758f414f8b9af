"""Letters and colours of the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from gpumax.formats.board_nodes import Held

Piece = tuple[str, Held | None]
"""A part of a node's picture, and the holder that it stands for."""

_DIM: Final = "\x1b[2m"
_BOLD: Final = "\x1b[1m"
_RED: Final = "\x1b[31m"
_ALARM: Final = "\x1b[1;31m"
_PLAIN: Final = "\x1b[0m"
_HUES: Final = tuple(f"\x1b[{code}m" for code in (36, 33, 32, 35, 34, 96, 93, 92, 95))


class Paint:
    """Letters and colours of workloads; without color, text as it is."""

    def __init__(self, letters: Mapping[str, str], color: bool) -> None:
        self.letters = dict(letters)
        self.wide = max(map(len, letters.values()), default=1)
        self._color = color
        self._hues = {name: _HUES[number % len(_HUES)] for number, name in enumerate(letters)}

    def bold(self, text: str) -> str:
        """Text that stands out."""
        return self._in(_BOLD, text)

    def workload(self, text: str, name: str) -> str:
        """Text about a workload."""
        return self._in(self._hues[name], text)

    def picture(self, pieces: Sequence[Piece], room: int) -> str:
        """A node's picture, cut to `room` characters; equal neighbours share their colour."""
        parts = groupby(_cut(pieces, room), key=lambda piece: self._style(*piece))
        return "".join(self._in(style, "".join(text for text, _ in part)) for style, part in parts)

    def _style(self, text: str, held: Held | None) -> str:
        if held is None:
            return _RED if text.startswith("x") else _DIM
        if held.mark == "!":
            return _ALARM
        return {"~": _DIM, "+": _BOLD, "": ""}[held.mark] + self._hues[held.workload]

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._color and text.strip() else text


def _cut(pieces: Sequence[Piece], room: int) -> list[Piece]:
    """All pieces, or as many as leave room for an ellipsis."""
    if sum(len(text) for text, _ in pieces) <= room:
        return list(pieces)
    kept: list[Piece] = []
    left = room - 3
    for text, held in pieces:
        if len(text) > left:
            break
        kept.append((text, held))
        left -= len(text)
    return [*kept, ("...", None)]
