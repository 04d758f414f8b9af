"""Programs that share an emulated machine by a broker: the layer in each of them is the real one, and so is the broker."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interposer.emulated import PRELUDE, Machine
from interposer.natives import library

HERE = Path(__file__).parent
MIB = 1 << 20
DEVICES = ("00112233445566778899aabbccddee01", "00112233445566778899aabbccddee02")
WAIT = 60.0
"""Seconds after which something that should come has not; nothing takes so long unless it's broken."""

LOOP = """
    import struct
    current()
    module = load()
    function = ok(d.cuModuleGetFunction(module, b"spin"))
    layer = ctypes.CDLL("libcuda.so.1")
    def counters():
        values = (ctypes.c_uint64 * 16)()
        layer.gpumax_layer_counters(values, 16)
        names = ["refused", "unknown", "tables", "unaccounted", "gate_waits", "copied_out", "copied_in", "spared",
                 "staged", "swaps_out", "swaps_in", "swaps_failed", "without_broker"]
        return dict(zip(names, values))
    def spin(ms=1):
        return d.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, ((int(ms * 1e6),), (ctypes.c_ulonglong,)), 0)
    def work(ms=1):
        ok(spin(ms)); ok(d.cuCtxSynchronize())
"""


def eventually(check: Callable[[], Any]) -> Any:
    """What a check says as soon as it's true."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        got = check()
        if got:
            return got
        time.sleep(0.01)
    raise AssertionError(f"not within {WAIT:g} s: {check}")


@dataclass
class Group:
    memory: tuple[int, int] = (200 * MIB, 200 * MIB)
    share: int = 500
    mode: str = "fair"
    swap: bool = False
    devices: tuple[str, ...] = DEVICES[:1]

    def wish(self) -> dict[str, Any]:
        return {
            "memory": self.memory, "share": self.share, "mode": self.mode, "swap": self.swap,
            "devices": self.devices,
        }  # fmt: skip


class Program:
    """A process under the layer: each `say` of its is a line."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=dict(environment), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> Any:
        try:
            line = self.lines.get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError(f"nothing was said within {WAIT:g} s") from None
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"it ended: {self.process.stderr.read()}")
        return json.loads(line)

    def newest(self) -> Any:
        """What it says from now on first."""
        while not self.lines.empty():
            self.lines.get()
        return self.hear()

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            said = self.hear()
            if wanted(said):
                return said

    def tell(self, line: str = "on") -> None:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), f"{line}\n".encode())

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> str:
        """It ends well; what it said on stderr."""
        assert self.process.stderr is not None
        code = self.process.wait(WAIT)
        errors = self.process.stderr.read()
        assert code == 0, errors
        return errors

    def errors(self) -> str:
        """What it has said on stderr by its end."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@dataclass
class Rig:
    """One machine, one broker, and whoever shares it."""

    folder: Path
    groups: dict[str, Group]
    heartbeat_ms: int = 300
    quantum_ms: int = 100
    gang_wait_ms: int = 60_000
    devices: int = 1
    memory: int = 1024 * MIB
    clock: str = "real"
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the broker, beside these."""
    driver: bool = False
    """The broker has a driver that it can ask to take processes off the devices."""
    helpers: tuple[dict[str, str], ...] = ()
    """At which step some of the next broker's helpers are killed, and what happens then: see `serve.Faulty`."""
    forgetful: bool = False
    """The broker was made to forget who may submit."""
    contexts: int = 4
    """For so many processes there is room beside that memory."""
    stuck: str = "wait"
    """What becomes of those who hold a device and don't answer."""
    buries: bool = False
    """The broker asks the driver, which it has then, whose memory is free."""
    programs: list[Program] = field(default_factory=list)
    broker: subprocess.Popen[str] | None = None
    _known: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def __post_init__(self) -> None:
        self.directory = self.folder / "broker"
        self.uuids = DEVICES[: self.devices]
        spelled = [f"GPU-{u[:8]}-{u[8:12]}-{u[12:16]}-{u[16:20]}-{u[20:]}" for u in self.uuids]
        each = {"memory": f"{self.memory // MIB + 64 * self.contexts}Mi", "context": "64Mi", "cc": "8.6"}
        config = {"clock": self.clock, "devices": [{**each, "name": "Small", "uuid": u} for u in spelled]}
        self.machine = Machine(self.folder, config)

    def serve(self, *faults: dict[str, Any]) -> None:
        """A broker comes, the first one or the next."""
        wish = {
            "heartbeat_ms": self.heartbeat_ms, "quantum_ms": self.quantum_ms, "gang_wait_ms": self.gang_wait_ms, "devices": self.uuids,
            "settings": self.settings, "stuck": self.stuck, "buries": self.buries, "listens": True, "helpers": self.helpers,
            "faults": faults, "bytes": self.memory, "groups": {name: group.wish() for name, group in self.groups.items()},
        }  # fmt: skip
        root = HERE.parents[1]
        base = self.machine.environment() if self.driver or self.buries else os.environ
        self.broker = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py"), str(self.directory), json.dumps(wish)],
            env={**base, "PYTHONPATH": str(root / "src")}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.broker.stdout is not None
        assert self.broker.stdout.readline() == "up\n"

    def wish(self, **wish: Any) -> None:
        """Of the broker that is there: see `serve`."""
        assert self.broker is not None
        assert self.broker.stdin is not None
        with suppress(BrokenPipeError):  # it has been killed just now
            os.write(self.broker.stdin.fileno(), f"{json.dumps(wish)}\n".encode())

    def broken(self) -> None:
        """The broker was killed."""
        assert self.broker is not None
        self.broker.wait(WAIT)
        for pipe in (self.broker.stdin, self.broker.stdout):
            assert pipe is not None
            pipe.close()
        self.broker = None

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.kill()
        self.broken()

    def environment(self, group: str, **more: str) -> dict[str, str]:
        own = {
            "LD_PRELOAD": f"{library('cuda')} {library('ml')}",
            "GPUMAX_REAL_LIBCUDA": str(self.machine.libraries / "libcuda.so.1"),
            "GPUMAX_REAL_LIBNVIDIA_ML": str(self.machine.libraries / "libnvidia-ml.so.1"),
            "GPUMAX_GROUP": f"{self.folder}/{group}",
            "GPUMAX_SOCKET": str(self.directory / f"{group}.sock"),
            "GPUMAX_SWAP": "1" if group in self.groups and self.groups[group].swap else "",
        }
        return {k: v for k, v in self.machine.environment(**(own | more)).items() if v}

    def start(self, group: str, *program: str, head: str = LOOP, **more: str) -> Program:
        whole = PRELUDE + "\n".join(map(textwrap.dedent, (head, *program)))
        return self.run(group, sys.executable, "-c", whole, **more)

    def run(self, group: str, *command: str, **more: str) -> Program:
        """A program that isn't written in Python."""
        started = Program([*command], self.environment(group, **more))
        self.programs.append(started)
        return started

    # what the broker has decided

    def record(self) -> list[dict[str, Any]]:
        """All of it so far; a line that is being written comes with the next look."""
        path = self.directory.with_suffix(".record")
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._read)
                whole, end, _ = file.read().rpartition(b"\n")
            self._read += len(whole + end)
            self._known += map(json.loads, whole.splitlines())
        return self._known

    def seen(self, kind: str, group: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        return [
            each for each in self.record()
            if each["kind"] == kind and each["at"] >= since and group in (None, each["group"])
        ]  # fmt: skip

    @property
    def pages(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "pages").iterdir())

    def end(self) -> None:
        for program in self.programs:
            program.signal(signal.SIGCONT)
            program.kill()
        if self.broker is not None:
            self.broker.send_signal(signal.SIGCONT)
            self.kill_broker()


