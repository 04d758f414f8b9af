"""Programs that a test starts: each has a log of its own, and none outlives the test, however that ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from gpumax.engines.local import kernel

HOST: Final = "127.0.0.1"
PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.02
_GRACE_S: Final = 60.0
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_reserved: Final[list[socket.socket]] = []


class Program:
    """One program that runs beside a test. The kernel kills it when the process that started it ends, by kill -9, too."""

    def __init__(self, argv: list[str], log: Path, *, env: dict[str, str] | None = None) -> None:
        self.argv = argv
        self.name = Path(argv[0]).name
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._running is not None, f"{self.name} was not started"
        return self._running.pid

    def start(self) -> None:
        """Start it, once more if it ended."""
        assert self._running is None, f"{self.name} runs already"
        # The kernel takes the thread that started it for its parent, and threads end before the tests do.
        assert threading.current_thread() is threading.main_thread(), (
            "programs are started by the main thread"
        )
        parent = os.getpid()
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                self.argv, env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                preexec_fn=lambda: _end_with(parent),
            )  # fmt: skip

    def ended(self) -> bool:
        """Whether it isn't running."""
        return self._running is None or self._running.poll() is not None

    def stop(self) -> None:
        """End it as a person would; what doesn't end soon is killed."""
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(signal.SIGCONT)
            self._running.terminate()
            try:
                self._running.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._running.kill()
        self._reap()

    def kill(self) -> None:
        """kill -9."""
        if self._running is not None:
            self._running.kill()
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP makes it hang, SIGCONT has it go on."""
        os.kill(self.pid, number)

    def said(self, most: int = 1 << 24) -> str:
        """What it wrote; the end of it where that is more."""
        return self.log.read_text(errors="replace")[-most:] if self.log.exists() else ""

    def _reap(self) -> None:
        if self._running is not None:
            self._running.wait()
            self._running = None


def eventually(
    true: Callable[[], bool], what: str, *programs: Program, patience_s: float = PATIENCE_S
) -> None:
    """Wait until something is true. Fails at once, with its last words, where one of the programs has ended."""
    deadline = time.monotonic() + patience_s
    while not true():
        for program in programs:
            assert not program.ended(), f"{program.name} ended before {what}:\n{program.said(3000)}"
        last = "\n".join(f"{program.name}: {program.said(1500)}" for program in programs)
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}\n{last}"
        time.sleep(_LOOK_S)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different, and nobody else's of those who ask here until this process ends.

    The kernel gives none of them to a connection: a server that is started later, or once more, finds its port free.
    """
    first, last = map(int, _RANGE.read_text().split())
    ports = [*range(_LOWEST, first), *range(last + 1, 1 << 16)]
    random.SystemRandom().shuffle(ports)
    found = list(islice(filter(_ours, ports), count))
    assert len(found) == count, f"{len(found)} of {count} ports outside {first} to {last} are free"
    return found


def _ours(port: int) -> bool:
    """Reserve a port; whether that could be done. The reservation is a name that the kernel forgets with this process."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0gpumax-tests-port-{port}")
        with socket.socket() as tried:
            tried.bind((HOST, port))
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


def _end_with(parent: int) -> None:
    kernel.die_with_parent()
    if os.getppid() != parent:  # it ended before we could ask to be told
        os._exit(1)
