"""A broker as a process of its own, for tests: `python serve.py DIRECTORY JSON`. It says `up`, and keeps a record of what it decides.

The record is a file of lines: when, which epoch, what was heard or ordered, of which group and client.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import MS, DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.node.server import Server
from gpumax.broker.words import Mode


class Recorded(Server):
    def __init__(self, *arguments: Any, record: Path, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.record = record.open("a", buffering=1)

    def _write(self, kind: str, client: int, more: dict[str, Any]) -> None:
        assert self.broker is not None
        known = self.broker.state.clients.get(client)
        line = {
            "at": time.monotonic_ns(), "epoch": self.broker.state.epoch, "kind": kind, "client": client,
            "group": known.group.name if known else None, "pid": known.pid if known else None,
        } | more  # fmt: skip
        self.record.write(json.dumps(line) + "\n")

    def _handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.ClientEvent) and self.broker is not None:
            more = {"lease": event.lease, "wants": event.wants} if isinstance(event, ev.Released) else {}
            self._write(type(event).__name__, event.client, more)
        super()._handle(event)

    def _obey(self, orders: Iterable[od.Order]) -> None:
        orders = list(orders)
        for order in orders:
            if isinstance(order, od.ClientOrder) and not isinstance(order, od.Look):
                more = {"lease": order.lease} if isinstance(order, od.Grant | od.Revoke) else {}
                self._write(type(order).__name__, order.client, more)
            elif isinstance(order, od.Report):
                self._write(f"report {order.kind}", 0, {"group": order.group})
        super()._obey(orders)


def groups(wish: dict[str, Any]) -> dict[str, Any]:
    users = frozenset({os.getuid()})
    found = {}
    for name, group in wish["groups"].items():
        memory = {device: MemoryShare(*group["memory"]) for device in group["devices"]}
        found[name] = (
            GroupSpec(name, memory, group["share"], Mode[group["mode"].upper()], swap=group["swap"]),
            users,
        )
    return found


async def serve(directory: Path, wish: dict[str, Any]) -> None:
    heartbeat = wish["heartbeat_ms"] * MS
    settings = Settings(
        heartbeat_ns=heartbeat, grace_ns=heartbeat, pool_bytes=8 << 30,
        shortest_quantum_ns=wish["quantum_ms"] * MS, quantum_factor=1,
    )  # fmt: skip
    devices = [DeviceSpec(name, wish["bytes"]) for name in wish["devices"]]
    server = Recorded(directory, devices, settings, record=directory.with_suffix(".record"))
    await server.start(groups(wish))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
