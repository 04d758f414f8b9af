"""Files of workloads that are gone: logs and checkpoints in the data directory, never a path of the user's own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Thread
from typing import Final

from gpumax.ports.store import Store

KEPT: Final = ("logs", "checkpoints")
"""Directories of the data directory that hold one directory a workload, by its id."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AT_ONCE: Final = 500


class Sweep:
    """Removes files beside the loop: a checkpoint may be large, and nobody waits for its end."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._threads: list[Thread] = []

    def forget(self, workload_ids: Collection[str]) -> None:
        """Remove the files of workloads that were just deleted."""
        paths = [
            self._data / kept / name for kept in KEPT for name in sorted(workload_ids) if _ID.fullmatch(name)
        ]
        self._remove([path for path in paths if path.is_dir() and not path.is_symlink()])

    def strays(self, store: Store) -> None:
        """Remove the files of workloads that the store doesn't know: a server that was killed may have left them."""
        # Directories first, then the store: a workload is on record before its first file is made.
        found = list(self._directories())
        names = sorted({path.name for path in found})
        known: set[str] = set()
        for start in range(0, len(names), _AT_ONCE):
            known.update(task.workload_id for task in store.tasks_of(names[start : start + _AT_ONCE]))
        self._remove([path for path in found if path.name not in known])

    def wait(self, timeout_s: float) -> None:
        """Until what was begun has ended."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _directories(self) -> Iterator[Path]:
        for kept in KEPT:
            place = self._data / kept
            if place.is_dir() and not place.is_symlink():
                for path in sorted(place.iterdir()):
                    if _ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                        yield path

    def _remove(self, paths: list[Path]) -> None:
        if not paths:
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = Thread(target=_remove_all, args=(paths,), name="gpumax-sweep", daemon=True)
        self._threads.append(thread)
        thread.start()


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        # Links inside are removed, not followed. What can't be removed is tried again at the next start.
        shutil.rmtree(path, ignore_errors=True)
