"""How attempts of the local engine end, and that all of their processes end with them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from engine_kit import Machine, alive, eventually, machine_on
from gpumax.engines.local import cgroups

FORKS_AWAY = "setsid -f setsid -f sh -c 'echo $$ > away; exec sleep 1000' </dev/null >/dev/null 2>&1"
"""Twice into a session of its own, with its parents gone and its output closed, as daemons do."""

CLEARS_ITS_ENVIRONMENT = (
    "setsid -f env -i sh -c 'echo $$ > clean; exec /bin/sleep 1000' </dev/null >/dev/null 2>&1"
)

IGNORES = "trap 'echo told >> told' TERM; echo $$ > pid; while :; do sleep 0.01; done"
"""Notes every SIGTERM and goes on."""


def test_daemon_is_stopped(machine: Machine) -> None:
    """A stop ends what forked away into sessions of its own, even with its environment cleared."""
    machine.start("a1", f"{FORKS_AWAY}; {CLEARS_ITS_ENVIRONMENT}; sleep 1000")
    away, clean = machine.pid("away"), machine.pid("clean")
    machine.stop("a1")
    assert machine.until("a1", "exited").exit_code == 143
    assert not alive(away)
    assert not alive(clean)


def test_daemon_ends_with_the_task(machine: Machine) -> None:
    """What is left when the main process ends by itself is ended, and the exit code is still the main process's."""
    machine.start("a1", f"{FORKS_AWAY}; while [ ! -s away ]; do sleep 0.01; done; exit 5")
    assert machine.until("a1", "exited").exit_code == 5
    assert not alive(machine.pid("away"))


def test_leftovers_that_ignore_sigterm(machine: Machine) -> None:
    """What is left and ignores SIGTERM is killed; only then has the attempt ended."""
    machine.start("a1", f"({IGNORES}) & while [ ! -s pid ]; do sleep 0.01; done; exit 0")
    assert machine.until("a1", "exited").exit_code == 0
    eventually(lambda: (machine.data / "told").exists(), "SIGTERM to have been tried first")


def test_sigterm_is_ignored(machine: Machine) -> None:
    """A task that ignores SIGTERM is told once, seen as stopping, and killed when its grace is over."""
    machine.start("a1", IGNORES)
    pid = machine.pid("pid")
    machine.stop("a1", grace_ms=3_600_000)
    assert machine.file("told") == "told\n"
    assert machine.until("a1", "stopping", "exited").state == "stopping"
    machine.stop("a1", grace_ms=7_200_000)  # a longer one changes nothing
    assert machine.until("a1", "stopping", "exited").state == "stopping"
    machine.stop("a1", grace_ms=0)  # a shorter one counts
    assert machine.until("a1", "exited").exit_code == 137
    assert not alive(pid)
    assert machine.file("told") == "told\n"


def test_stopped_processes_are_told(machine: Machine) -> None:
    """A process that was halted by SIGSTOP gets its SIGTERM, too, and ends within the grace."""
    machine.start("a1", "echo $$ > pid; kill -STOP $$")
    pid = machine.pid("pid")
    eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the halt")
    machine.stop("a1", grace_ms=3_600_000)
    assert machine.until("a1", "exited").exit_code == 143


def test_exit_of_its_own_choice_when_told(machine: Machine) -> None:
    """A task that saves its work when told to go ends with the exit code that it chooses."""
    machine.start("a1", "trap 'echo saved > saved; exit 7' TERM; echo up > up; while :; do sleep 0.01; done")
    machine.file("up")
    machine.stop("a1")
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.told) == (7, True)
    assert machine.file("saved") == "saved\n"


def test_stop_after_the_main_process_has_ended(machine: Machine) -> None:
    """A stop that finds only leftovers of a task told its main process nothing: that one had ended by itself."""
    machine.start("a1", f"({IGNORES}) & while [ ! -s pid ]; do sleep 0.01; done; exit 0")
    machine.file("told")  # the main process has ended, and the leftovers are being ended for that
    machine.stop("a1", grace_ms=0)
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.told) == (0, False)


@pytest.mark.parametrize("round", range(20))
def test_exit_during_its_own_stop(machine: Machine, round: int) -> None:
    """A task that ends by itself just when it is stopped ends once, with its own code or that of the signal."""
    os.mkfifo(machine.data / "go")  # before the task, which may read it at once
    machine.start("a1", "echo up > up; read line < go; exit 4")
    machine.file("up")
    with (machine.data / "go").open("r+b", buffering=0) as file:  # for both ways: it never waits for the task
        if round % 2:
            file.write(b"\n")
        machine.stop("a1")
    assert machine.until("a1", "exited").exit_code in (4, 143)


