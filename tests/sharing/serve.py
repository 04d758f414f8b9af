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
from pathlib import Path
from typing import Any

from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import MS, DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.node.away import Away
from gpumax.broker.node.ears import run
from gpumax.broker.node.server import Server
from gpumax.broker.words import Mode


class Faulty(Away):
    """Asks the driver by helpers of which one is killed before a call: `way`, `call`; and `what` happens then, to `pid`'s process or the broker."""

    fault: dict[str, str] | None = None

    async def _ask(self, way: str, pid: int, milliseconds: int, patience_s: float) -> str:
        fault, healthy = self.fault, os.environ.get("GPUMAX_EMU", "")
        if fault is None or fault["way"] != way:
            return await super()._ask(way, pid, milliseconds, patience_s)
        self.fault = None
        if fault["call"]:
            faults = [{"call": fault["call"], "nth": 1, "kill": True}]
            os.environ["GPUMAX_EMU"] = json.dumps(json.loads(healthy) | {"faults": faults})
        said = await super()._ask(way, pid, milliseconds, patience_s)
        os.environ["GPUMAX_EMU"] = healthy
        if fault["what"] == "the broker is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault["what"] == "it is killed":
            os.kill(pid, signal.SIGKILL)
        return said


class Recorded(Server):
    """`faults`: at which step something happens, as {"kind", "group", "nth", "what"}: the process of the step is killed or
    stopped, or the broker is killed, right before what was heard is dealt with, or right after what was ordered is said.
    """

    def __init__(self, *arguments: Any, record: Path, faults: list[dict[str, Any]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.record = record.open("a", buffering=1)
        self.second.away = self.away = Faulty(self.directory)
        self.faults = faults

    def _write(self, kind: str, client: int, more: dict[str, Any]) -> None:
        assert self.broker is not None
        known = self.broker.state.clients.get(client)
        line = {
            "at": time.monotonic_ns(), "epoch": self.broker.state.epoch, "kind": kind, "client": client,
            "group": known.group.name if known else None, "pid": known.pid if known else None,
        } | more  # fmt: skip
        self.record.write(json.dumps(line) + "\n")
        for fault in self.faults:
            if (fault["kind"], fault["group"]) == (kind, line["group"]):
                fault["nth"] -= 1
                if fault["nth"] == 0:
                    self._break(fault["what"], line)

    def _break(self, what: str, line: dict[str, Any]) -> None:
        self.record.write(json.dumps(line | {"kind": what}) + "\n")
        if what == "the broker is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(line["pid"], signal.SIGKILL if what == "it is killed" else signal.SIGSTOP)

    def _handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.ClientEvent | ev.Joined) and self.broker is not None:
            more: dict[str, Any] = {}
            if isinstance(event, ev.Released):
                more = {"lease": event.lease, "wants": event.wants}
            elif isinstance(event, ev.Joined):
                more = {"group": event.group, "pid": event.pid}
            self._write(type(event).__name__, event.client, more)
        super()._handle(event)

    def _obey(self, order: od.Order) -> None:
        super()._obey(order)
        if isinstance(order, od.ClientOrder) and not isinstance(order, od.Look):
            more = {"lease": order.lease} if isinstance(order, od.Grant | od.Revoke) else {}
            self._write(type(order).__name__, order.client, more)
        elif isinstance(order, od.Report):
            self._write(f"report {order.kind}", 0, {"group": order.group})


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
        heartbeat_ns=heartbeat, grace_ns=heartbeat, gang_wait_ns=wish.get("gang_wait_ms", 10_000) * MS, pool_bytes=8 << 30,
        shortest_quantum_ns=wish["quantum_ms"] * MS, quantum_factor=1, burial_ns=heartbeat, chunk_bytes=4 << 20, serial_ns=heartbeat,
        **wish.get("settings", {}),
    )  # fmt: skip
    devices = [DeviceSpec(name, wish["bytes"]) for name in wish["devices"]]
    server = Recorded(
        directory, devices, settings, record=directory.with_suffix(".record"), faults=wish["faults"]
    )
    server.away.fault = wish.get("helper")
    await server.start(groups(wish))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
