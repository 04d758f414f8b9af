"""A gpumax of its own for a test: real server, real engine, real command line, in a directory that is gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.02

Item = dict[str, Any]


def eventually(true: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is true; AssertionError, with what it was, where it does not become so."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(LOOK_S)


class Machine:
    """One data directory, and the server on it that comes and goes."""

    def __init__(self, data: Path, devices: str = "8xH100:80Gi") -> None:
        self.data = data
        self.devices = devices
        self.options: tuple[str, ...] = ()
        self.server: subprocess.Popen[bytes] | None = None

    def up(self, *, wait: bool = True, **environment: str) -> None:
        """Start the server."""
        with (self.data.parent / "server.out").open("ab") as out:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--devices", self.devices, "--name", "n1", *self.options],
                env=self._environment(environment),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        if wait:
            eventually(self.answers, f"the server answers; it said: {self.said()[-2000:]}")

    def answers(self) -> bool:
        """Whether this server answers."""
        assert self.server is not None
        told = self.cli("status", "-o", "json")
        return told.returncode == 0 and json.loads(told.stdout)["pid"] == self.server.pid

    def kill(self) -> None:
        """kill -9 of the server, and of the server alone."""
        self._end(signal.SIGKILL)

    def down(self) -> None:
        """Stop the server as `gpumax down` does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.server is not None:
            self.server.send_signal(number)
            self.server.wait(PATIENCE_S)
            self.server = None

    def said(self) -> str:
        """What the servers printed."""
        return (self.data.parent / "server.out").read_text(errors="replace")

    def cli(
        self, *words: str, text: str | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command line."""
        return subprocess.run(
            [sys.executable, "-m", "gpumax.apps.cli.main", *words],
            input=text, capture_output=True, text=True, cwd=cwd, env=self._environment({}), check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def must(self, *words: str, text: str | None = None) -> str:
        """Run one command line that has to succeed; what it printed."""
        done = self.cli(*words, text=text)
        assert done.returncode == 0, (
            f"gpumax {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def items(self) -> dict[str, Item]:
        """All workloads by name."""
        return {item["name"]: item for item in json.loads(self.must("ps", "-a", "-o", "json"))["items"]}

    def show(self, name: str) -> Item:
        """One workload."""
        item: Item = json.loads(self.must("show", name, "-o", "json"))
        return item

    def events(self, name: str) -> list[Item]:
        """What happened to a workload, oldest first."""
        items: list[Item] = json.loads(self.must("events", name, "--limit", "1000", "-o", "json"))["items"]
        return items

    def in_state(self, name: str, *states: str) -> bool:
        """Whether a workload is in one of the states."""
        return self.show(name)["state"] in states

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        """Submit a file."""
        return self.cli("apply", "-f", "-", text=text, cwd=self.data.parent)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        keep = {name: value for name, value in os.environ.items() if not name.startswith("GPUMAX")}
        return {**keep, "GPUMAX_DATA": str(self.data), "NO_COLOR": "1", **more}


@contextmanager
def machine(devices: str = "8xH100:80Gi", *, start: bool = True) -> Iterator[Machine]:
    """A machine for one test. At its end nothing of it runs any more."""
    folder = Path(tempfile.mkdtemp(prefix="gpumax-test-"))
    made = Machine(folder / "data", devices)
    try:
        if start:
            made.up()
        yield made
    finally:
        if made.server is not None:
            made.cli("down", "--tasks")
        made.kill()
        _sweep(folder)
        shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """Processes whose environment speaks of the folder."""
    mark = str(folder).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _sweep(folder: Path) -> None:
    for pid in processes_of(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
