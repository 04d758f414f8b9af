"""A broker as a process of its own, for tests: `python serve.py DIRECTORY JSON`. It says `up`, and keeps a record of what it decides.

The record is a file of lines: when, which epoch, what was heard or ordered, of which group and client. What it reads on its standard
input are wishes, as lines of JSON: {"fault": ...}, {"configure": [NAME, GROUP]}, {"remove": NAME} or {"add": [NAME, GROUP]}.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpumax.broker import messages as msg
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import MS, DeviceSpec, GroupSpec, MemoryShare, Settings, Stuck
from gpumax.broker.node.away import Away
from gpumax.broker.node.burial import Burial
from gpumax.broker.node.connection import Connection
from gpumax.broker.node.ears import run
from gpumax.broker.node.roster import Member
from gpumax.broker.node.server import Server
from gpumax.broker.node.tier import SecondTier
from gpumax.broker.node.unfenced import Watch
from gpumax.broker.wire import Header
from gpumax.broker.words import Mode
from gpumax.devices.processes import Processes

ASKED = "Away asked"
ANSWERED = "Away answered"
"""What a process is asked, and answers, before the driver takes it off its devices: the core doesn't hear of it."""


BEFALLEN = "a helper's step"
"""One at which something has happened to a helper."""


class Faulty(Away):
    """Asks the driver by helpers of which some are killed before a call: `way`, `call`; and `what` happens then, to `pid`'s process or
    the broker. Each of `faults` befalls one of them, the first one that goes that way.
    """

    faults: Sequence[dict[str, str]] = ()
    note: Callable[[dict[str, str]], None]

    async def _ask(self, way: str, pid: int, milliseconds: int, patience_s: float) -> str:
        fault = next((each for each in self.faults if each["way"] == way), None)
        if fault is None:
            return await super()._ask(way, pid, milliseconds, patience_s)
        self.faults = [each for each in self.faults if each is not fault]
        healthy = os.environ["GPUMAX_EMU"]
        if fault["call"]:
            faults = [{"call": fault["call"], "nth": 1, "kill": True}]
            os.environ["GPUMAX_EMU"] = json.dumps(json.loads(healthy) | {"faults": faults})
        said = await super()._ask(way, pid, milliseconds, patience_s)
        os.environ["GPUMAX_EMU"] = healthy
        if not (fault["call"] and said):  # else it makes no such call
            self.note(fault)
        if fault["what"] == "the broker is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault["what"] == "it is killed":
            os.kill(pid, signal.SIGKILL)
        return said


class Asking(SecondTier):
    """Notes whom it has asked. `note` hears of which client."""

    note: Callable[[int], None]

    async def _agrees(self, order: od.Checkpoint, member: Member) -> bool:
        agreed = asyncio.ensure_future(super()._agrees(order, member))
        await asyncio.sleep(0)
        self.note(member.owner.client)
        return await agreed


