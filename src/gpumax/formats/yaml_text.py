"""YAML to plain documents, by the core schema of YAML 1.2: `yes`, `on` and dates are text.

Events are read one by one with a stack of our own: no depth, alias or key of a file can do harm.
"""

from __future__ import annotations

import math
import re
from typing import Final

import yaml

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import Key, Lines, format_path, quote
from gpumax.formats.parsed import MOST_DEPTH, Parsed, Written, refuse

MOST_ALIASED: Final = 100_000
"""How many values the aliases of a file may stand for."""

MOST_EVENTS: Final = 1_000_000
"""How many values, brackets and aliases a YAML file may hold: about two seconds."""

_MOST_FAULTS: Final = 50
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMERIC: Final = frozenset("+-.0123456789")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER: Final = 1000
_HINTS: Final = {
    "mapping values are not allowed in this context": "quotes around a value with `: ` in it, or the same indentation as its neighbours",
    "found character that cannot start any token": "quotes around a value that starts with @, ` or %",
    "found unexpected end of stream": "the closing quote",
}


class WrittenInt(int, Written):
    """Such an integer."""


class WrittenFloat(float, Written):
    """Such a float."""


def read_yaml(data: bytes, source: str) -> list[Parsed]:
    """Every document that is not empty. BadFile with all faults that can be told from each other."""
    reader = _Reader(source)
    try:
        for count, event in enumerate(yaml.parse(data, Loader=_LOADER)):
            reader.take(event)
            if count > MOST_EVENTS:
                raise refuse(
                    source, _line(event), "a YAML file with too many values", "JSON, or a smaller file"
                )
    except yaml.YAMLError as error:
        reader.faults.append(_broken(error, data))
    except BadFile as error:
        reader.faults.extend(error.faults)
    if reader.faults:
        raise BadFile(reader.faults[:_MOST_FAULTS], source)
    return reader.documents


class _Frame:
    """An open container. `key`: under which its next value goes; None where an object's next key is due."""

    __slots__ = ("anchor", "key", "lines", "size", "value")

    def __init__(self, value: dict[str, object] | list[object], line: int, anchor: str | None) -> None:
        self.value = value
        self.lines = Lines(line)
        self.anchor = anchor
        self.key: Key | None = 0 if isinstance(value, list) else None
        self.size = 1


class _Anchored:
    """What an alias stands for, and how many values that is."""

    __slots__ = ("lines", "size", "value")

    def __init__(self, value: object, size: int, lines: Lines | None) -> None:
        self.value = value
        self.size = size
        self.lines = lines


