"""A table of arrivals: columns as the reader names them, as we do, or as other tools often do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import quote
from gpumax.formats.scenario_shapes import ARRIVAL_COLUMNS
from gpumax.traces.collect import Collector
from gpumax.traces.source import Source
from gpumax.traces.table import header, picked, unknown

_OFTEN: Final[dict[str, tuple[str, ...]]] = {
    "name": ("job_id", "jobid"),
    "submitted": ("submit_time", "submitted_time", "submit", "timestamp", "arrival_time"),
    "started": ("start_time", "start"),
    "ended": ("end_time", "end"),
    "duration": ("duration_s", "runtime", "run_time", "elapsed"),
    "gpu": ("num_gpus", "num_gpu", "gpu_num", "gpus"),
    "cpu": ("num_cpus", "cpu_num", "cpus"),
    "queue": ("vc", "cluster", "tenant", "project", "account", "team"),
    "user": ("user_id", "username"),
}
"""Our columns, and what else they are called where a file doesn't say it: the first that is there."""
_DEVICES: Final = ("gpu", "devices", "gpu_milli", "gpu_memory_mib")
_SETTLES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(_DEVICES, _DEVICES),
    **dict.fromkeys(("cpu", "cpu_milli"), ("cpu", "cpu_milli")),
    **dict.fromkeys(("memory", "memory_mib"), ("memory", "memory_mib")),
    "duration": ("started", "ended"),
    "ended": ("duration",),
}
"""Who names one of our columns has said how the file tells it: these are not guessed then."""


def read_columns(source: Source, columns: Mapping[str, str], collector: Collector, *, timed: bool) -> None:
    """Give every row of a table to the collector. columns: ours to theirs; of others, what the first line tells. Empty: there is none."""
    found = mapped(columns, header(source))
    collector.unnamed = "name" not in found
    _check(source, found, named=bool(columns), timed=timed, tenants=collector.wish.queues is not None)
    for line, row in picked(source, found, collector.bad_row):
        collector.take(line, row, found)


def guessed(names: list[str]) -> dict[str, str]:
    """Our columns by what a first line calls them."""
    lower = {name.lower(): name for name in reversed(names)}
    found = {}
    for ours in ARRIVAL_COLUMNS:
        for theirs in (ours, *_OFTEN.get(ours, ())):
            if theirs in lower:
                found[ours] = lower[theirs]
                break
    return found


def mapped(columns: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """Ours to theirs: those that somebody named, and of the rest those that the first line tells."""
    settled = {other for ours in columns for other in _SETTLES.get(ours, ())}
    taken = {theirs.strip() for theirs in columns.values()}
    rest = {
        ours: theirs
        for ours, theirs in guessed(names).items()
        if ours not in columns and ours not in settled and theirs not in taken
    }
    found = {ours: theirs for ours, theirs in columns.items() if theirs.strip()}
    return {**found, **rest}


def _check(source: Source, columns: Mapping[str, str], *, named: bool, timed: bool, tenants: bool) -> None:
    """BadFile where what every row must tell has no column, or one that isn't there."""
    faults, missing = unknown(source, columns), []
    if timed and "submitted" not in columns:
        missing.append("submitted")
    if timed and not columns.keys() & {"duration", "ended"}:
        missing.append("duration or ended")
    if not columns.keys() & set(_DEVICES):
        missing.append("gpu, devices or gpu_milli")
    if tenants and "queue" not in columns:
        missing.append("queue")
    if missing:
        there = f"one; the file has {', '.join(quote(name) for name in header(source)[:20])}"
        where = " in `columns`" if named else ""
        faults += [Fault("", 1, f"no column for {column}{where}", there) for column in missing]
    if faults:
        raise BadFile(faults, source.name)
