"""Parts of GPUs without a server: a broker of one's own, which `gpumax gpu run` starts and which ends when nobody needs it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gpumax.apps.gpu.process import joined
from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.broker.control import Control, Group
from gpumax.devices.uuids import Sharable
from gpumax.errors import BadFile, Conflict, Fault, Refused, Unreachable
from gpumax.units import MIB, format_memory

IDLE_S: Final = 30.0
"""So long a broker stays after the last program."""
TRIES: Final = 5


class Wish(NamedTuple):
    """What a program is to get of one GPU. share 0: as much of its time as of its memory; guaranteed 0: the other way round."""

    share: float
    guaranteed: int
    limit: int
    mode: str
    swap: bool
    name: str


class Part(NamedTuple):
    """What it got."""

    group: Group
    socket: Path


def part(wish: Wish, devices: Sequence[Sharable], environ: Mapping[str, str], rules: Rules = USUAL) -> Part:
    """A part of the GPU on which most is free, for as long as this process lives, and whoever uses it. Refused, in words.

    rules: of a broker that has to be started for it.
    """
    there = _visible(devices, environ.get("CUDA_VISIBLE_DEVICES"))
    _check(wish, there)
    directory = place(environ, devices)
    for _ in range(TRIES):
        try:
            return _ask(joined(directory, devices, idle_s=IDLE_S, rules=rules), wish, there)
        except Unreachable:
            continue  # it ended right now for want of groups
    raise Unreachable(f"the broker in {directory} ends again and again; {directory / 'log'} may say why")


def place(environ: Mapping[str, str], devices: Sequence[Sharable]) -> Path:
    """Where this user's broker of these devices is."""
    names = ",".join(sorted(each.uuid for each in devices))
    return own_folder(environ) / f"gpu-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def own_folder(environ: Mapping[str, str]) -> Path:
    """A directory with a short path that is nobody else's. Refused where it is."""
    base = environ.get("XDG_RUNTIME_DIR") or ""
    own = (
        Path(base) / "gpumax"
        if base and Path(base).is_dir()
        else Path(tempfile.gettempdir()) / f"gpumax-{os.geteuid()}"
    )
    own.mkdir(mode=0o700, exist_ok=True)
    about = own.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise Refused(
            f"{own} is open to others, or another user's; wanted a directory of mode 700 of your own, or another XDG_RUNTIME_DIR"
        )
    return own


def _visible(devices: Sequence[Sharable], said: str | None) -> tuple[Sharable, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, by UUID or by number in the order of the bus."""
    if said is None:
        return tuple(devices)
    words = [word.strip() for word in said.split(",") if word.strip()]
    kept = tuple(
        each for word in words for each in devices
        if (word == str(each.number) or (len(word) > 4 and each.uuid.lower().startswith(word.lower())))
    )  # fmt: skip
    if not kept:
        there = "the GPU here isn't" if len(devices) == 1 else f"none of the {len(devices)} GPUs here is"
        raise Refused(
            f"{there} among those of CUDA_VISIBLE_DEVICES={said}; `gpumax gpu list` tells their numbers"
        )
    return kept


def _check(wish: Wish, devices: Sequence[Sharable]) -> None:
    largest = max(each.bytes for each in devices)
    asked = {"--gpu-memory": wish.guaranteed, "--gpu-memory-limit": wish.limit}
    wanted = f"at most {format_memory(largest // MIB)}, which the largest GPU here has to give"
    faults = [
        Fault(option, None, format_memory(amount // MIB), wanted)
        for option, amount in asked.items()
        if amount > largest
    ]
    if faults:
        raise BadFile(faults)


def _ask(control: Control, wish: Wish, devices: Sequence[Sharable]) -> Part:
    groups = control.groups()
    known = next((each for each in groups if each.name == wish.name), None)
    if known is not None:
        devices = [each for each in devices if each.uuid in known.devices]
        if not devices:
            raise Conflict(f"group {wish.name} is on another GPU, {', '.join(known.devices)}")
    refusals = []
    for device in sorted(devices, key=lambda each: _given(groups, each.uuid)):
        if max(wish.guaranteed, wish.limit) > device.bytes:
            continue
        group = group_of(wish, device)
        try:
            return Part(group, control.add(group, owned=True))
        except Conflict:
            raise
        except Refused as refused:
            refusals.append(str(refused))
    raise Conflict(refusals[0])


def _given(groups: Sequence[Group], uuid: str) -> float:
    return sum(each.share for each in groups if uuid in each.devices)


def group_of(wish: Wish, device: Sharable) -> Group:
    """A wish on one device: what it leaves open follows from the other."""
    guaranteed = wish.guaranteed or int(wish.share * device.bytes) // MIB * MIB
    share = wish.share or max(round(guaranteed / device.bytes, 3), 0.001)
    group = Group(wish.name, (device.uuid,), guaranteed, wish.limit, share, swap=wish.swap)
    return msgspec.structs.replace(group, mode=wish.mode)
