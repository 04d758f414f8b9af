"""Shapes of documents: one description that reads a document, collecting every fault, and exports its JSON Schema.

A shape's `read` returns what the value means, or raises Bad with all that is wrong with it. Containers put their key
in front of the paths of what they hold, so that reading sound documents costs nothing for paths.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import Key, format_path, quote
from gpumax.formats.parsed import LineOf, no_lines

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

MOST_FAULTS: Final = 50
"""How many faults of a file are told; the rest is counted."""

MOST_COUNTED: Final = 10_000
"""How many faults are counted before reading stops."""


class Shape(Protocol[T_co]):
    """What one value of a document looks like."""

    def read(self, value: object) -> T_co:
        """What the value means. Bad if it is wrong."""
        ...

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """Its JSON Schema; the objects in it are entered in `defs` and referred to."""
        ...


class Wrong(NamedTuple):
    """One fault, with its path from the value that was read. `name` may be a slip for one of `known`."""

    path: tuple[Key, ...]
    found: str
    wanted: str
    name: str = ""
    known: Iterable[str] = ()


class Bad(Exception):
    """All that is wrong with a value: the first faults, and how many more there are.

    sound: of an object the fields that could be read, so that what they say together can be checked, too.
    """

    def __init__(
        self, wrongs: Iterable[Wrong], more: int = 0, sound: Mapping[str, object] | None = None
    ) -> None:
        self.wrongs = list(wrongs)
        self.more = more
        self.sound = sound or {}
        super().__init__()


class Wrongs:
    """Collects faults: keeps the first, counts the rest."""

    def __init__(self) -> None:
        self.kept: list[Wrong] = []
        self.more = 0

    def add(
        self, path: tuple[Key, ...], found: str, wanted: str, name: str = "", known: Iterable[str] = ()
    ) -> None:
        """Note one fault."""
        self._keep(Wrong(path, found, wanted, name, known))

    def take(self, bad: Bad, *outer: Key) -> None:
        """Note the faults of a part that stands at `outer`."""
        self.more += bad.more
        for wrong in bad.wrongs:
            self._keep(wrong._replace(path=(*outer, *wrong.path)))

    def check(self) -> None:
        """Raise what was noted, if anything was."""
        if self.kept:
            raise Bad(self.kept, self.more)

    def _keep(self, wrong: Wrong) -> None:
        if len(self.kept) < MOST_FAULTS:
            self.kept.append(wrong)
        else:
            self.more += 1

    @property
    def enough(self) -> bool:
        """Whether there are so many faults that nobody wants to hear of more."""
        return self.more >= MOST_COUNTED


def wrong(value: object, wanted: str, known: Iterable[str] = ()) -> Bad:
    """A value that isn't what was wanted; a text may be a slip for one of `known`."""
    return Bad([Wrong((), show(value), wanted, value if isinstance(value, str) else "", known)])


