"""Starting a program under the layer: what its environment says, and which programs the layer can't reach."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gpumax.errors import NotFound, Refused
from gpumax.native import library

_MACHINES: Final = {62: "x86_64", 183: "aarch64"}
_INTERPRETER: Final = 3  # PT_INTERP: the loader that a program names
_SCRIPTS_DEEP: Final = 4


def environment(
    base: Mapping[str, str], limit: int, group: str | None = None, swap: bool = False
) -> dict[str, str]:
    """The environment of a program that gets `limit` bytes of each device, together with its group and its children."""
    before = base.get("LD_PRELOAD", "").replace(":", " ").split()
    ours = [str(library("cuda")), str(library("ml"))]
    said = {
        "LD_PRELOAD": " ".join([*ours, *(each for each in before if each not in ours)]),
        "GPUMAX_LIMIT": str(limit),
        "GPUMAX_GROUP": group or f"run-{os.getpid()}-{time.time_ns()}",
    }
    if swap:
        said["GPUMAX_SWAP"] = "1"
    kept = {key: value for key, value in base.items() if key not in ("GPUMAX_DISABLE", "GPUMAX_SWAP")}
    return kept | said


def found(command: str, path: str | None = None) -> Path:
    """The program that a command names."""
    program = shutil.which(command, path=path)
    if program is None:
        raise NotFound(f"{command}: no such program in PATH")
    return Path(program)


def check(program: Path) -> None:
    """Refuse what the layer can't reach: a limit that holds nobody is worse than none."""
    for _ in range(_SCRIPTS_DEEP):
        runs = _interpreter_of_script(program)
        if runs is None:
            break
        program = runs
    why = _unreachable(program)
    if why is not None:
        raise Refused(
            f"{program} {why}, so nothing can be preloaded and its GPU memory can't be limited; "
            "run it as a whole-GPU workload: gpumax run --gpu 1 -- ..."
        )


def _interpreter_of_script(program: Path) -> Path | None:
    """Whom `#!` names; of `env NAME` that program."""
    with program.open("rb") as file:
        head = file.read(256)
    if not head.startswith(b"#!"):
        return None
    words = head[2:].split(b"\n")[0].decode(errors="replace").split()
    if not words:
        return None
    if Path(words[0]).name == "env":
        named = next((each for each in words[1:] if not each.startswith("-") and "=" not in each), "")
        runs = shutil.which(named)
        return Path(runs) if runs else None
    return Path(words[0]) if Path(words[0]).exists() else None


def _unreachable(program: Path) -> str | None:
    """Why the loader of a program won't take the layer; None: it will, or it is no program that we can read."""
    if program.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "runs with rights of its own (setuid)"
    with program.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return None
        if len(head) < 64 or head[4] != 2 or head[5] != 1:
            return "is a program of 32 bits, or of another order of bytes"
        machine = _MACHINES.get(struct.unpack_from("<H", head, 18)[0])
        if machine != platform.machine():
            return f"is a program for {machine or 'another kind of machine'}"
        offset, size, count = (
            struct.unpack_from("<Q", head, 32)[0],
            *struct.unpack_from("<HH", head, 54),
        )
        file.seek(offset)
        table = file.read(size * count)
        for at in range(0, len(table) - 55, max(size, 56)):
            if struct.unpack_from("<I", table, at)[0] == _INTERPRETER:
                file.seek(struct.unpack_from("<Q", table, at + 8)[0])
                loader = file.read(struct.unpack_from("<Q", table, at + 32)[0] % 4096).rstrip(b"\0").decode()
                return "is for another C library (musl)" if "musl" in loader else None
    return "is linked statically"
