"""A full disk: starts are refused in words, and the end of what runs still gets on record."""

from __future__ import annotations

from pathlib import Path

from engine_kit import Machine, eventually, machine_on
from stores.small_disk import small_disk


def fill(disk: Path) -> None:
    """Write until nothing more can be written."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return


def test_full_disk(tmp_path: Path) -> None:
    """What runs when the disk fills up ends with its exit code; new starts are refused until there is room again."""
    with small_disk(tmp_path / "disk", 512) as disk, machine_on(disk) as machine:
        machine.start("a1", f"mkfifo {tmp_path}/go; read code < {tmp_path}/go; exit $code", workdir="/")
        machine.until("a1", "running")
        machine.start("a2", "trap '' TERM; sleep 1000", workdir="/")
        machine.until("a2", "running")
        fill(disk)
        (refusal,) = machine.start("a3", "true")
        assert "No space left on device" in refusal.why
        finish(machine, tmp_path / "go", 6)
        assert machine.until("a1", "exited").exit_code == 6
        machine.stop("a2", grace_ms=1)
        assert machine.until("a2", "exited").exit_code == 137
        (disk / "filler").unlink()
        assert machine.start("a3", "true") == ()
        assert machine.until("a3", "exited").exit_code == 0


def finish(machine: Machine, fifo: Path, code: int) -> None:
    """Have a task that waits at a FIFO end."""
    eventually(fifo.exists, "the task to wait")
    fifo.write_text(f"{code}\n")
