"""JSON to plain documents. Lines are looked for only when there is something to say about them."""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import Key, Lines, format_path, quote
from gpumax.formats.text import MOST_DEPTH, Parsed, refuse

_MOST_DUPLICATES: Final = 50
_KEY_END: Final = re.compile(rb'"\s*:')
_OFFSET: Final = re.compile(r" \(byte (\d+)\)$")
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|\n|[^\s{}\[\],:"]+')


def read_json(data: bytes, source: str) -> Parsed:
    """The document. BadFile for broken JSON, a key that stands twice in one object, or too deep nesting."""
    try:
        document = msgspec.json.decode(data)
    except RecursionError:
        raise _too_deep(source) from None
    except msgspec.MsgspecError as error:
        message = str(error).removeprefix("JSON is malformed: ")
        offset = _OFFSET.search(message)
        line = data.count(b"\n", 0, int(offset[1])) + 1 if offset else None
        raise refuse(source, line, f"broken JSON ({_OFFSET.sub('', message)})", "JSON") from None
    # The decoder keeps the last of two equal keys and says nothing. Colons after quotes are counted first, because
    # looking for the second key takes a hundred times longer.
    if len(_KEY_END.findall(data)) > _count_keys(document, source):
        _refuse_duplicates(data, source)
    return Parsed(document, _LateLines(data), source)


class _LateLines:
    """Reads the text again when the first line is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lines: Lines | None = None

    def __call__(self, path: str) -> int:
        if self._lines is None:
            self._lines = _Scan(self._data.decode()).lines
        return self._lines(path)


def _too_deep(source: str) -> BadFile:
    return refuse(source, None, f"values nested deeper than {MOST_DEPTH}", "a flatter document")


def _count_keys(document: object, source: str) -> int:
    keys, depth = 0, 0
    level = [document]
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise _too_deep(source)
        dicts = [value for value in level if isinstance(value, dict)]
        lists = [value for value in level if isinstance(value, list)]
        keys += sum(map(len, dicts))
        inner = chain(chain.from_iterable(value.values() for value in dicts), chain.from_iterable(lists))
        level = [value for value in inner if isinstance(value, dict | list)]
    return keys


def _refuse_duplicates(data: bytes, source: str) -> None:
    scan = _Scan(data.decode())
    if scan.duplicates:
        raise BadFile(scan.duplicates[:_MOST_DUPLICATES], source)


class _Scan:
    """Walks over the tokens of valid JSON: the line of every value, and the keys that stand twice."""

    def __init__(self, text: str) -> None:
        self.lines = Lines(1)
        self.duplicates: list[Fault] = []
        self._stack: list[Lines] = []
        self._path: list[Key] = []  # the key under which the next value of each open container goes
        self._line = 1
        self._colon = False  # whether the next value of an object is due, rather than its next key
        for token in _TOKEN.findall(text):
            self._take(token)

    def _take(self, token: str) -> None:
        match token:
            case "\n":
                self._line += 1
            case "{":
                self._open("")
            case "[":
                self._open(0)
            case "}" | "]":
                self._stack.pop()
                self._path.pop()
            case ",":
                last = self._path[-1]
                self._path[-1] = last + 1 if isinstance(last, int) else ""
            case ":":
                self._colon = True
            case _:
                self._scalar(token)

    def _open(self, first: Key) -> None:
        inner = Lines(self._line)
        if self._stack:
            self._value()
            self._stack[-1].below[self._path[-1]] = inner
        else:
            self.lines = inner
        self._stack.append(inner)
        self._path.append(first)

    def _scalar(self, token: str) -> None:
        if self._colon or isinstance(self._path[-1], int):
            self._value()
        else:
            self._key(msgspec.json.decode(token, type=str))

    def _key(self, key: str) -> None:
        self._path[-1] = key
        at = self._stack[-1].at
        if key in at:
            found = f"key {quote(key)} twice, first on line {at[key]}"
            self.duplicates.append(Fault(format_path(self._path), self._line, found, "each key once"))
        at[key] = self._line

    def _value(self) -> None:
        self._colon = False
        self._stack[-1].at.setdefault(self._path[-1], self._line)
