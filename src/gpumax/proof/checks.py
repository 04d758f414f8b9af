"""What a check is: a function that runs in a process of its own, and ends, misses, or can't show anything here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from gpumax.gpu import share
from gpumax.proof.cuda import MIB, NOT_SUPPORTED, OUT_OF_MEMORY, Cuda

PATIENCE_S: Final = 30.0
"""How long something that another process or the driver has to do is waited for."""

Figures = dict[str, float]


class Missed(Exception):
    """A promise doesn't hold; the text says what was seen instead."""


class NotShown(Exception):
    """Nothing can be said here, and why."""


@dataclass
class Probe:
    """Where a check runs. limit: bytes of each device that were declared; 0: none."""

    limit: int
    device: int = 0
    time: float = 0.0
    """Its share; 0: what a check likes."""
    figures: Figures = field(default_factory=dict)

    @cached_property
    def cuda(self) -> Cuda:
        """The driver as a program finds it."""
        return Cuda(device=self.device)

    @cached_property
    def room(self) -> int:
        """What is to be had: the limit, where nobody else of the group has anything."""
        free = self.cuda.info()[0]
        if self.limit and free > self.limit:
            raise Missed(f"a program sees {free} bytes free; declared are {self.limit}")
        return free

    @cached_property
    def sure(self) -> int:
        """What is to be had of the room though it can't be swapped: what is guaranteed. The rest is borrowed."""
        room = self.room
        guaranteed = share(self.device).guaranteed or self.limit
        return max(0, room - max(0, self.limit - guaranteed))

    @property
    def slack(self) -> int:
        """What drivers may round up to, all allocations of a check together."""
        return self.room // 4


@dataclass(frozen=True)
class Check:
    """promise: its number in the list of the docs; 0: none of them, but what they rest on."""

    name: str
    section: str
    promise: int
    text: str
    run: Callable[[Probe], None]
    settings: Mapping[str, str]
    layered: bool


CHECKS: Final[dict[str, Check]] = {}
"""All of them, in the order of their modules and lines."""


@dataclass(frozen=True)
class Section:
    """Checks of one promise."""

    name: str
    promise: int
    layered: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)

    def check(self, name: str, text: str) -> Callable[[Callable[[Probe], None]], Callable[[Probe], None]]:
        """Register a function as a check, under a name that tables and docs use."""

        def add(function: Callable[[Probe], None]) -> Callable[[Probe], None]:
            assert name not in CHECKS
            CHECKS[name] = Check(name, self.name, self.promise, text, function, self.settings, self.layered)
            return function

        return add


Attempt = Callable[[int], tuple[int, int]]


def held(probe: Probe, attempt: Attempt, what: str, most: int = 0) -> None:
    """Half of what is guaranteed is to be had, more than the rest of the limit isn't, and then nearly all of the rest of what is guaranteed is.

    most: so much of the family; plain memory takes the rest of the room.
    """
    room, sure, unit = probe.room, probe.sure, 2 * MIB
    if 0 < most < sure:
        probe.cuda.plain(sure - most)
        room, sure = probe.cuda.info()[0], most
    half = max(unit, sure // 2 // unit * unit)
    had(attempt(half), half, what)
    refused(attempt(room - half + unit), room - half + unit, what)
    rest = max(unit, sure - half - sure // 4)
    had(attempt(rest), rest, what)


def had(got: tuple[int, int], size: int, what: str) -> int:
    """What was made."""
    result, made = got
    if result == NOT_SUPPORTED:
        raise NotShown(f"this driver has no {what}")
    if result:
        raise Missed(f"{size // MIB} MiB of {what} within the limit: refused with {result}")
    return made


def refused(got: tuple[int, int], size: int, what: str) -> None:
    """Memory that must not be had."""
    result, _ = got
    if result == NOT_SUPPORTED:
        raise NotShown(f"this driver has no {what}")
    if result == 0:
        raise Missed(f"{size // MIB} MiB of {what} beyond the limit: given out")
    if result != OUT_OF_MEMORY:
        raise Missed(f"{what} beyond the limit: error {result} instead of {OUT_OF_MEMORY} (out of memory)")


def taken(attempt: Attempt, piece: int) -> int:
    """Pieces until one is refused; how many bytes that were."""
    total = 0
    while attempt(piece)[0] == 0:
        total += piece
    return total


def eventually(told: Callable[[], bool], otherwise: str) -> float:
    """Wait for what the driver or another process does in its own time. How long it took."""
    began = time.monotonic()
    while not told():
        if time.monotonic() - began > PATIENCE_S:
            raise Missed(f"{otherwise}, after {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began
