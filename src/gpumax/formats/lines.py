"""Where the parts of a document stand: paths as text, and the lines they lead to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

Key = str | int
"""One step of a path: a key of an object, or an index of a list."""

LONGEST_SHOWN: Final = 60
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP: Final = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("[^"\\]*(?:\\.[^"\\]*)*")\]')


def quote(text: str) -> str:
    """Text in double quotes, cut to a line's worth, with nothing in it that a terminal would act on."""
    cut = text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    safe = cut.encode("utf-8", "replace").decode()
    quoted = msgspec.json.encode(safe).decode()
    return printable(quoted)


def printable(text: str) -> str:
    """The text in one line, with nothing in it that a terminal would act on: other characters as `\\u001b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def format_path(path: Iterable[Key]) -> str:
    """A path as people read it: `workloads[3].request.gpu`, `nodes[0].labels["a.b/c"]`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        elif len(key) <= LONGEST_SHOWN and _PLAIN.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text += f"[{quote(key)}]"
    return text


def split_path(text: str) -> Iterator[Key]:
    """The steps of a path that format_path wrote."""
    for plain, index, quoted in _STEP.findall(text):
        if plain:
            yield plain
        elif index:
            yield int(index)
        else:
            yield msgspec.json.decode(quoted, type=str)


class Lines:
    """The 1-based lines of a container's entries, and of what is in them. Call it with a path."""

    __slots__ = ("at", "below", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.at: dict[Key, int] = {}
        self.below: dict[Key, Lines] = {}

    def __call__(self, path: str) -> int:
        """The line of the deepest part of the path that is there."""
        here, line = self, self.line
        for key in split_path(path):
            line = here.at.get(key, line)
            below = here.below.get(key)
            if below is None:
                break
            here = below
        return line