def turns(record: list[dict[str, Any]]) -> Iterator[tuple[str, int, int]]:
    """Of each turn: whose, from when, until when; those that hadn't ended are not among them."""
    held: dict[str, dict[int, int]] = {}  # by group: the clients that may submit, each with its process
    since: dict[str, int] = {}
    for each in record:
        group, client = each["group"], each["client"]
        gone = [client]
        if each["kind"] == "Grant":
            held.setdefault(group, {})[client] = each["pid"]
            since.setdefault(group, each["at"])
            continue
        if each["kind"] == "Joined" and each["reconnects"]:  # it goes on with what it had
            for old in [old for old, pid in held.get(group, {}).items() if pid == each["pid"]]:
                held[group][client] = held[group].pop(old)
            continue
        if each["kind"] == "Began":  # whom the next broker doesn't find has ended while there was none
            gone = [
                client for clients in held.values() for client in clients if client not in each["clients"]
            ]
        elif each["kind"] == "Joined":  # another program in the same process
            gone = [client for client, pid in held.get(group, {}).items() if pid == each["pid"]]
        elif each["kind"] not in ("Ended", "Fence", "Died"):
            continue
        for name, clients in held.items():
            if not clients.keys().isdisjoint(gone):
                for one in gone:
                    clients.pop(one, None)
                if not clients:
                    yield name, since.pop(name), each["at"]


def check_turns(rig: Rig) -> None:
    """Nothing was granted twice: on each device one turn had ended when the next one of another group began."""
    for device in rig.uuids:
        names = {name for name, group in rig.groups.items() if device in group.devices}
        ours = sorted((start, end, name) for name, start, end in turns(rig.record()) if name in names)
        for (_, end, first), (start, _, second) in itertools.pairwise(ours):
            assert first == second or end <= start, (device, first, end, second, start)
