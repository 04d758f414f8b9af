"""Messages to bytes and back. Whatever the bytes are, `decode` gives a message or raises `Garbled`; it never guesses."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gpumax.broker import messages
from gpumax.broker.messages import Message, Part
from gpumax.broker.words import (
    DEVICES,
    LONGEST,
    MAGIC,
    VERSION,
    AwayFlags,
    ErrorCode,
    HelloFlags,
    HintKind,
    MemoryFlags,
    Mode,
    Reason,
    ReleaseFlags,
    SwapStatus,
    Type,
)

HEADER: Final = struct.Struct("<IHHIIQQ")


class Header(msgspec.Struct, frozen=True):
    type: int
    length: int
    request: int
    sequence: int
    epoch: int


class Garbled(ValueError):
    """Bytes that are no message of the protocol; `code` is what to answer."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.GARBLED, about: int = 0) -> None:
        self.code = code
        self.about = about
        super().__init__(text)


def flags(*known: int) -> Callable[[int], bool]:
    values = {0}
    for flag in known:
        values |= {value | int(flag) for value in values}
    return frozenset(values).__contains__


def among(known: type[Mode] | type[SwapStatus] | type[HintKind] | type[Reason]) -> Callable[[int], bool]:
    return frozenset(int(each) for each in known).__contains__


# A flag or a number that this version doesn't know changes what the rest means, so it is refused, not ignored.
SENSE: Final[Mapping[tuple[Type, str], Callable[[int], bool]]] = {
    (Type.HELLO, "flags"): flags(*HelloFlags),
    (Type.RELEASE, "flags"): flags(*ReleaseFlags),
    (Type.INVENTORY, "flags"): flags(ReleaseFlags.WANTS),
    (Type.MEM_REQUEST, "flags"): flags(*MemoryFlags),
    (Type.MEM_RETURN, "flags"): flags(*MemoryFlags),
    (Type.SWAPPED_OUT, "status"): among(SwapStatus),
    (Type.SWAPPED_IN, "status"): among(SwapStatus),
    (Type.HINT, "kind"): among(HintKind),
    (Type.REVOKE, "reason"): among(Reason),
    (Type.MEM_DENY, "reason"): among(Reason),
    (Type.AWAY, "flags"): flags(*AwayFlags),
}


