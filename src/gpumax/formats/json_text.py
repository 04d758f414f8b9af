"""JSON to plain documents. Lines are looked for only when there is something to say about them."""

from __future__ import annotations

import re
from array import array
from itertools import chain
from typing import Final

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import Key, format_path, quote, split_path
from gpumax.formats.parsed import MOST_DEPTH, NotJson, Parsed, refuse

MOST_VALUES: Final = 2_000_000
"""How many values a JSON document may hold: half as many again as 10,000 nodes with 90,000 tasks take."""

_MOST_DUPLICATES: Final = 50
_KEY_END: Final = re.compile(rb'"\s*:')
_OFFSET: Final = re.compile(r" \(byte (\d+)\)$")
_LONE_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
# Strings are taken whole, so that what looks like a bracket in one is none.
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],\n]')


def read_json(data: bytes, source: str) -> Parsed:
    """The document. BadFile for broken JSON, a key that stands twice in one object, too deep nesting or too many values."""
    # Commas in text count, too: nobody writes millions of them.
    if data.count(b",") > MOST_VALUES:
        raise refuse(source, None, f"more than {MOST_VALUES:,} values", "a smaller document")
    try:
        document = msgspec.json.decode(data)
    except RecursionError:
        raise _too_deep(source) from None
    except msgspec.MsgspecError as error:
        raise _broken(data, source, str(error)) from None
    # The decoder keeps the last of two equal keys and says nothing. Colons after quotes are counted first, because
    # looking for the second key takes a hundred times longer.
    if len(_KEY_END.findall(data)) > _count_keys(document, source) and (faults := _duplicates(data.decode())):
        raise BadFile(faults, source)
    return Parsed(document, _LateLines(data), source)


def _broken(data: bytes, source: str, message: str) -> NotJson:
    message = message.removeprefix("JSON is malformed: ")
    found = _OFFSET.search(message)
    if found is not None:
        offset, said = int(found[1]), _OFFSET.sub("", message)
    elif lone := _LONE_HIGH.search(data):
        offset, said = lone.start(), "half of a surrogate pair"
    else:
        offset, said = len(data.rstrip()), "it ends too early"
    line = data.count(b"\n", 0, offset) + 1
    return NotJson([Fault("", line, f"broken JSON ({said})", "JSON")], source)


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


class _Entries:
    """Where the entries of one container start and end, in bytes. `at`: where a fault of an entry is, its key if it has one."""

    __slots__ = ("at", "ends", "number", "starts")

    def __init__(self) -> None:
        self.at: array[int] = array("Q")
        self.starts: array[int] = array("Q")
        self.ends: array[int] = array("Q")
        self.number: dict[Key, int] | None = None  # of a key; None: keys are numbers themselves

    def add(self, at: int, start: int, end: int) -> None:
        self.at.append(at)
        self.starts.append(start)
        self.ends.append(end)

    def find(self, key: Key) -> int | None:
        """The number of an entry."""
        if self.number is not None:
            return self.number.get(key)
        return key if isinstance(key, int) and key < len(self.at) else None


class _LateLines:
    """Finds the line of a path in JSON that was read, and looks only at the containers on the way.

    The decoder slices a container into its entries; they stand in the text in that order, with nothing but blanks,
    commas and keys between them.
    """

    _BLANKS: Final = re.compile(rb"[\s,]*")
    _KEY: Final = re.compile(rb'[\s,]*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*')

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, _Entries] = {}
        self._counted = (0, 1)  # an offset, and its line

    def __call__(self, path: str) -> int:
        start, end = len(self._data) - len(self._data.lstrip()), len(self._data)
        at = start
        for key in split_path(path):
            entries = self._entries(start, end)
            number = None if entries is None else entries.find(key)
            if entries is None or number is None:
                break
            at, start, end = entries.at[number], entries.starts[number], entries.ends[number]
        return self._line(at)

    def _entries(self, start: int, end: int) -> _Entries | None:
        known = self._known.get(start)
        if known is None and self._data[start : start + 1] in (b"{", b"["):
            known = self._known[start] = self._slice(start, end)
        return known

    def _slice(self, start: int, end: int) -> _Entries:
        part, entries, at = memoryview(self._data)[start:end], _Entries(), start + 1
        if self._data[start : start + 1] == b"[":
            for raw in msgspec.json.decode(part, type=list[msgspec.Raw]):
                blanks = self._BLANKS.match(self._data, at)
                at = blanks.end() if blanks else at
                entries.add(at, at, at + memoryview(raw).nbytes)
                at = entries.ends[-1]
            return entries
        entries.number = {}
        for number, (key, raw) in enumerate(msgspec.json.decode(part, type=dict[str, msgspec.Raw]).items()):
            match = self._KEY.match(self._data, at)
            assert match is not None
            entries.number[key] = number
            entries.add(match.start(1), match.end(), match.end() + memoryview(raw).nbytes)
            at = entries.ends[-1]
        return entries

    def _line(self, offset: int) -> int:
        before, line = self._counted if self._counted[0] <= offset else (0, 1)
        line += self._data.count(b"\n", before, offset)
        self._counted = (offset, line)
        return line


def _duplicates(text: str) -> list[Fault]:
    """The keys of valid JSON that stand twice. One long loop, because large files come through here, too."""
    faults: list[Fault] = []
    path: list[Key] = []  # the key under which the next value of each open container goes
    keys: list[dict[str, int]] = []  # the keys of each open container, with their lines
    line, due = 1, False  # due: whether the next text is a key
    for part in _TOKEN.findall(text):
        if part == ",":
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
            else:
                due = True
        elif part == "\n":
            line += 1
        elif part == "{" or part == "[":
            due = part == "{"
            path.append("" if due else 0)
            keys.append({})
        elif part == "}" or part == "]":
            path.pop()
            keys.pop()
            due = False
        elif due:
            due = False
            path[-1] = key = msgspec.json.decode(part, type=str) if "\\" in part else part[1:-1]
            if key not in keys[-1]:
                keys[-1][key] = line
            elif len(faults) < _MOST_DUPLICATES:
                found = f"key {quote(key)} twice, first on line {keys[-1][key]}"
                faults.append(Fault(format_path(path), line, found, "each key once"))
    return faults
