"""The log of a task: all of its output, within bounds, and never at the task's cost."""

from __future__ import annotations

from pathlib import Path

from engine_kit import Machine, machine_on

MOST = 400_000
LINES = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done"


def test_all_output(machine: Machine) -> None:
    """Both streams are in the log in the order in which they were written, to the last byte; attempts follow each other."""
    log = str(machine.data / "logs" / "w" / "0.log")
    machine.start("a1", "echo one; echo two >&2; printf three", log=log)
    machine.until("a1", "exited")
    machine.start("a2", "echo four", log=log)
    machine.until("a2", "exited")
    assert Path(log).read_text() == "one\ntwo\nthreefour\n"


def test_private(machine: Machine) -> None:
    """Log and directories are made for their user only."""
    machine.start("a1", "echo hi")
    machine.until("a1", "exited")
    path = machine.data / "logs" / "w" / "a1.log"
    assert path.stat().st_mode & 0o777 == 0o600
    for directory in (path.parent, path.parent.parent, machine.data / "attempts"):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_readable_while_it_runs(machine: Machine) -> None:
    """Output is in the log while the task goes on."""
    machine.start("a1", "echo early; sleep 1000")
    assert machine.file("logs/w/a1.log") == "early\n"
    assert machine.until("a1", "running").exit_code is None


def test_filled(tmp_path: Path) -> None:
    """A task that fills its log is not held up; the log keeps the beginning and the end, says what is missing, and stays small."""
    with machine_on(tmp_path, log_most=MOST) as machine:
        machine.start("a1", "seq 1 2000000; echo the last words")
        assert machine.until("a1", "exited").exit_code == 0
        text = machine.log("a1")
        assert text.startswith("1\n2\n3\n")
        assert text.endswith("\n2000000\nthe last words\n")
        assert "this log has reached its 390 KiB; of what follows only the end is kept" in text
        assert "MiB left out\n" in text
        assert len(text) < MOST + 70_000


def test_filled_by_an_earlier_attempt(tmp_path: Path) -> None:
    """A full log has room for the next attempt's beginning and end, too."""
    with machine_on(tmp_path, log_most=MOST) as machine:
        log = str(tmp_path / "0.log")
        machine.start("a1", "seq 1 2000000", log=log)
        machine.until("a1", "exited")
        machine.start("a2", "echo here again; seq 1 2000000; echo the last words", log=log)
        machine.until("a2", "exited")
        text = Path(log).read_text()
        assert "\nhere again\n1\n2\n" in text
        assert text.endswith("\nthe last words\n")
        assert len(text) < 3 * MOST


def test_disk_full(machine: Machine) -> None:
    """A disk that takes no more of the log doesn't hurt the task; its end says that the log is incomplete."""
    log = machine.data / "full.log"
    log.symlink_to("/dev/full")
    machine.start("a1", "seq 1 200000 && echo done > done", log=str(log))
    seen = machine.until("a1", "exited")
    assert seen.exit_code == 0
    assert seen.note == "its log is incomplete: No space left on device"
    assert machine.file("done") == "done\n"


def test_no_log(machine: Machine) -> None:
    """Where no log can be opened the task runs all the same, and its end says so."""
    directory = machine.data / "taken.log"
    directory.mkdir()
    machine.start("a1", "seq 1 200000", log=str(directory))
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.note) == (0, "it has no log: Is a directory")
