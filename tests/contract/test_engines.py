"""Every engine takes the same exam, the fake one as well as the real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.engine_exam import EngineExam
from engine_kit import Machine, machine_on
from gpumax.engines.simulated.engine import SimulatedEngine
from gpumax.engines.simulated.world import World
from gpumax.model.node import Device, Node
from gpumax.ports.clock import ManualClock
from gpumax.ports.engine import AttemptSeen, Launch
from gpumax.ports.engine_fake import FakeEngine


class Puppets:
    """The fake engine: what tasks do is said to it."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        nodes = [Node("n1", cpu_milli=8000, memory_mib=1024, devices=(Device(0, "H100", 81920),))]
        self.engine = FakeEngine(nodes, wake=self._woken.set)

    def launch(self, attempt: str) -> Launch:
        """A task."""
        return Launch(attempt, f"task-{attempt}", "w", "n1", (), ("train",), "/", "/log")

    def finish(self, attempt: str, code: int) -> None:
        """Have it end."""
        self._woken.clear()
        self.engine.exit(attempt, code)
        assert self._woken.is_set()

    def lose(self, attempt: str) -> None:
        """Have it lost."""
        self._woken.clear()
        self.engine.lose(attempt)
        assert self._woken.is_set()

    def until(self, attempt: str, *states: str) -> AttemptSeen:
        """All is true at once here."""
        (seen,) = (seen for seen in self.engine.observe().attempts if seen.attempt == attempt)
        assert seen.state in states
        return seen

    def runs(self, attempt: str) -> int:
        """How often it was started."""
        return int(attempt in self.engine.launches)


class Imagined:
    """The engine of studies: its world does what it is told to, at the moment at which it is told."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._begun: list[str] = []
        clock = ManualClock(1_000_000)
        nodes = [Node("n1", cpu_milli=8000, memory_mib=1024, devices=(Device(0, "H100", 81920),))]
        self._world = World(nodes, clock, start_ms=500)
        self.engine = SimulatedEngine(self._world, clock, wake=self._woken.set)

    def launch(self, attempt: str) -> Launch:
        """A task of a workload of its own, which runs until it is told to go."""
        return Launch(attempt, f"task-{attempt}", f"w-{attempt}", "n1", (), ("train",), "/", "/log")

    def finish(self, attempt: str, code: int) -> None:
        """Have it end."""
        self._woken.clear()
        self._world.end(attempt, code)
        assert self._woken.is_set()

    def lose(self, attempt: str) -> None:
        """Have it lost."""
        self._woken.clear()
        self._world.lose(attempt, "its node failed")
        assert self._woken.is_set()

    def until(self, attempt: str, *states: str) -> AttemptSeen:
        """Let time pass until it is so, looking only after a wake."""
        while True:
            (seen,) = (seen for seen in self.engine.observe().attempts if seen.attempt == attempt)
            if seen.state in states:
                return seen
            self._woken.clear()
            while not self._woken.is_set():
                next_ms = self._world.next_ms()
                assert next_ms is not None, f"{attempt} stays {seen.state}"
                self._world.pass_to(next_ms)

    def runs(self, attempt: str) -> int:
        """How often it has begun."""
        return int(self._world.attempts[attempt].started_ms is not None)


class Processes:
    """The local engine: tasks are shells that look at a file."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.engine = machine.engine
        self.until = machine.until

    def launch(self, attempt: str) -> Launch:
        """A task that notes that it has begun, then waits for a code in a FIFO."""
        line = f"echo begun >> {attempt}.runs; [ -p {attempt} ] || mkfifo {attempt}; read code < {attempt}; exit $code"
        return self._machine.launch(attempt, line)

    def finish(self, attempt: str, code: int) -> None:
        """Have it end."""
        self._machine.file(f"{attempt}.runs")
        with (self._machine.data / attempt).open("w") as file:
            file.write(f"{code}\n")

    def lose(self, attempt: str) -> None:
        """kill -9 of its supervisor."""
        self._machine.kill_supervisor(attempt)

    def runs(self, attempt: str) -> int:
        """How often it has begun."""
        path = self._machine.data / f"{attempt}.runs"
        if (
            self._machine.seen(attempt) is not None
            and self._machine.until(attempt, "running", "exited").started_ms
        ):
            return len(self._machine.file(f"{attempt}.runs").splitlines())
        return len(path.read_text().splitlines()) if path.exists() else 0


class TestFakeEngine(EngineExam):
    """The engine in memory."""

    @pytest.fixture
    def subject(self) -> Puppets:
        """A fresh one."""
        return Puppets()


class TestSimulatedEngine(EngineExam):
    """The engine of studies."""

    @pytest.fixture
    def subject(self) -> Imagined:
        """A fresh one."""
        return Imagined()


class TestLocalEngine(EngineExam):
    """The engine of real processes."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Processes]:
        """A fresh one, left clean."""
        with machine_on(tmp_path, literal=True) as machine:
            yield Processes(machine)
