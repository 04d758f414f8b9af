"""Starting a program under the layer: what its environment says, and which programs the layer can't reach."""

from __future__ import annotations

import itertools
import os
import platform
import re
import shutil
import stat
import struct
import time
from collections.abc import Mapping, Sequence
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
    if program is None and "/" in command:
        there = Path(command)
        why = "a directory" if there.is_dir() else "not executable" if there.exists() else "no such file"
        raise NotFound(f"{command}: {why}; wanted a program")
    if program is None:
        raise NotFound(f"{command}: no such program in PATH")
    return Path(program)


def check(program: Path, arguments: Sequence[str] = ()) -> None:
    """Refuse what the layer can't reach: a limit that holds nobody is worse than none. arguments: of the program."""
    why = _empty((str(program), *arguments)) or _clears(program)
    program = program if why else _run_by(program)
    why = why or _unreachable(program)
    if why is not None:
        raise Refused(
            f"{program} {why}, so nothing can be preloaded and its GPU memory can't be limited; "
            "run it as a whole-GPU workload: gpumax run --gpu 1 -- ..."
        )


def unreachable(program: Path) -> str | None:
    """Why the layer can't reach a program, or the one that runs it; None: it can."""
    if why := _clears(program):
        return why
    runs = _run_by(program)
    why = _unreachable(runs)
    return why if why is None or runs == program else f"is run by {runs}, which {why}"


def is_layered(environment: Mapping[str, str]) -> bool:
    """Whether programs that are started in it come under the layer."""
    preloads = environment.get("LD_PRELOAD", "").replace(":", " ").split()
    return str(library("cuda")) in preloads and environment.get("GPUMAX_DISABLE", "0") in ("", "0")


def _run_by(program: Path) -> Path:
    """A program, or who runs a script."""
    for _ in range(_SCRIPTS_DEEP):
        runs = _interpreter_of_script(program)
        if runs is None:
            break
        program = runs
    return program


def _clears(program: Path) -> str | None:
    """A script whose first line says that its environment is to be empty."""
    return _empty(_shebang(program))


def _empty(words: Sequence[str]) -> str | None:
    """A command that begins with `env -i`."""
    if not words or Path(words[0]).name != "env":
        return None
    options = list(itertools.takewhile(lambda each: each.startswith("-") or "=" in each, words[1:]))
    if any(
        each in ("-", "--ignore-environment") or re.fullmatch(r"-[a-zA-Z]*i[a-zA-Z]*", each)
        for each in options
    ):
        return "begins with an empty environment (env -i)"
    return None


def _shebang(program: Path) -> list[str]:
    with program.open("rb") as file:
        head = file.read(256)
    if not head.startswith(b"#!"):
        return []
    return head[2:].split(b"\n")[0].decode(errors="replace").split()


def _interpreter_of_script(program: Path) -> Path | None:
    """Whom `#!` names; of `env NAME` that program."""
    words = _shebang(program)
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
