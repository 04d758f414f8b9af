"""The second tier as a part of the broker: what the core orders is asked of the process first, then of the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from gpumax.broker import messages as msg
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.events import Outcome
from gpumax.broker.core.shapes import Stuck
from gpumax.broker.node import process
from gpumax.broker.node.away import AGAIN_S, Away, Said
from gpumax.broker.node.roster import Member, Roster
from gpumax.broker.words import AwayFlags

UNANSWERED = "the driver doesn't say what became of it; it's asked until it does"


@dataclass
class SecondTier:
    """`tell` hears what came of an order; `spawn` carries on beside."""

    away: Away
    roster: Roster
    clock: Callable[[], int]
    tell: Callable[[ev.Event], None]
    report: Callable[[od.Report], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    stuck: Stuck
    _agreeing: dict[int, asyncio.Future[bool]] = field(default_factory=dict)

    def obey(self, order: od.Checkpoint | od.Restore, member: Member) -> None:
        takes = isinstance(order, od.Checkpoint)
        self.spawn(self._take_off(order, member) if takes else self._bring_back(member))  # type: ignore[arg-type]

    def heard(self, client: int, message: msg.Away) -> None:
        """A process has answered whether it may be taken off."""
        agreeing = self._agreeing.get(client)
        if agreeing is not None and not agreeing.done():
            agreeing.set_result(not message.flags & AwayFlags.BUSY)

    def recover(self) -> None:
        """Of whom an earlier broker left it open where they are. Who is nobody's any more comes back as soon as there is room."""
        for pid in list(self.away.marked()):
            member = self._member(pid)
            self.spawn(self._find(member.owner.pid) if member else self.free(pid))

    async def _take_off(self, order: od.Checkpoint, member: Member) -> None:
        pid = member.owner.pid
        if not await self._agrees(order, member):
            self._checkpointed(pid, Said(Outcome.BUSY, "it is at work"))
            return
        said = await self.away.off(pid, order.timeout_ns)
        if said is None:
            self.report(od.Report("checkpoint", member.owner.group, f"process {pid}: {UNANSWERED}"))
            if not order.rests and self.stuck is Stuck.END:
                process.end(member.pidfd)
            said = await self.away.found(pid)
        self._checkpointed(pid, said)

    async def _agrees(self, order: od.Checkpoint, member: Member) -> bool:
        """From now on it says that it wants to work with whatever call comes first. Who doesn't answer isn't asked for long."""
        if member.connection is None:
            return not order.rests
        client = member.owner.client
        agreeing = self._agreeing[client] = asyncio.get_running_loop().create_future()
        member.connection.send(msg.Away())
        try:
            return await asyncio.wait_for(agreeing, order.timeout_ns / 1e9)
        except TimeoutError:
            return not order.rests
        finally:
            self._agreeing.pop(client, None)

    async def _bring_back(self, member: Member) -> None:
        pid = member.owner.pid
        said = await self.away.back(pid)
        client = self._client(pid)
        if client is not None:
            self.tell(ev.Restored(self.clock(), client, said.how, said.why))

    def _checkpointed(self, pid: int, said: Said) -> None:
        client = self._client(pid)
        if client is not None:
            self.tell(ev.Checkpointed(self.clock(), client, said.how, said.why))

    async def _find(self, pid: int) -> None:
        said = await self.away.found(pid)
        client = self._client(pid)
        if client is not None:
            self.tell(ev.Found(self.clock(), client, said.how))

    async def free(self, pid: int) -> None:
        """Bring one back that has no part in anything here."""
        while pid in self.away.marked():
            said = await self.away.back(pid)
            if said.how is Outcome.DONE:
                self.report(od.Report("restored", "", f"process {pid} is back on its devices"))
                return
            if said.how is Outcome.LOST:
                self.report(od.Report("lost", "", f"process {pid} can't be brought back: {said.why}; end it"))
                return
            await asyncio.sleep(AGAIN_S)

    def _member(self, pid: int) -> Member | None:
        """It may have come back by another connection meanwhile."""
        known = [each for each in self.roster.members.values() if each.owner.pid == pid]
        return max(known, key=lambda each: each.owner.client, default=None)

    def _client(self, pid: int) -> int | None:
        member = self._member(pid)
        return member.owner.client if member else None
