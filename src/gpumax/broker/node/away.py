"""Whom the driver has off its devices because this broker, or an earlier one, said so. A file for each says so before the driver is asked.

Only a broker removes such a file, once the driver says that the process is there: so whichever is killed at whatever step, the next one
finds of whom it isn't known where they are, and asks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gpumax.broker.core.events import Outcome
from gpumax.broker.node import process
from gpumax.broker.node.kept import Owner

PATIENCE_S: Final = 120.0
"""A driver copies all that a process has, one after the other: tens of GiB in tens of seconds."""
ANSWERS_S: Final = 10.0
"""So long it may take to say where a process is."""
AGAIN_S: Final = 1.0
_REFUSALS: Final = {
    "no driver": "there is no driver for the broker to ask",
    "driver": "this driver is older than 570",
    "801": "the driver can't, as with managed memory, or memory that processes share",
}


class Said(NamedTuple):
    how: Outcome
    why: str = ""


@dataclass
class Away:
    """`directory` is the broker's. patience_s: for a whole step; answers_s: for a question."""

    directory: Path
    patience_s: float = PATIENCE_S
    answers_s: float = ANSWERS_S

    def objection(self, pid: int) -> Said | None:
        """Why it isn't even tried."""
        try:
            owner = Path(f"/proc/{pid}").stat().st_uid
        except OSError:
            return Said(Outcome.BUSY, "it has ended")
        mine = os.geteuid()
        if mine not in (0, owner):
            why = f"it's a process of user {owner}, and the broker one of user {mine}; only root may take it off"
            return Said(Outcome.REFUSED, why)
        if process.stopped(pid):
            # A thread of its own, which the driver has there, does the work; while it's stopped even the question isn't answered.
            return Said(Outcome.BUSY, "it is stopped")
        return None

    async def off(self, pid: int, timeout_ns: int) -> Said | None:
        """Have it taken off. timeout_ns: how long to wait for what it has submitted. None: the driver doesn't say where it is."""
        said = self.objection(pid)
        if said is not None:
            return said
        self._mark(pid)
        word = await self._ask("away", pid, timeout_ns // 1_000_000, self.patience_s + timeout_ns / 1e9)
        word = word or await self._where(pid)
        if word and word not in ("away", "lost"):
            self.forget(pid)
        return _read(word, wanted="away") if word else None

    async def back(self, pid: int) -> Said:
        """Have it brought back."""
        said = self.objection(pid)
        if said is not None:
            return said
        word = await self._ask("back", pid, 0, self.patience_s) or await self._where(pid)
        if word in ("there", "gone"):
            self.forget(pid)
        return _read(word, wanted="there") if word else Said(Outcome.BUSY, "the driver doesn't answer")

    async def found(self, pid: int) -> Said:
        """Where it is: DONE, off its devices; BUSY, there; LOST, nobody can say. A lock that nobody undid is undone. Asks until the driver answers."""
        while not (word := await self._where(pid)):
            await asyncio.sleep(AGAIN_S)
        if word in ("there", "gone"):
            self.forget(pid)
        said = _read(word, wanted="away")
        return Said(Outcome.LOST, said.why) if said.how is Outcome.REFUSED else said

    async def _where(self, pid: int) -> str:
        return await self._ask("settle", pid, 0, self.answers_s)

    async def _ask(self, way: str, pid: int, milliseconds: int, patience_s: float) -> str:
        """What the helper says; nothing: it was killed, or hangs."""
        # -P: what lies in the working directory is none of its modules. Whoever finds the layer where the driver is expected passes through it.
        environment = {**os.environ, "GPUMAX_DISABLE": "1"}
        try:
            helper = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "gpumax.broker.node.second", way, str(pid), str(max(milliseconds, 1)),
                str(self._path(pid)), env=environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            return f"refused {error.strerror}"
        try:
            said, _ = await asyncio.wait_for(helper.communicate(), patience_s)
        except TimeoutError:
            return ""
        finally:
            if helper.returncode is None:
                helper.kill()
        return said.decode().strip()

    # the files

    def _path(self, pid: int) -> Path:
        return self.directory / "away" / str(pid)

    def _mark(self, pid: int) -> None:
        began = process.started(pid)
        path = self._path(pid)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(msgspec.json.encode(Owner(pid, began or 0)))

    def forget(self, pid: int) -> None:
        self._path(pid).unlink(missing_ok=True)

    def marked(self) -> Iterator[int]:
        """Processes that live, and of which it isn't known that they are there."""
        for path in sorted((self.directory / "away").glob("[0-9]*")):
            try:
                owner = msgspec.json.decode(path.read_bytes(), type=Owner)
                lives = process.started(owner.pid) == owner.started
            except (msgspec.DecodeError, OSError):
                # It was being written when the broker was killed, so nobody had been asked yet.
                lives = False
            if lives:
                yield owner.pid
            else:
                path.unlink(missing_ok=True)


def _read(word: str, *, wanted: str) -> Said:
    what, _, more = word.partition(" ")
    if what == wanted:
        return Said(Outcome.DONE)
    if what == "lost":
        return Said(Outcome.LOST, "the driver says that it has failed")
    if what == "refused":
        return Said(Outcome.REFUSED, _REFUSALS.get(more, f"the driver says {more}"))
    why = {"away": "the driver had no room for it", "gone": "the driver doesn't know it"}
    return Said(Outcome.BUSY, why.get(what, "its work didn't end in time"))
