"""Clients as this process knows them: connection, pages, and the descriptor that tells of their end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from gpumax.broker.node import process
from gpumax.broker.node.connection import Connection
from gpumax.broker.node.pages import Owner, Pages


@dataclass(slots=True)
class Member:
    owner: Owner
    pages: Pages
    pidfd: int
    connection: Connection | None = None
    generation: int = 0
    garbage: bool = False
    books: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By index of its device: budget and allowed bytes, as they stand in its pages."""
    spared: bool = False
    """It was to be ended, and we may not: that has been told."""

    def end(self) -> str:
        """End its process; why that can't be, in words, the first time."""
        if process.end(self.pidfd) or self.spared:
            return ""
        self.spared = True
        pid = self.owner.pid
        return f"process {pid} doesn't answer, and is another user's, whose processes this broker may not end; `kill -9 {pid}` ends it"


class Roster:
    """`died` is called with the client's number when its process has ended."""

    def __init__(self, died: Callable[[int], None]) -> None:
        self.members: dict[int, Member] = {}
        self._died = died

    def add(self, owner: Owner, pages: Pages, connection: Connection | None) -> Member | None:
        """None: the process has ended already, or another one has its number."""
        pidfd = process.watch(owner.pid)
        if pidfd is None:
            return None
        if process.started(owner.pid) != owner.started:
            os.close(pidfd)
            return None
        member = Member(owner, pages, pidfd, connection, pages.generation)
        self.members[owner.client] = member
        asyncio.get_running_loop().add_reader(pidfd, self._died, owner.client)
        return member

    def remove(self, client: int) -> None:
        member = self.members.pop(client, None)
        if member is None:
            return
        asyncio.get_running_loop().remove_reader(member.pidfd)
        os.close(member.pidfd)
        member.pages.remove()

    def leave(self) -> None:
        """The broker ends: pages stay for the next one."""
        for member in self.members.values():
            asyncio.get_running_loop().remove_reader(member.pidfd)
            os.close(member.pidfd)
            if member.connection is not None:
                member.connection.close()
            member.pages.close()
        self.members.clear()
