"""A device has one broker. Each that is to be the only one says so by a name that the kernel takes back when it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import closing

from gpumax.broker.node.process import peer
from gpumax.errors import Conflict


def alone(uuids: Iterable[str]) -> list[socket.socket]:
    """Claims of these devices, to be held while they're given out. Conflict where another broker has one."""
    claims: list[socket.socket] = []
    for uuid in uuids:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(_name(uuid))
        except OSError:
            for each in (*claims, claim):
                each.close()
            raise Conflict(
                f"another broker{_whose(uuid)} gives out {uuid} already: that of a `gpumax up`, which takes work by "
                "`gpumax run --gpu 0.5 -- ...`, or of a `gpumax gpu run --gpu`, which ends half a minute after its last program"
            ) from None
        claim.listen(1)
        claims.append(claim)
    return claims


def _name(uuid: str) -> str:
    return f"\0gpumax-broker-{uuid}"


def _whose(uuid: str) -> str:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as question:
        question.setblocking(False)
        try:
            question.connect(_name(uuid))
            who = peer(question)
        except OSError:
            return ""
        return f" (process {who.pid} of user {who.uid})"