def show(value: object) -> str:
    """A value as a fault names it: short, and safe for a terminal."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int | float):
        if isinstance(value, int) and value.bit_length() > 100:
            return "a number of many digits"
        return getattr(value, "text", None) or repr(value)
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"a Python {type(value).__name__}"


def bad_file(bad: Bad, source: str = "", line_of: LineOf = no_lines) -> BadFile:
    """The faults with their lines, in the order of the lines."""
    faults = []
    for wrong in bad.wrongs:
        place = format_path(wrong.path)
        guess = nearest(wrong.name, wrong.known)
        faults.append(Fault(place, line_of(place), wrong.found, wrong.wanted + guess))
    faults.sort(key=lambda fault: fault.line or 0)
    if bad.more:
        faults.append(Fault("", None, more_faults(bad.more), "these mended first"))
    return BadFile(faults, source)


def more_faults(count: int) -> str:
    """The faults that are not told, in words."""
    least = "at least " if count >= MOST_COUNTED else ""
    return f"{least}{count:,} more fault{'' if count == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant, as an addition to a sentence; empty where there is none."""
    if not name:
        return ""
    # Late, because sound files need no guesses.
    from difflib import get_close_matches

    close = get_close_matches(name[:64], known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


class Field(NamedTuple):
    """A field of an object: its shape, one sentence about it, and the keyword it goes to, if that isn't its key.

    keep=False: it is read, so that its faults are found, and not passed on.
    """

    shape: Shape[object]
    about: str
    to: str = ""
    required: bool = False
    keep: bool = True


class Object(Generic[T]):
    """An object with known fields; null is the same as unset. `make` gets the fields that are set, as keywords.

    clash: what contradicts what among the fields that could be read; asked only where others couldn't, as `make` finds the
    same. It gets the names of those, too.
    """

    def __init__(
        self,
        title: str,
        fields: Mapping[str, Field],
        make: Callable[..., T],
        about: str = "",
        clash: Callable[[Mapping[str, Any], Collection[str]], Iterable[Wrong]] = lambda _sound, _unread: (),
    ) -> None:
        self._clash = clash
        self.title = title
        self.fields = dict(fields)
        self._make = make
        self._about = about
        self._known = f"one of {', '.join(fields)}"
        self._required = tuple(key for key, field in fields.items() if field.required)
        self._readers = {
            key: (field.to or key if field.keep else "", field.shape.read) for key, field in fields.items()
        }

    def read(self, value: object) -> T:
        """The object that `make` builds."""
        if not isinstance(value, dict):
            raise wrong(value, f"an object with {', '.join(list(self.fields)[:4])}")
        kept: dict[str, object] = {}
        wrongs: Wrongs | None = None
        readers = self._readers
        for key, item in value.items():
            reader = readers.get(key)
            if reader is None:
                wrongs = wrongs or Wrongs()
                wrongs.add((str(key),), "an unknown field", self._known, str(key), self.fields)
                continue
            to, read = reader
            if item is None and key not in self._required:
                continue
            try:
                if to:
                    kept[to] = read(item)
                else:
                    read(item)
            except Bad as bad:
                wrongs = wrongs or Wrongs()
                wrongs.take(bad, key)
        for key in self._required:
            if key not in value:
                wrongs = wrongs or Wrongs()
                wrongs.add((key,), "nothing", f"the field {key}")
        if wrongs is not None:
            unread = [key for key in value if key in readers and readers[key][0] not in kept]
            wrongs.take(Bad(self._clash(kept, unread)))
            raise Bad(wrongs.kept, wrongs.more, kept)
        return self._make(**kept)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A reference; the definition is in `defs`."""
        if self.title not in defs:
            own: Schema = {"title": self.title, "type": "object"}
            defs[self.title] = own
            if self._about:
                own["description"] = self._about
            own["properties"] = {key: _property(field, defs) for key, field in self.fields.items()}
            if self._required:
                own["required"] = list(self._required)
            own["additionalProperties"] = False
        return {"$ref": f"#/$defs/{self.title}"}


def _property(field: Field, defs: dict[str, Schema]) -> Schema:
    schema = field.shape.schema(defs)
    about = " ".join(part for part in (field.about, schema.pop("description", "")) if part)
    if field.required:
        return {"description": about, **schema}
    parts = schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]
    return {"description": about, "anyOf": [*parts, {"type": "null"}]}


class Rows(Generic[T]):
    """A list of values of one shape."""

    def __init__(self, row: Shape[T], *, least: int = 0, most: int = 1_000_000) -> None:
        self.row = row
        self._least = least
        self._most = most

    def read(self, value: object) -> tuple[T, ...]:
        """The rows in their order."""
        wrongs = Wrongs()
        rows = self.read_sound(value, wrongs)
        wrongs.check()
        return tuple(rows.values())

    def read_sound(self, value: object, wrongs: Wrongs, *outer: Key) -> dict[int, T]:
        """The rows without faults, by their index; the faults of the others go to `wrongs`, under `outer`."""
        if not isinstance(value, list | tuple):
            wrongs.take(wrong(value, "a list"), *outer)
            return {}
        if not self._least <= len(value) <= self._most:
            wanted = (
                f"{self._least} to {self._most:,} entries"
                if self._least < 2
                else f"at least {self._least} entries"
            )
            wrongs.take(wrong(value, "at least one entry" if not value else wanted), *outer)
            return {}
        sound: dict[int, T] = {}
        read = self.row.read
        for index, item in enumerate(value):
            try:
                sound[index] = read(item)
            except Bad as bad:
                wrongs.take(bad, *outer, index)
                if wrongs.enough:
                    break
        return sound

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An array."""
        least = {"minItems": self._least} if self._least else {}
        return {"type": "array", "items": self.row.schema(defs), **least, "maxItems": self._most}


class Map(Generic[T]):
    """An object whose keys are free: each matches `key`, each value has one shape."""

    def __init__(self, key: Shape[str], value: Shape[T], *, most: int = 1000) -> None:
        self._key = key
        self._value = value
        self._most = most

    def read(self, value: object) -> dict[str, T]:
        """The entries, sorted by key."""
        if not isinstance(value, dict):
            raise wrong(value, "an object")
        if len(value) > self._most:
            raise Bad([Wrong((), f"{len(value):,} entries", f"at most {self._most:,}")])
        wrongs = Wrongs()
        entries: dict[str, T] = {}
        for key, item in value.items():
            try:
                entries[self._key.read(key)] = self._value.read(item)
            except Bad as bad:
                wrongs.take(bad, str(key))
        wrongs.check()
        return dict(sorted(entries.items()))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An object with free keys."""
        return {
            "type": "object",
            "propertyNames": self._key.schema(defs),
            "additionalProperties": self._value.schema(defs),
            "maxProperties": self._most,
        }


class ByType(Generic[T]):
    """One of several shapes, told apart by the JSON type: `number`, `text`, `object` or `list`."""

    def __init__(
        self,
        wanted: str,
        *,
        number: Shape[T] | None = None,
        text: Shape[T] | None = None,
        object: Shape[T] | None = None,
        list: Shape[T] | None = None,
    ) -> None:
        self._wanted = wanted
        self._choices = {"number": number, "text": text, "object": object, "list": list}

    def read(self, value: object) -> T:
        """What the shape for this type makes of it."""
        shape = self._choices.get(_TYPE_NAMES.get(type(value)) or _type_name(value))
        if shape is None:
            raise wrong(value, self._wanted)
        return shape.read(value)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """Any of the shapes."""
        parts: list[Schema] = []
        for shape in self._choices.values():
            part = shape.schema(defs) if shape is not None else None
            if part is not None and part not in parts:
                parts.append(part)
        return {"anyOf": parts}


_TYPE_NAMES: Final[dict[type, str]] = {
    int: "number",
    float: "number",
    str: "text",
    dict: "object",
    list: "list",
}


def _type_name(value: object) -> str:
    for kind, name in _TYPE_NAMES.items():
        if isinstance(value, kind) and not isinstance(value, bool):
            return name
    return "list" if isinstance(value, tuple) else "none"


class Then(Generic[T]):
    """A shape whose meaning is made into something else; `make` may raise Bad."""

    def __init__(self, shape: Shape[Any], make: Callable[[Any], T]) -> None:
        self._shape = shape
        self._make = make

    def read(self, value: object) -> T:
        """What `make` returns."""
        return self._make(self._shape.read(value))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """The shape's."""
        return self._shape.schema(defs)


class Shared(Generic[T]):
    """Gives equal documents the same object, and reads each only once."""

    _MOST: Final = 4096
    _LONGEST: Final = 1024

    def __init__(self, shape: Shape[T]) -> None:
        self._shape = shape
        self._known: dict[str, T] = {}

    def read(self, value: object) -> T:
        """What the shape makes of it, or made of an equal one."""
        key = repr(value)
        known = self._known.get(key)
        if known is None:
            known = self._shape.read(value)
            if len(key) <= self._LONGEST:
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = known
        return known

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """The shape's."""
        return self._shape.schema(defs)
