"""SenseTime's Helios, and Venus of it: `cluster_log.csv`. Its column `queue` is a wait, the tenants are in `vc`."""

from __future__ import annotations

from typing import Final

from gpumax.traces.collect import NEVER_RAN, Collector
from gpumax.traces.source import Source
from gpumax.traces.table import header, picked

_COLUMNS: Final = {
    "name": "job_id",
    "user": "user",
    "queue": "vc",
    "gpu": "gpu_num",
    "cpu": "cpu_num",
    "submitted": "submit_time",
    "started": "start_time",
    "ended": "end_time",
    "duration": "duration",
}
_NONE: Final = ("", "None", "nan", "NaT")


def is_helios(names: list[str]) -> bool:
    """Whether a table's first line is that of a log of jobs."""
    return {"gpu_num", "submit_time", "duration"} <= set(names)


def read_helios(source: Source, collector: Collector, *, timed: bool) -> None:
    """Give every job to the collector; those that never began are passed over."""
    there = set(header(source))
    needed = ("gpu", "submitted", "duration")
    columns = {ours: theirs for ours, theirs in _COLUMNS.items() if theirs in there or ours in needed}
    for line, row in picked(source, columns, collector.bad_row):
        for ours in ("started", "ended"):
            if row.get(ours) in _NONE:
                row[ours] = ""
        if timed and "started" in columns and not row["started"]:
            collector.passed(NEVER_RAN)
        else:
            collector.take(line, row, columns)
