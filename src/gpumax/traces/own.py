"""gpumax's own journal: what was submitted and how long it ran, as one snapshot after the other saw it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from gpumax.errors import BadFile
from gpumax.loop.entries import Entries
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Request, Workload
from gpumax.traces.collect import NEVER_RAN, STILL_RUNNING, Collector
from gpumax.traces.source import opened
from gpumax.units import MILLI

_HELD: Final = frozenset(("running", "releasing"))
_TO_RUN: Final = frozenset(("pending", "gated", "bound"))
_ENTRY: Final = "an entry of a journal"


class _Seen:
    """A workload over time. ran_ms: for how long any of its tasks ran; since_ms: since when they do, None: they don't.

    rests_ms: when they last stopped; saved_ms: when they last saved, as far as the journal knows.
    """

    def __init__(self, line: int, workload: Workload) -> None:
        self.line = line
        self.workload = workload
        self.ran_ms = 0
        self.began = False
        self.since_ms: int | None = None
        self.rests_ms = 0
        self.saved_ms: int | None = None

    def begins(self, workload: Workload, now_ms: int) -> None:
        """Its tasks run. The snapshot may be a later one than that of their start, and knows of it."""
        started_ms = now_ms if workload.started_ms is None else workload.started_ms
        self.since_ms = min(now_ms, max(started_ms, self.rests_ms))

    def rests(self, now_ms: int, *, thrown_back: bool = False) -> None:
        """None of its tasks runs any more. thrown_back: it is to run again, from where it last saved."""
        if self.since_ms is not None:
            until_ms = self.saved_ms if thrown_back and self.saved_ms is not None else now_ms
            self.ran_ms += max(0, until_ms - self.since_ms)
            self.since_ms, self.rests_ms = None, now_ms


def read_journal(paths: Iterable[Path], collector: Collector, *, timed: bool) -> None:
    """Give every workload that the journal saw to the collector. Workloads of one name are told apart by their moments."""
    seen: dict[tuple[str, int], _Seen] = {}
    now = 0
    for line, snapshot in _snapshots(paths, collector):
        now = max(now, snapshot.now_ms)
        _look(seen, line, snapshot)
    names: set[str] = set()
    for (name, _), one in sorted(seen.items(), key=lambda pair: (pair[0][1], pair[0][0])):
        if one.since_ms is not None:
            one.rests(now)
            collector.note(STILL_RUNNING)
        if timed and not one.began:
            collector.passed(NEVER_RAN)
            continue
        shown, number = name, 2
        while shown in names:
            shown, number = f"{name}-{number}", number + 1
        names.add(shown)
        collector.take(one.line, _row(shown, one))


def _snapshots(paths: Iterable[Path], collector: Collector) -> Iterable[tuple[int, Snapshot]]:
    """Each entry of each file; lines count on from file to file."""
    before = 0
    for path in paths:
        line = 0
        entries = Entries()
        with opened(path) as source:
            for line, written in enumerate(source.lines(), 1):
                try:
                    entry = entries.read(written.encode("utf-8", "surrogateescape"))
                    snapshot = entries.snapshot(entry)
                except (msgspec.MsgspecError, BadFile, UnicodeError) as error:
                    why = str(error).partition("\n")[0]
                    found = f"no entry ({why})" if written.endswith("\n") else "a line that breaks off"
                    collector.bad_row(before + line, "", found, _ENTRY)
                    continue
                yield before + line, snapshot
        before += line


def _look(seen: dict[tuple[str, int], _Seen], line: int, snapshot: Snapshot) -> None:
    """Note who came, who runs, and who does so no longer."""
    again, running = set(), set()
    for workload in snapshot.workloads:
        key = (workload.name, workload.submitted_ms)
        one = seen.setdefault(key, _Seen(line, workload))
        if len(workload.tasks) >= len(one.workload.tasks):
            one.workload = workload
        if any(task.state in _TO_RUN for task in workload.tasks):
            again.add(key)
        if workload.checkpointed_ms is not None:
            one.saved_ms = workload.checkpointed_ms
        if any(task.state in _HELD for task in workload.tasks):
            running.add(key)
            one.began = True
            if one.since_ms is None:
                one.begins(workload, snapshot.now_ms)
    for key, one in seen.items():
        if key not in running:
            one.rests(snapshot.now_ms, thrown_back=key in again)


def _row(name: str, one: _Seen) -> dict[str, str]:
    workload = one.workload
    requests = [task.request for task in workload.tasks]
    asks = [ask for request in requests for ask in request.gpu[:1]]
    alike = {(ask.milli, ask.memory_mib) for ask in asks}
    row = {
        "name": name,
        "queue": workload.queue,
        "submitted": f"{workload.submitted_ms // 1000}.{workload.submitted_ms % 1000:03}",
        "duration": f"{one.ran_ms}ms",
        "priority": str(workload.priority),
        "cpu_milli": str(sum(request.cpu_milli for request in requests)),
        "memory_mib": str(sum(request.memory_mib for request in requests)),
        "models": "|".join(_models(requests)),
    }
    row["devices"] = str(sum(ask.devices for ask in asks))
    row["devices_per_task"] = str(max((ask.devices for ask in asks), default=0))
    if len(alike) == 1:
        milli, memory = alike.pop()
        row["gpu_memory_mib" if memory else "gpu_milli"] = str(memory or milli)
    elif asks:
        row["devices"] = str(-(-sum(ask.devices * (ask.milli or MILLI) for ask in asks) // MILLI))
    if workload.max_duration_ms:
        row["max_duration"] = f"{workload.max_duration_ms}ms"
    return row


def _models(requests: list[Request]) -> Iterable[str]:
    """What the first task may run on, in its order."""
    asks = requests[0].gpu if requests else ()
    return [ask.model for ask in asks if ask.model]