class _Reader:
    def __init__(self, source: str) -> None:
        self.documents: list[Parsed] = []
        self.faults: list[Fault] = []
        self._source = source
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}  # None: still open
        self._aliased = 0

    def take(self, event: yaml.Event) -> None:
        """One event of the parser. BadFile for what can't be read past."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(event, [])
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentEndEvent):
            self._anchors.clear()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line = _line(event)
        if event.implicit[0]:
            value = _plain(event.value)
        else:
            value = event.value
            if event.tag not in (None, "!", _STANDARD + "str"):
                self._tag(event.tag, line)
        if self._stack and self._stack[-1].key is None:
            self._key(value, event.value, line)
        else:
            self._put(value, 1, None, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 1, None)

    def _open(self, event: yaml.CollectionStartEvent, value: dict[str, object] | list[object]) -> None:
        line = _line(event)
        if self._stack and self._stack[-1].key is None:
            raise refuse(self._source, line, "a key that is no text", "text as the key")
        if len(self._stack) >= MOST_DEPTH:
            raise refuse(self._source, line, f"values nested deeper than {MOST_DEPTH}", "a flatter document")
        if event.tag not in (None, "!", _STANDARD + ("map" if isinstance(value, dict) else "seq")):
            self._tag(event.tag, line)
        self._stack.append(_Frame(value, line, event.anchor))
        if event.anchor is not None:
            self._anchors[event.anchor] = None

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = _Anchored(frame.value, frame.size, frame.lines)
        self._put(frame.value, frame.size, frame.lines, frame.lines.line)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line = _line(event)
        name = f"alias *{event.anchor}"
        if event.anchor not in self._anchors:
            raise refuse(self._source, line, f"{name}, which no anchor defines", f"&{event.anchor} before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise refuse(self._source, line, f"{name} inside of what it stands for", "no recursion")
        self._aliased += anchored.size
        if self._aliased > MOST_ALIASED:
            found = f"aliases that stand for more than {MOST_ALIASED:,} values"
            raise refuse(self._source, line, found, "a document without so many aliases")
        if self._stack and self._stack[-1].key is None:
            self._key(anchored.value, name, line)
        else:
            self._put(anchored.value, anchored.size, anchored.lines, line)

    def _put(self, value: object, size: int, lines: Lines | None, line: int) -> None:
        if not self._stack:
            if value is not None:
                self.documents.append(Parsed(value, lines or Lines(line), self._source))
            return
        frame = self._stack[-1]
        key = frame.key
        frame.size += size
        if lines is not None and key is not None:
            frame.lines.below[key] = lines
        if isinstance(frame.value, list):
            assert isinstance(key, int)
            frame.lines.at[key] = line
            frame.value.append(value)
            frame.key = key + 1
        else:
            assert isinstance(key, str)
            frame.value[key] = value
            frame.key = None

    def _key(self, key: object, written: str, line: int) -> None:
        frame = self._stack[-1]
        if not isinstance(key, str):
            self._fault(
                written, line, f"key {written or 'nothing'}, which is no text", f'"{written}" in quotes'
            )
        elif key == "<<":
            self._fault(key, line, "a merge key (<<), which YAML 1.2 does not have", "the fields written out")
        elif key in frame.lines.at:
            first = frame.lines.at[key]
            self._fault(key, line, f"key {quote(key)} twice, first on line {first}", "each key once")
        frame.key = key if isinstance(key, str) else written
        frame.lines.at[frame.key] = line

    def _tag(self, tag: str, line: int) -> None:
        self._add(Fault("", line, f"tag {quote(tag)}", "no tags: plain values only"))

    def _fault(self, key: str, line: int, found: str, wanted: str) -> None:
        outer = (frame.key for frame in self._stack[:-1])
        path = format_path([*(step for step in outer if step is not None), key])
        self._add(Fault(path, line, found, wanted))

    def _add(self, fault: Fault) -> None:
        if len(self.faults) >= _MOST_FAULTS:
            raise BadFile([fault], self._source)
        self.faults.append(fault)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC or len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return _kept(WrittenInt, int(text), text)
    if _FLOAT.fullmatch(text):
        return _kept(WrittenFloat, float(text), text)
    if _BASED.fullmatch(text):
        return _kept(WrittenInt, int(text, 0), text)
    special = _SPECIAL.fullmatch(text)
    if special is None:
        return text
    return math.nan if special[1] is None else float(special[1] + "inf")


def _kept(kind: type[WrittenInt] | type[WrittenFloat], value: float, text: str) -> object:
    if repr(value) == text:
        return value
    written = kind(value)
    written.text = text
    return written


def _broken(error: yaml.YAMLError, data: bytes) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = data.count(b"\n", 0, error.position) + 1
        return Fault("", line, f"character 0x{int(error.character):02x}", "text without control characters")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Fault("", None, f"broken YAML ({error})", "YAML")
    last = error.problem_mark.line
    first = error.context_mark.line if error.context_mark else last
    for line, text in enumerate(data.split(b"\n")[first : last + 1], first + 1):
        if b"\t" in text[: len(text) - len(text.lstrip())]:
            return Fault("", line, "a tab", "spaces; YAML indents with spaces")
    problem = error.problem or "no reason given"
    if problem == "exceeded maximum nesting depth":
        return Fault("", last + 1, f"values nested deeper than {MOST_DEPTH}", "a flatter document")
    said = f"{error.context}, {problem}" if error.context else problem
    return Fault("", last + 1, f"broken YAML ({said})", _HINTS.get(problem, "YAML"))
