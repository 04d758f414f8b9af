"""The server may be killed at any moment: the next one sees the same attempts, and none runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gpumax
from engine_kit import Machine, alive, eventually, machine_on
from gpumax.engines.local.spawn import spawn

VICTIM = Path(__file__).parent / "victim.py"
ONCE = "echo begun >> $GPUMAX_ATTEMPT.runs; "


class Victim:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def order(self, line: str) -> bool:
        """Give an order and wait until it is carried out. False where it died of it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return self.heard() == "done"

    def heard(self) -> str:
        """Its next word."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """kill -9, and see it dead."""
        self.process.kill()
        self.process.wait()


@contextmanager
def victim(data: Path, *arguments: str) -> Iterator[Victim]:
    """A server that is killed at the end, if it hasn't been before."""
    path = os.pathsep.join([str(VICTIM.parents[1]), str(Path(gpumax.__file__).parents[1])])
    with subprocess.Popen(
        [sys.executable, str(VICTIM), str(data), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        server = Victim(process)
        try:
            assert server.heard() == "ready"
            yield server
        finally:
            process.kill()


def runs(data: Path, attempt: str) -> int:
    """How often the task of an attempt has begun."""
    return sum(len(path.read_text().splitlines()) for path in data.glob(f"*-{attempt}.runs"))


def test_adopted(tmp_path: Path) -> None:
    """The next server goes on with what runs: it sees its end, and can stop it."""
    with victim(tmp_path) as server:
        assert server.order(f"start a1 {ONCE} mkfifo go; read code < go; exit $code")
        assert server.order(f"start a2 {ONCE} trap 'exit 9' TERM; echo up > up; while :; do sleep 0.01; done")
        server.kill()
    with machine_on(tmp_path) as machine:
        first = machine.until("a1", "running")
        eventually(lambda: (tmp_path / "go").exists(), "the first task to wait")
        (tmp_path / "go").write_text("4\n")
        seen = machine.until("a1", "exited")
        assert (seen.exit_code, seen.started_ms) == (4, first.started_ms)
        machine.file("up")
        machine.stop("a2")
        assert machine.until("a2", "exited").exit_code == 9
        assert (runs(tmp_path, "a1"), runs(tmp_path, "a2")) == (1, 1)


def test_ended_meanwhile(tmp_path: Path) -> None:
    """What ended while no server was there has its exit code all the same, and isn't started again."""
    with victim(tmp_path) as server:
        assert server.order(f"start a1 {ONCE} while [ ! -e go ]; do sleep 0.01; done; exit 5")
        server.kill()
    (tmp_path / "go").touch()
    eventually(lambda: any((tmp_path / "attempts").glob("*/exited")), "the end on record")
    with machine_on(tmp_path) as machine:
        assert machine.start("a1", ONCE) == ()
        assert machine.until("a1", "exited").exit_code == 5
        assert runs(tmp_path, "a1") == 1


def test_supervisor_died_meanwhile(tmp_path: Path) -> None:
    """Where the supervisor died, too, the next server ends what is left, then reports the attempt as lost; and so does the one after."""
    with machine_on(tmp_path) as machine:
        with victim(tmp_path) as server:
            line = "setsid -f sh -c 'echo $$ > away; exec sleep 1000' </dev/null >/dev/null 2>&1; sleep 1000"
            assert server.order(f"start a1 {ONCE} {line}")
            away = machine.pid("away")
            server.kill()
        machine.kill_supervisor("a1")
        machine.again()
        assert machine.until("a1", "lost").message == "its supervisor died"
        assert not alive(away)
        machine.again()
        assert machine.start("a1", ONCE) == ()
        assert machine.until("a1", "lost").message == "its supervisor died"
        assert runs(tmp_path, "a1") == 1


def test_task_dies_with_its_supervisor(tmp_path: Path) -> None:
    """A task doesn't go on unwatched: with its supervisor dead it ends at once, also while no server is there."""
    with machine_on(tmp_path) as machine:
        with victim(tmp_path) as server:
            assert server.order("start a1 echo $$ > pid; exec sleep 1000")
            pid = machine.pid("pid")
            server.kill()
        supervisor = machine.supervisor("a1")
        machine.engine.close()
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not alive(pid), "the end of the task")
        machine.again()
        assert machine.until("a1", "lost").exit_code is None


def test_stopping_meanwhile(tmp_path: Path) -> None:
    """A stop is carried out to the end, with or without a server."""
    with victim(tmp_path) as server:
        assert server.order(
            f"start a1 {ONCE} trap 'echo told > told' TERM; echo up > up; while [ ! -e go ]; do sleep 0.01; done"
        )
        eventually((tmp_path / "up").exists, "the task")
        assert server.order("stop a1")
        server.kill()
    with machine_on(tmp_path) as machine:
        assert machine.until("a1", "stopping").exit_code is None
        assert machine.file("told") == "told\n"
        (tmp_path / "go").touch()
        assert machine.until("a1", "exited").exit_code == 0


@pytest.mark.parametrize("point", ["before-spawn", "after-spawn"])
def test_killed_within_a_start(tmp_path: Path, point: str) -> None:
    """Killed between the record of a start and the start, or right after it: it has run once, or can still be started."""
    with victim(tmp_path, point) as server:
        assert not server.order(f"start a1 {ONCE}")
    with machine_on(tmp_path) as machine:
        known = machine.seen("a1") is not None
        assert known is (point == "after-spawn")
        assert machine.start("a1", ONCE) == ()
        assert machine.until("a1", "exited").exit_code == 0
        assert runs(tmp_path, "a1") == 1


@pytest.mark.parametrize("round", range(20))
def test_killed_at_any_moment(tmp_path: Path, round: int) -> None:
    """Killed while it starts one after the other: every attempt runs exactly once, whichever server started it."""
    names = [f"a{number:02}" for number in range(12)]
    with victim(tmp_path) as server:
        assert server.process.stdin is not None
        server.process.stdin.write("".join(f"start {name} {ONCE}exit 3\n" for name in names))
        server.process.stdin.flush()
        for _ in range(round % len(names)):
            server.heard()
        server.kill()
    with machine_on(tmp_path) as machine:
        for name in names:
            assert machine.start(name, f"{ONCE}exit 3") == ()
        for name in names:
            assert machine.until(name, "exited").exit_code == 3
        assert {name: runs(tmp_path, name) for name in names} == dict.fromkeys(names, 1)


def test_stopped_before_the_supervisor_looks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order to stop that is there before the supervisor is: the task never begins."""

    def late(directory: Path, launch: bytes, lock: int, up: int) -> int:
        (directory / "stop").write_bytes(b"kill_at=0\0")
        return spawn(directory, launch, lock, up)

    monkeypatch.setattr("gpumax.engines.local.attempt.spawn", late)
    machine.start("a1", ONCE)
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.message) == (143, "stopped before it started")
    assert runs(machine.data, "a1") == 0


def test_half_made_attempts(machine: Machine) -> None:
    """What a killed server left half made or half removed is cleared away."""
    for name in (".a1", ".gone-a2"):
        (machine.data / "attempts" / name).mkdir()
    machine.again()
    assert machine.engine.observe().attempts == ()
    assert list((machine.data / "attempts").iterdir()) == []


def test_damaged_record(machine: Machine) -> None:
    """A record that the machine's end cut short makes an attempt lost, not the server fail."""
    machine.start("a1", "true")
    machine.until("a1", "exited")
    (machine.directory("a1") / "exited").unlink()
    (machine.directory("a1") / "started").write_bytes(b"")
    (machine.directory("a1") / "attempt").write_bytes(b"tas")
    machine.again()
    assert machine.until("a1", "lost").started_ms is None


def test_supervisor_that_cannot_start(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that ends before it begins makes the attempt lost, with its last words."""
    monkeypatch.setattr("gpumax.engines.local.spawn.CODE", "raise SystemExit('no room')")
    machine.start("a1", "true")
    assert machine.until("a1", "lost").message == "its supervisor could not start: no room"


def test_no_python(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no supervisor can be started at all, the start is refused in words and nothing is kept of it."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    (refusal,) = machine.start("a1", "true")
    assert "No such file" in refusal.why
    assert machine.engine.observe().attempts == ()
    assert list((machine.data / "attempts").iterdir()) == []
