"""JSON as a stream: a list of objects, a list in `items`, or one object after the other, whatever the size of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpumax.formats.shape import show
from gpumax.traces.source import Source
from gpumax.traces.table import Report

Document = dict[str, Any]

_MOST: Final = 16 << 20
"""The longest object, in characters."""
_ITEMS: Final = re.compile(
    r'\{\s*(?:"(?:kind|apiVersion|metadata)"\s*:\s*(?:"[^"]*"|\{[^{}]*\})\s*,\s*)*"items"\s*:\s*\['
)
"""The beginning of a list as Kubernetes writes it; what is in it may have `items` of its own."""
_SPACE: Final = re.compile(r"[\s,]*")


def objects(source: Source, report: Report) -> Iterator[tuple[int, Document]]:
    """Each object, with the line on which it begins. Where one can't be read, that is reported and is the end."""
    reader = _Reader(source)
    reader.begin()

    def broken(line: int, column: str, found: str, wanted: str) -> None:
        # Of a packed file that breaks off, that is told alone: it is one row.
        if not source.torn:
            report(line, column, found, wanted)

    while (found := reader.next(broken)) is not None:
        line, value = found
        if isinstance(value, dict):
            yield line, value
        else:
            report(line, "", show(value), "an object")
    if source.torn:
        report(reader.line, "", f"a .gz file that breaks off ({source.torn})", "a whole one")


def at(document: object, *keys: str) -> Any:
    """What stands in an object under one key after the other; None where nothing does."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def text(document: object, *keys: str) -> str:
    """The same, where it is text or a number; else empty."""
    found = at(document, *keys)
    if isinstance(found, bool):
        return ""
    return str(found) if isinstance(found, str | int | float) else ""


def listed(document: object, *keys: str) -> list[Any]:
    """The same, where it is a list; else an empty one."""
    found = at(document, *keys)
    return found if isinstance(found, list) else []


class _Reader:
    """A window over the text that moves on, object by object."""

    def __init__(self, source: Source) -> None:
        self._blocks = source.blocks()
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False
        self._list = False
        self._closed = False
        self.line = 1

    def begin(self) -> None:
        """Go to the first object."""
        self._more()
        self._pass_space()
        if self._text.startswith("[", self._at):
            self._enter(self._at + 1)
        elif match := _ITEMS.match(self._text, self._at):
            self._enter(match.end())

    def _enter(self, at: int) -> None:
        self._list = True
        self._move(at)

    def next(self, report: Report) -> tuple[int, Any] | None:
        """The next value; None where there is none, or none that can be read."""
        self._pass_space()
        if self._closed or self._at >= len(self._text):
            if self._list and not self._closed:
                report(self.line, "", "a list that breaks off", "its end, `]`")
            return None
        if self._list and self._text[self._at] == "]":
            self._closed = True
            return None
        line = self.line
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if (
                    len(self._text) - self._at <= _MOST
                    and not isinstance(error, RecursionError)
                    and self._more()
                ):
                    continue
                report(
                    line, "", f"JSON that can't be read ({_why(error)}); nothing behind it is read", "JSON"
                )
                return None
            # A number at the end of the window may go on in the next block.
            if end == len(self._text) and self._more():
                continue
            self._move(end)
            return line, value

    def _pass_space(self) -> None:
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._move(match.end())
            if self._at < len(self._text) or not self._more():
                return

    def _move(self, at: int) -> None:
        self.line += self._text.count("\n", self._at, at)
        self._at = at

    def _more(self) -> bool:
        """Widen the window; what was read leaves it."""
        block = next(self._blocks, "")
        self._text = self._text[self._at :] + block
        self._at = 0
        return bool(block)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return error.msg.lower() if isinstance(error, json.JSONDecodeError) else "a number of too many digits"