class Recorded(Server):
    """`faults`: at which step something happens, as {"kind", "group", "nth", "what"}: the process of the step is killed, stopped or
    let go on, or one of another group is killed or stopped, or the broker is killed, right before what was heard is dealt with, or
    right after what was ordered is said. "patience_ns": so long it's put off until the other one holds a lease at such a step.
    """

    def __init__(self, *arguments: Any, record: Path, faults: list[dict[str, Any]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.record = record.open("a", buffering=1)
        before = self.second
        self.away = Faulty(self.directory)
        self.second = Asking(
            self.away, before.roster, before.clock, before.tell, before.report, before.spawn, before.stuck
        )
        self.second.note = lambda client: self._write(ASKED, client, {})
        self.away.note = lambda fault: self._write(BEFALLEN, 0, {"way": fault["way"], "call": fault["call"]})
        self.faults = faults
        self.whose: dict[int, tuple[str, int]] = {}
        """By client, also of those who are gone: the group, and the process."""
        self.begun = False

    def _begin(self) -> None:
        """From whom an earlier broker's turns may last on."""
        assert self.broker is not None
        self.begun = True
        self.whose = {c.id: (c.group.name, c.pid) for c in self.broker.state.clients.values()}
        self._write("Began", 0, {"clients": list(self.whose)})

    def _write(self, kind: str, client: int, more: dict[str, Any]) -> None:
        assert self.broker is not None
        group, pid = self.whose.get(client, (None, None))
        line = {
            "at": time.monotonic_ns(), "epoch": self.broker.state.epoch, "kind": kind, "client": client, "group": group, "pid": pid,
        } | more  # fmt: skip
        self.record.write(json.dumps(line) + "\n")
        for fault in self.faults:
            if (fault["kind"], fault["group"]) == (kind, line["group"]):
                fault["nth"] -= 1
                if fault["nth"] == 0 and not self._break(fault, line):
                    fault["nth"] = 1

    def _break(self, fault: dict[str, Any], line: dict[str, Any]) -> bool:
        """False: there is nobody now whom it could befall, or for a while yet: the other one shall hold a lease, if it ever does then."""
        what = fault["what"]
        victim = self._another(line["group"], fault) if what.startswith("the other") else line["pid"]
        if victim is None:
            return False
        self.record.write(json.dumps(line | {"kind": what, "step": line["kind"], "victim": victim}) + "\n")
        if what == "the broker is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        number = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "on": signal.SIGCONT}[what.split()[-1]]
        with suppress(ProcessLookupError):
            os.kill(victim, number)
        return True

    def _another(self, group: str, fault: dict[str, Any]) -> int | None:
        assert self.broker is not None
        others = [each for each in self.broker.state.clients.values() if each.group.name != group]
        until: int = fault.setdefault("until", time.monotonic_ns() + fault.get("patience_ns", 0))
        able = [each.pid for each in others if each.leased or time.monotonic_ns() > until]
        return able[0] if able else None

    def _handle(self, event: ev.Event) -> None:
        if self.broker is not None and not self.begun:
            self._begin()
        if isinstance(event, ev.ClientEvent | ev.Joined) and self.broker is not None:
            more: dict[str, Any] = {}
            if isinstance(event, ev.Released):
                more = {"lease": event.lease, "wants": event.wants}
            elif isinstance(event, ev.Joined):
                self.whose[event.client] = (event.group, event.pid)
                more = {"reconnects": event.reconnects}
            elif isinstance(event, ev.Asked):
                more = {"bytes": event.bytes}
            self._write(type(event).__name__, event.client, more)
        super()._handle(event)

    def _heard(self, connection: Connection, header: Header, message: msg.Message, now: int) -> None:
        if isinstance(message, msg.Away):
            self._write(ANSWERED, connection.client, {})
        super()._heard(connection, header, message, now)

    def _obey(self, order: od.Order) -> None:
        super()._obey(order)
        if isinstance(order, od.ClientOrder):
            more = {"lease": order.lease} if isinstance(order, od.Grant | od.Revoke) else {}
            self._write(type(order).__name__, order.client, more)
        elif isinstance(order, od.Report):
            self._write(f"report {order.kind}", 0, {"group": order.group})

    def wish(self) -> None:
        """Lines on the standard input."""
        lines = os.read(sys.stdin.fileno(), 1 << 16)
        if not lines:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for line in lines.splitlines():
            self._grant_wish(json.loads(line))

    def _grant_wish(self, wish: dict[str, Any]) -> None:
        match wish:
            case {"fault": fault}:
                self.faults.append(fault)
            case {"configure": [name, group]}:
                self.configure(spec(name, group))
            case {"remove": name}:
                self.remove(name)
            case {"add": [name, group]}:
                self.add(spec(name, group), frozenset({os.getuid()}))


def spec(name: str, group: dict[str, Any]) -> GroupSpec:
    memory = {device: MemoryShare(*group["memory"]) for device in group["devices"]}
    return GroupSpec(name, memory, group["share"], Mode[group["mode"].upper()], swap=group["swap"])


async def bury(server: Server) -> None:
    """As `main` does, but it looks all the time."""
    processes = Processes()
    watch = Watch(server, processes.read, lambda _: None)
    burial = asyncio.create_task(Burial(server, processes.read, watch).run())
    while not burial.done():
        watch.look(await asyncio.to_thread(processes.read))
        await asyncio.sleep(0.02)


async def serve(directory: Path, wish: dict[str, Any]) -> None:
    heartbeat = wish["heartbeat_ms"] * MS
    settings = Settings(
        heartbeat_ns=heartbeat, grace_ns=heartbeat, gang_wait_ns=wish.get("gang_wait_ms", 10_000) * MS, pool_bytes=8 << 30,
        shortest_quantum_ns=wish["quantum_ms"] * MS, quantum_factor=1, chunk_bytes=4 << 20, serial_ns=heartbeat,
        stuck=Stuck(wish.get("stuck", "wait")), **({"burial_ns": heartbeat} | wish.get("settings", {})),
    )  # fmt: skip
    devices = [DeviceSpec(name, wish["bytes"]) for name in wish["devices"]]
    server = Recorded(
        directory, devices, settings, record=directory.with_suffix(".record"), faults=wish["faults"]
    )
    server.away.faults = wish.get("helpers", ())
    users = frozenset({os.getuid()})
    await server.start({name: (spec(name, group), users) for name, group in wish["groups"].items()})
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    if wish.get("listens"):
        loop.add_reader(sys.stdin.fileno(), server.wish)
    burying = loop.create_task(bury(server)) if wish.get("buries") else None
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await ended.wait()
    if burying is not None:
        burying.cancel()
    await server.stop()


if __name__ == "__main__":
    run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
