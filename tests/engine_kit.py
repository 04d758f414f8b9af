"""A local engine on a directory of its own, and looks at the processes of this machine by other means than the engine's."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpumax.devices import open_devices
from gpumax.engines.local.engine import LocalEngine
from gpumax.model.workload import DeviceShare
from gpumax.ports.engine import AttemptSeen, Forget, Launch, Refusal, Start, Stop

PATIENCE_S = 60.0
"""How long something may take before a test fails; nothing takes that long when it works."""

OVER = ("exited", "lost")


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.005)


class Machine:
    """One machine: its data directory, and the engine that a server has on it now.

    Ids of attempts are unique for all time, and processes are found by them; so they are made from the directory, and
    tests that run side by side don't end each other's tasks.
    """

    def __init__(self, data: Path, *, literal: bool = False, **options: Any) -> None:
        """literal: names of attempts are ids. options: of the engine."""
        self.data = data
        self._prefix = "" if literal else f"{hashlib.sha256(bytes(data)).hexdigest()[:8]}-"
        self._options = options
        self._woken = threading.Event()
        self.engine = self._open()

    def again(self) -> None:
        """Another server comes: a new engine on the same directory."""
        self.engine.close()
        self.engine = self._open()

    def id(self, attempt: str) -> str:
        """The id of an attempt that tests call by a short name."""
        return f"{self._prefix}{attempt}"

    def directory(self, attempt: str) -> Path:
        """Where the engine keeps what it knows of it."""
        return self.data / "attempts" / self.id(attempt)

    def launch(self, attempt: str, *argv: str, **changes: Any) -> Launch:
        """How to start a command; one word alone is a shell line."""
        fields: dict[str, Any] = {
            "attempt": self.id(attempt),
            "task": f"task-{attempt}",
            "workload": "w",
            "node": "n1",
            "devices": (DeviceShare(0, 1000),),
            "argv": argv if len(argv) != 1 else ("/bin/sh", "-c", argv[0]),
            "workdir": str(self.data),
            "log": str(self.data / "logs" / "w" / f"{attempt}.log"),
        }
        return Launch(**{**fields, **changes})

    def start(self, attempt: str, *argv: str, **changes: Any) -> tuple[Refusal, ...]:
        """Start a command."""
        return self.engine.apply([Start(self.launch(attempt, *argv, **changes))])

    def stop(self, attempt: str, grace_ms: int = 60_000) -> None:
        """Order an attempt to end."""
        assert self.engine.apply([Stop(self.id(attempt), grace_ms)]) == ()

    def seen(self, attempt: str) -> AttemptSeen | None:
        """What the engine says of an attempt."""
        name = self.id(attempt)
        return next((seen for seen in self.engine.observe().attempts if seen.attempt == name), None)

    def until(self, attempt: str, *states: str) -> AttemptSeen:
        """Wait for an attempt to be in one of these states. It looks only when the engine wakes it, as a loop does."""
        end = time.monotonic() + PATIENCE_S
        while True:
            seen = self.seen(attempt)
            if seen is not None and seen.state in states:
                return seen
            assert seen is None or seen.state not in OVER, f"{attempt} is {seen}"
            woken = self._woken.wait(end - time.monotonic())
            assert woken, f"{attempt} never became {' or '.join(states)}; it is {seen}"
            self._woken.clear()

    def log(self, attempt: str) -> str:
        """What the attempt's log says."""
        return (self.data / "logs" / "w" / f"{attempt}.log").read_text()

    def file(self, name: str) -> str:
        """The content of a file that a task writes, as soon as it has a line in it."""
        path = self.data / name
        eventually(lambda: path.exists() and path.read_text().endswith("\n"), f"a line in {name}")
        return path.read_text()

    def pid(self, name: str) -> int:
        """The process id that a task writes into a file."""
        return int(self.file(name))

    def supervisor(self, attempt: str) -> int:
        """The process id of the attempt's supervisor."""
        directory = bytes(self.directory(attempt))
        found = [pid for pid in pids() if directory in cmdline(pid).split(b"\0")]
        assert len(found) == 1, found
        return found[0]

    def kill_supervisor(self, attempt: str) -> None:
        """kill -9 of the attempt's supervisor."""
        os.kill(self.supervisor(attempt), signal.SIGKILL)

    def clear(self) -> None:
        """End everything, and see that nothing is left of it."""
        running = [seen.attempt for seen in self.engine.observe().attempts if seen.state not in OVER]
        self.engine.apply([Stop(attempt, 0) for attempt in running])
        for attempt in running:
            self.until(attempt.removeprefix(self._prefix), *OVER)
        self.engine.apply([Forget(seen.attempt) for seen in self.engine.observe().attempts])
        assert self.engine.observe().attempts == ()
        here = str(self.data / "attempts").encode()
        eventually(lambda: not any(here in cmdline(pid) for pid in pids()), "the end of every supervisor")
        self.engine.close()

    def _open(self) -> LocalEngine:
        return LocalEngine(self.data, "n1", open_devices("8xH100:80Gi"), self._woken.set, **self._options)


@contextmanager
def machine_on(data: Path, **options: Any) -> Iterator[Machine]:
    """A machine that is left clean."""
    machine = Machine(data, **options)
    try:
        yield machine
    finally:
        machine.clear()


def pids() -> list[int]:
    """All processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def cmdline(pid: int) -> bytes:
    """The command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Whether a process is there and hasn't ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
