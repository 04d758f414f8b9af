"""protocol.h and its twin in Python say the same: every size, offset and number, as the compiler has it."""

from __future__ import annotations

import enum
import re
import subprocess
from pathlib import Path

import pytest

from gpumax.broker import messages, page, wire, words
from gpumax.broker.messages import Message, Part

INCLUDE = Path(__file__).parents[2] / "interposer" / "include"
HEADER = (INCLUDE / "gpumax" / "protocol.h").read_text()

STRUCTS: dict[str, str] = {
    "Hello": "hello", "Welcome": "welcome", "Acquire": "acquire", "Grant": "grant", "Revoke": "revoke",
    "Release": "release", "SwapOut": "swap", "SwappedOut": "swapped", "SwapIn": "swap", "SwappedIn": "swapped",
    "MemRequest": "memory", "MemGrant": "memory", "MemDeny": "memory", "MemReturn": "memory", "MemTrim": "memory",
    "Hint": "hint", "Heartbeat": "heartbeat", "Inventory": "inventory", "Config": "config", "Pool": "pool",
    "Error": "error", "Away": "away", "Share": "share", "Usage": "usage", "Holding": "holding",
}  # fmt: skip

ENUMS: dict[str, type[enum.IntEnum] | type[enum.IntFlag]] = {
    "": words.Type, "LEASE_": words.LeaseState, "MODE_": words.Mode, "HELLO_": words.HelloFlags,
    "RELEASE_": words.ReleaseFlags, "MEMORY_": words.MemoryFlags, "SWAP_": words.SwapStatus,
    "AWAY_": words.AwayFlags, "HINT_": words.HintKind, "REASON_": words.Reason, "ERROR_": words.ErrorCode,
}  # fmt: skip

NUMBERS = {
    "GPUMAX_PROTOCOL_MAGIC": words.MAGIC, "GPUMAX_PROTOCOL_VERSION": words.VERSION,
    "GPUMAX_PROTOCOL_DEVICES": words.DEVICES, "GPUMAX_PROTOCOL_LONGEST": words.LONGEST,
    "GPUMAX_PROTOCOL_NO_LEASE": words.NO_LEASE, "GPUMAX_PAGE_BYTES": page.PAGE_BYTES,
    "GPUMAX_PAGE_MAGIC": page.PAGE_MAGIC, "GPUMAX_SEATS": page.SEATS, "GPUMAX_SEATS_BYTES": page.SEATS_BYTES,
}  # fmt: skip


def width(kind: str) -> int:
    part = messages.PARTS.get(kind)
    if part is not None:
        return sum(width(each) for _, each, _ in part.layout)
    return {"I": 4, "Q": 8, "16s": 16, "120s": 120}[kind]


def expected() -> dict[str, int]:
    """What C should say, from the Python side."""
    said = {f"sizeof {STRUCTS['Hello']}": 0}
    kinds: list[type[Message] | type[Part]] = [*messages.ALL, *messages.PARTS.values()]
    for kind in kinds:
        name = STRUCTS.get(kind.__name__)
        if name is None:
            continue  # BYE has no payload
        at = 0
        for field, what, count in kind.layout:
            said[f"{name}.{field}"] = at
            at += width(what) * count
        said[f"sizeof {name}"] = at
    said["sizeof header"] = wire.HEADER.size
    for field, at in zip(
        ("magic", "version", "type", "length", "request", "sequence", "epoch"),
        (0, 4, 6, 8, 12, 16, 24),
        strict=True,
    ):
        said[f"header.{field}"] = at
    said |= {
        f"page.{name}": at for name, at in page.OFFSETS.items() if name != "head" and not name[-1].isdigit()
    }
    said |= {"page.magic": 0, "page.version": 4, "sizeof page": len(page.FIELDS) * 8}
    said |= {"seat.calls": 0, "seat.own": 4, "sizeof seat": page.SEAT_BYTES}
    for prefix, kind_ in ENUMS.items():
        said |= {f"GPUMAX_{prefix}{each.name}": int(each) for each in kind_}
    said["word 7"] = page.lease_word(7, words.LeaseState.REVOKED)
    return said | NUMBERS


def program(said: dict[str, int]) -> str:
    lines = []
    for name in said:
        if name.startswith("sizeof "):
            value = f"sizeof(struct gpumax_{name[7:]})"
        elif name == "word 7":
            value = "GPUMAX_LEASE_WORD(7, GPUMAX_LEASE_REVOKED)"
        elif "." in name:
            value = "offsetof(struct gpumax_{}, {})".format(*name.split("."))
        else:
            value = name
        lines.append(f'printf("%s=%llu\\n", "{name}", (unsigned long long)({value}));')
    return (
        '#include <stddef.h>\n#include <stdio.h>\n#include "gpumax/protocol.h"\nint main(void) {\n'
        + "\n".join(lines)
        + "\nreturn 0;\n}\n"
    )


@pytest.mark.parametrize("standard", ["c11", "c++17"])
def test_the_compiler_and_the_codec_agree_on_every_size_offset_and_number(
    tmp_path: Path, standard: str
) -> None:
    said = expected()
    source = tmp_path / "said.c"
    source.write_text(program(said))
    language = "c" if standard == "c11" else "c++"
    try:
        built = subprocess.run(
            ["cc", f"-std={standard}", "-x", language, "-Wall", "-Wextra", "-Werror", "-pedantic",
             "-I", str(INCLUDE), "-o", str(tmp_path / "said"), str(source)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.fail("the tests need a C compiler named cc")
    if language == "c++" and "cc1plus" in built.stderr:
        pytest.skip("this machine's cc compiles no C++")
    assert built.returncode == 0, built.stderr
    out = subprocess.run([tmp_path / "said"], capture_output=True, text=True, check=True).stdout
    heard = {line.split("=")[0]: int(line.split("=")[1]) for line in out.splitlines()}
    assert heard == said


def test_the_header_has_no_struct_field_or_number_that_the_codec_does_not_know() -> None:
    said = expected()
    for name, body in re.findall(r"struct gpumax_(\w+) \{(.*?)\n\};", HEADER, re.DOTALL):
        for field in re.findall(r"^\s+(?:uint\w+|struct \w+|char)\s+(\w+)", body, re.MULTILINE):
            assert f"{name}.{field}" in said, f"{name}.{field} is in protocol.h alone"
    for body in re.findall(r"enum gpumax_\w+ \{(.*?)\};", HEADER, re.DOTALL):
        for name in re.findall(r"(GPUMAX_\w+) =", body):
            assert name in said, f"{name} is in protocol.h alone"


def test_no_message_is_longer_than_a_message_may_be() -> None:
    for form in wire.FORMS.values():
        assert wire.HEADER.size + form.struct.size <= words.LONGEST
