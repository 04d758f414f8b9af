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
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> str:
        """It ends well; what it said on stderr."""
        assert self.process.stderr is not None
        code = self.process.wait(WAIT)
        errors = self.process.stderr.read()
        assert code == 0, errors
        return errors

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
    helper: dict[str, str] | None = None
    """At which step one of the next broker's helpers is killed, and what happens then: see `serve.Faulty`."""
    forgetful: bool = False
    """The broker was made to forget who may submit."""
    contexts: int = 4
    """For so many processes there is room beside that memory."""
    programs: list[Program] = field(default_factory=list)
    broker: subprocess.Popen[str] | None = None

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
            "settings": self.settings, "helper": self.helper, "faults": faults, "bytes": self.memory, "groups": {name: group.wish() for name, group in self.groups.items()},
        }  # fmt: skip
        root = HERE.parents[1]
        base = self.machine.environment() if self.driver else os.environ
        self.broker = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py"), str(self.directory), json.dumps(wish)],
            env={**base, "PYTHONPATH": str(root / "src")}, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.broker.stdout is not None
        assert self.broker.stdout.readline() == "up\n"

    def broken(self) -> None:
        """The broker was killed."""
        assert self.broker is not None
        self.broker.wait(WAIT)
        assert self.broker.stdout is not None
        self.broker.stdout.close()
        self.broker = None

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.kill()
        self.broker.wait()
        assert self.broker.stdout is not None
        self.broker.stdout.close()
        self.broker = None

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

    def start(self, group: str, *program: str, **more: str) -> Program:
        head = PRELUDE + "\n".join(map(textwrap.dedent, (LOOP, *program)))
        started = Program([sys.executable, "-c", head], self.environment(group, **more))
        self.programs.append(started)
        return started

    # what the broker has decided

    def record(self) -> list[dict[str, Any]]:
        path = self.directory.with_suffix(".record")
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

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
    held: dict[str, set[int]] = {}
    since: dict[str, int] = {}
    for each in record:
        group, client = each["group"], each["client"]
        if each["kind"] == "Grant":
            held.setdefault(group, set()).add(client)
            since.setdefault(group, each["at"])
        elif each["kind"] in ("Ended", "Fence", "Died"):
            for name, clients in held.items():
                if client in clients:
                    clients.discard(client)
                    if not clients:
                        yield name, since.pop(name), each["at"]


def check_turns(rig: Rig) -> None:
    """Nothing was granted twice: on each device one turn had ended when the next one of another group began."""
    for device in rig.uuids:
        names = {name for name, group in rig.groups.items() if device in group.devices}
        ours = sorted((start, end, name) for name, start, end in turns(rig.record()) if name in names)
        for (_, end, first), (start, _, second) in itertools.pairwise(ours):
            assert first == second or end <= start, (device, first, end, second, start)