class _Form:
    """One type's payload: `struct` reads it flat, the layout gives it its shape."""

    def __init__(self, kind: type[Message]) -> None:
        self.kind = kind
        self.layout = [each for each in kind.layout if each[0] != "zero"]
        self.struct = struct.Struct(
            "<" + "".join(_code(name, what) * count for name, what, count in kind.layout)
        )
        self.sense = [(name, test) for (type_, name), test in SENSE.items() if type_ is kind.type]
        self.device = any(name == "device" for name, _, _ in kind.layout)

    def pack(self, message: Message) -> bytes:
        flat: list[Any] = []
        for name, what, count in self.layout:
            if name == "devices":
                flat.append(_length(message))
            elif count > 1:
                _pack_array(flat, getattr(message, name), what, count)
            elif what == "120s":
                flat.append(_cut(getattr(message, name), 120))
            else:
                flat.append(getattr(message, name))
        return self.struct.pack(*flat)

    def unpack(self, data: bytes) -> Message:
        """Of a whole message, its header included."""
        fields = self.fields(self.struct.unpack_from(data, HEADER.size))
        for name, test in self.sense:
            if not test(fields[name]):
                raise Garbled(f"{name} {fields[name]} is unknown", about=self.kind.type)
        if self.device and fields["device"] >= DEVICES:
            raise Garbled(f"device {fields['device']}; the last one is {DEVICES - 1}", about=self.kind.type)
        return self.kind(**fields)

    def fields(self, flat: tuple[Any, ...]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        at = length = 0
        for name, what, count in self.layout:
            if name == "devices":
                length = flat[at]
                if length > DEVICES:
                    raise Garbled(f"{length} devices; {DEVICES} is the most", about=self.kind.type)
            elif count > 1:
                fields[name] = _unpack_array(flat, at, what, length)
            elif what == "120s":
                fields[name] = flat[at].split(b"\0", 1)[0].decode("utf-8", "replace")
            else:
                fields[name] = flat[at]
            at += count * _width(what)
        return fields


class _Flat(_Form):
    """What comes with each lease."""

    def __init__(self, kind: type[Message]) -> None:
        super().__init__(kind)
        names = [name for name, _, _ in self.layout]
        assert names == list(kind.__struct_fields__)
        self.places = [(names.index(name), test) for name, test in self.sense]

    def pack(self, message: Message) -> bytes:
        return self.struct.pack(*msgspec.structs.astuple(message))

    def unpack(self, data: bytes) -> Message:
        flat = self.struct.unpack_from(data, HEADER.size)
        for at, test in self.places:
            if not test(flat[at]):
                raise Garbled(f"{self.layout[at][0]} {flat[at]} is unknown", about=self.kind.type)
        return self.kind(*flat)


def _code(name: str, what: str) -> str:
    part = messages.PARTS.get(what)
    if name == "zero":
        return f"{struct.calcsize(what)}x"
    return what if part is None else "".join(each for _, each, _ in part.layout)


def _width(what: str) -> int:
    """Values of `struct` that one of these is."""
    part = messages.PARTS.get(what)
    return 1 if part is None else len(part.layout)


def _length(message: Message) -> int:
    for name, _, count in message.layout:
        if count > 1:
            return len(getattr(message, name))
    return 0


def _pack_array(flat: list[Any], items: tuple[Any, ...], what: str, count: int) -> None:
    if len(items) > count:
        raise ValueError(f"{len(items)} devices; {count} is the most")
    part = messages.PARTS.get(what)
    for item in items:
        if part is None:
            flat.append(item)
        else:
            flat.extend(getattr(item, name) for name, _, _ in part.layout)
    width = 1 if part is None else len(part.layout)
    flat.extend([b"" if part is None else 0] * (width * (count - len(items))))


def _unpack_array(flat: tuple[Any, ...], at: int, what: str, length: int) -> tuple[Any, ...]:
    part: type[Part] | None = messages.PARTS.get(what)
    if part is None:
        return flat[at : at + length]
    width = len(part.layout)
    return tuple(part(*flat[i : i + width]) for i in range(at, at + length * width, width))


def _cut(text: str, most: int) -> bytes:
    """As much of a text as fits with a zero behind it, and no half character."""
    return text.encode()[: most - 1].decode("utf-8", "ignore").encode()


FORMS: Final[Mapping[int, _Form]] = {
    int(kind.type): (_Flat if kind in messages.LEASES else _Form)(kind) for kind in messages.ALL
}


def encode(message: Message, *, sequence: int, epoch: int, request: int = 0) -> bytes:
    """Header and payload. Numbers that don't fit their field raise struct.error: an error of ours."""
    payload = FORMS[message.type].pack(message)
    return HEADER.pack(MAGIC, VERSION, message.type, len(payload), request, sequence, epoch) + payload


def decode(data: bytes) -> tuple[Header, Message | None]:
    """The message, or None where its type is one that this version doesn't know. Raises Garbled."""
    if len(data) < HEADER.size:
        raise Garbled(f"{len(data)} bytes; a header alone has {HEADER.size}")
    if len(data) > LONGEST:
        raise Garbled(f"a message of more than {LONGEST} bytes")
    magic, version, type_, length, request, sequence, epoch = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Garbled(f"magic {magic:#010x}; wanted {MAGIC:#010x}")
    if version != VERSION:
        raise Garbled(f"version {version}; this broker speaks {VERSION}", ErrorCode.VERSION, type_)
    if length != len(data) - HEADER.size:
        raise Garbled(f"{len(data) - HEADER.size} bytes of payload; the header says {length}", about=type_)
    header = Header(type_, length, request, sequence, epoch)
    form = FORMS.get(type_)
    if form is None:
        return header, None
    if length != form.struct.size:
        raise Garbled(
            f"{Type(type_).name} with {length} bytes of payload; it has {form.struct.size}", about=type_
        )
    return header, form.unpack(data)
