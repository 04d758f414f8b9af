"""The codec reads back what it wrote, and of everything else says that it's garbled."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumax.broker import messages, wire
from gpumax.broker.messages import Message
from gpumax.broker.words import (
    DEVICES,
    LONGEST,
    AwayFlags,
    ErrorCode,
    HelloFlags,
    HintKind,
    MemoryFlags,
    Reason,
    ReleaseFlags,
    SwapStatus,
    Type,
)  # fmt: skip

LEGAL: dict[tuple[Type, str], st.SearchStrategy[int]] = {
    (Type.HELLO, "flags"): st.integers(0, sum(HelloFlags)),
    (Type.AWAY, "flags"): st.integers(0, sum(AwayFlags)),
    (Type.RELEASE, "flags"): st.integers(0, sum(ReleaseFlags)),
    (Type.INVENTORY, "flags"): st.sampled_from([0, int(ReleaseFlags.WANTS)]),
    (Type.MEM_REQUEST, "flags"): st.integers(0, sum(MemoryFlags)),
    (Type.MEM_RETURN, "flags"): st.integers(0, sum(MemoryFlags)),
    (Type.SWAPPED_OUT, "status"): st.sampled_from([int(each) for each in SwapStatus]),
    (Type.SWAPPED_IN, "status"): st.sampled_from([int(each) for each in SwapStatus]),
    (Type.HINT, "kind"): st.sampled_from([int(each) for each in HintKind]),
    (Type.REVOKE, "reason"): st.sampled_from([int(each) for each in Reason]),
    (Type.MEM_DENY, "reason"): st.sampled_from([int(each) for each in Reason]),
}
WORD = {"I": st.integers(0, 2**32 - 1), "Q": st.integers(0, 2**64 - 1)}


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(messages.ALL))
    fields: dict[str, Any] = {}
    for name, what, count in kind.layout:
        if name in ("zero", "devices"):
            continue
        part = messages.PARTS.get(what)
        if part is not None:
            one = st.builds(part, **{field: WORD[code] for field, code, _ in part.layout})
            fields[name] = tuple(draw(st.lists(one, max_size=count)))
        elif count > 1:
            fields[name] = tuple(draw(st.lists(st.binary(min_size=16, max_size=16), max_size=count)))
        elif what == "120s":
            text = draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60))
            fields[name] = text.encode()[:119].decode("utf-8", "ignore")
        elif name == "device":
            fields[name] = draw(st.integers(0, DEVICES - 1))
        else:
            fields[name] = draw(LEGAL.get((kind.type, name), WORD[what]))
    return kind(**fields)


@given(any_message(), WORD["I"], WORD["Q"], WORD["Q"])
def test_what_was_written_is_read_back(message: Message, request: int, sequence: int, epoch: int) -> None:
    data = wire.encode(message, sequence=sequence, epoch=epoch, request=request)
    header, read = wire.decode(data)
    assert read == message
    assert header == wire.Header(message.type, len(data) - wire.HEADER.size, request, sequence, epoch)


@given(st.binary(max_size=LONGEST + 10))
def test_any_bytes_are_a_message_or_garbled(data: bytes) -> None:
    with pytest.raises(wire.Garbled):
        wire.decode(data)  # no chance finds the magic number


@given(any_message(), st.data())
def test_a_message_with_bytes_changed_is_a_message_or_garbled(message: Message, data: st.DataObject) -> None:
    raw = bytearray(wire.encode(message, sequence=1, epoch=2))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    try:
        header, read = wire.decode(bytes(raw[:end]))
    except wire.Garbled:
        return
    assert read is None or read.type == header.type


@given(any_message(), st.integers(1, 40))
def test_every_length_but_the_right_one_is_refused(message: Message, more: int) -> None:
    raw = wire.encode(message, sequence=1, epoch=2)
    for wrong in (raw[:-more], raw + bytes(more)):
        with pytest.raises(wire.Garbled):
            wire.decode(wrong)
        head = bytearray(wrong)
        if len(head) >= wire.HEADER.size:  # a header that agrees with the wrong length helps nobody
            head[8:12] = (len(head) - wire.HEADER.size).to_bytes(4, "little")
            with pytest.raises(wire.Garbled, match="bytes"):
                wire.decode(bytes(head))


def test_an_unknown_type_is_no_error_so_that_newer_ones_can_be_ignored() -> None:
    raw = bytearray(wire.encode(messages.Bye(), sequence=1, epoch=2))
    raw[6:8] = (999).to_bytes(2, "little")
    header, read = wire.decode(bytes(raw))
    assert (header.type, read) == (999, None)


def test_another_version_is_refused_by_name() -> None:
    raw = bytearray(wire.encode(messages.Bye(), sequence=1, epoch=2))
    raw[4:6] = (2).to_bytes(2, "little")
    with pytest.raises(wire.Garbled, match="version 2; this broker speaks 1") as caught:
        wire.decode(bytes(raw))
    assert caught.value.code is ErrorCode.VERSION


def test_flags_and_devices_that_nobody_knows_are_refused() -> None:
    with pytest.raises(wire.Garbled, match="flags 128 is unknown"):
        wire.decode(wire.encode(messages.Release(lease=1, flags=128), sequence=1, epoch=1))
    with pytest.raises(wire.Garbled, match="device 16; the last one is 15"):
        wire.decode(wire.encode(messages.MemRequest(bytes=1, device=16), sequence=1, epoch=1))


def test_a_long_text_is_cut_between_characters() -> None:
    raw = wire.encode(messages.Error(code=1, text="ü" * 100), sequence=1, epoch=1)
    _, read = wire.decode(raw)
    assert isinstance(read, messages.Error)
    assert read.text == "ü" * 59
