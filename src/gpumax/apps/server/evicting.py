"""Workloads of which a process uses a GPU without having said so are taken off their GPUs, where `gpumax up --evict-unfenced` says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gpumax.broker.control import Seen
from gpumax.broker.status import Unfenced
from gpumax.engines.local.tree import MARK
from gpumax.errors import GpumaxError
from gpumax.model.records import Changes, Event
from gpumax.ports.clock import Clock
from gpumax.ports.store import Store

_SUPERVISOR: Final = b"gpumax.engines.local.supervisor"
_MIB: Final = 1 << 20
_log: Final = logging.getLogger("gpumax")


class Evictor:
    """wake: has the loop look. A workload is suspended, since it would do the same again; a person may resume it."""

    def __init__(self, store: Store, clock: Clock, wake: Callable[[], object]) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake

    def look(self, seen: Seen) -> None:
        """At what the broker says now."""
        beyond = [(device.uuid, each) for device in seen.devices for each in device.unfenced if not each.away]
        if not beyond:
            return
        attempts = {
            task.attempt: record
            for record, tasks in self._store.live().workloads
            for task in tasks
            if task.attempt and record.wish == "run"
        }
        for uuid, each in beyond:
            record = attempts.get(attempt_of(each.pid))
            if record is not None:
                self._evict(record.name, uuid, each)

    def _evict(self, workload: str, uuid: str, each: Unfenced) -> None:
        now_ms = self._clock.now_ms()
        text = (
            f"evicted (unfenced): its process {each.pid} uses {each.bytes // _MIB} MiB of {uuid}, and {each.why}; "
            f"it's suspended until `gpumax resume {workload}`"
        )
        _log.warning("%s: %s", workload, text)
        try:
            self._store.wish(workload, "suspend", now_ms=now_ms)
            self._store.commit(Changes(events=(Event(now_ms, "Evicted", text, workload),)))
        except GpumaxError as error:
            _log.warning("%s: %s", workload, error)
        self._wake()


def owner_of(store: Store, pid: int) -> str:
    """The workload of which a process is, by its name; empty: of none, or of one that has ended."""
    attempt = attempt_of(pid)
    if not attempt:
        return ""
    tasks = ((record.name, task.attempt) for record, tasks in store.live().workloads for task in tasks)
    return next((name for name, its in tasks if its == attempt), "")


def attempt_of(pid: int) -> str:
    """Whose task a process is of, by those above it: a supervisor, or whoever carries the mark; empty where it's of none."""
    seen = set()
    while pid > 1 and pid not in seen:
        seen.add(pid)
        mark = f"{MARK}=".encode()
        for entry in _read(pid, "environ").split(b"\0"):
            if entry.startswith(mark):
                return entry.removeprefix(mark).decode(errors="replace")
        words = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
        if any(_SUPERVISOR in word for word in words):
            return Path(words[-1].decode(errors="replace")).name
        pid = _parent(pid)
    return ""


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0