def test_fork_storm(machine: Machine) -> None:
    """Processes that go on forking are all ended."""
    storm = "import os, time\nwhile True:\n  if os.fork() == 0:\n    time.sleep(0.002)\n    if os.fork(): os._exit(0)\n  time.sleep(0.001)\n"
    storm += "  try:\n    os.waitpid(-1, os.WNOHANG)\n  except OSError: pass\n"
    machine.start("a1", f"trap '' TERM; exec python3 -c '{storm}'")
    machine.until("a1", "running")
    machine.stop("a1", grace_ms=10)
    machine.until("a1", "exited")
    assert _marked(machine.id("a1")) == []


def test_supervisor_killed(machine: Machine) -> None:
    """kill -9 of a supervisor is noticed; by the time the attempt is reported as lost, all its processes are gone."""
    machine.start("a1", f"{FORKS_AWAY}; ({IGNORES}) & sleep 1000")
    processes = [machine.pid("away"), machine.pid("pid")]
    machine.kill_supervisor("a1")
    seen = machine.until("a1", "lost")
    assert seen.message == "its supervisor died"
    assert [pid for pid in processes if alive(pid)] == []


def test_supervisor_killed_with_cgroups(machine: Machine) -> None:
    """With a cgroup, also what cleared its environment and went into a session of its own is found."""
    if any("no cgroups" in note for note in machine.engine.notes()):
        pytest.skip("this machine gives us no cgroups")
    machine.start("a1", f"{CLEARS_ITS_ENVIRONMENT}; sleep 1000")
    clean = machine.pid("clean")
    machine.kill_supervisor("a1")
    machine.until("a1", "lost")
    assert not alive(clean)


def test_supervisor_killed_while_stopping(machine: Machine) -> None:
    """A stop whose supervisor dies is lost, and nothing is left running."""
    machine.start("a1", IGNORES)
    pid = machine.pid("pid")
    machine.stop("a1", grace_ms=3_600_000)
    machine.file("told")
    machine.kill_supervisor("a1")
    machine.until("a1", "lost")
    assert not alive(pid)


def test_supervisor_told_to_end(machine: Machine) -> None:
    """A supervisor that is sent SIGTERM, as at shutdown, ends its task in order and keeps the exit code."""
    machine.start("a1", "trap 'exit 6' TERM; echo up > up; while :; do sleep 0.01; done")
    machine.file("up")
    os.kill(machine.supervisor("a1"), signal.SIGTERM)
    assert machine.until("a1", "exited").exit_code == 6


def test_without_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no cgroup may be made it says so and goes on: a stop still ends all that forked away."""

    def forbidden(parent: str, attempt: str) -> str:
        raise PermissionError(13, "Permission denied", f"{parent}/{attempt}")

    monkeypatch.setattr(cgroups, "make", forbidden)
    with machine_on(tmp_path) as machine:
        assert any(note.startswith("no cgroups here (Permission denied)") for note in machine.engine.notes())
        machine.start("a1", f"{FORKS_AWAY}; {CLEARS_ITS_ENVIRONMENT}; ({IGNORES}) & sleep 1000")
        processes = [machine.pid(name) for name in ("away", "clean", "pid")]
        machine.stop("a1", grace_ms=100)
        machine.until("a1", "exited")
        assert [pid for pid in processes if alive(pid)] == []
        (tmp_path / "away").unlink()
        machine.start("a2", f"{FORKS_AWAY}; sleep 1000")
        away = machine.pid("away")
        machine.kill_supervisor("a2")
        machine.until("a2", "lost")
        assert not alive(away)


def test_own_cgroup(machine: Machine) -> None:
    """Where it may be made, a task has a cgroup of its own, which is gone when the attempt has ended."""
    if any("no cgroups" in note for note in machine.engine.notes()):
        pytest.skip("this machine gives us no cgroups")
    machine.start("a1", "grep 0:: /proc/self/cgroup")
    machine.until("a1", "exited")
    name = f"gpumax-{machine.id('a1')}"
    assert machine.log("a1").endswith(f"/{name}\n")
    assert not Path(cgroups.home(), name).exists()


def _marked(attempt: str) -> list[int]:
    """Processes with the attempt's mark, as the kernel shows them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if f"GPUMAX_ATTEMPT={attempt}".encode() in text.split(b"\0"):
            found.append(int(path.parent.name))
    return found
