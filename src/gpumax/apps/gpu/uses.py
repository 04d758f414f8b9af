"""Which attempts use which group, as files, so that a later server knows when a group is nobody's any more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


class Uses:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note(self, attempt: str, group: str, workload: str) -> None:
        """Before the group is asked for. workload: its name, for people."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._directory / f".{attempt}.new"
        fresh.write_text(f"{group}\n{workload}")
        fresh.replace(self._directory / attempt)

    def drop(self, attempt: str) -> bool:
        """Whether it had been noted."""
        try:
            (self._directory / attempt).unlink()
        except OSError:
            return False
        return True

    def keep(self, attempts: Collection[str]) -> None:
        """Drop all others."""
        for path in self._all():
            if path.name not in attempts:
                path.unlink(missing_ok=True)

    def groups(self) -> dict[str, str]:
        """Those that somebody uses, with the name of the workload."""
        found = {}
        for path in self._all():
            try:
                group, _, workload = path.read_text().partition("\n")
            except OSError:
                continue  # it ended right now
            found[group] = workload
        return found

    def _all(self) -> list[Path]:
        return [each for each in self._directory.glob("*") if not each.name.startswith(".")]
