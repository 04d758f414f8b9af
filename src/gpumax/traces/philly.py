"""Microsoft's Philly: `cluster_job_log`, a JSON list of jobs with their attempts."""

from __future__ import annotations

from typing import Any, Final

from gpumax.traces import cells
from gpumax.traces.cells import BadCell
from gpumax.traces.collect import NEVER_RAN, Collector
from gpumax.traces.objects import Document, listed, objects, text
from gpumax.traces.source import Source

_COLUMNS: Final = {"name": "jobid", "queue": "vc", "submitted": "submitted_time", "gpu": "gpus"}
_NONE: Final = ("", "None")


def read_philly(source: Source, collector: Collector, *, timed: bool) -> None:
    """Give every job to the collector; those without a GPU in any attempt never ran."""
    for line, job in objects(source, collector.bad_row):
        try:
            row = _job(job, timed=timed)
        except BadCell as bad:
            collector.bad_row(line, bad.column, bad.found, bad.wanted)
            continue
        if row is None:
            collector.passed(NEVER_RAN)
            continue
        collector.take(line, row, _COLUMNS)


def _job(job: Document, *, timed: bool) -> dict[str, str] | None:
    """A job as texts by our columns. It ran as long as all its attempts together, on the most GPUs that one had."""
    attempts = listed(job, "attempts")
    gpus = max((_gpus(attempt) for attempt in attempts), default=0)
    spans = [span for attempt in attempts if (span := _span(attempt)) is not None]
    if not gpus or (timed and not spans):
        return None
    return {
        "name": text(job, "jobid"),
        "queue": text(job, "vc"),
        "user": text(job, "user"),
        "submitted": text(job, "submitted_time"),
        "duration": f"{sum(spans)}ms",
        "gpu": str(gpus),
    }


def _gpus(attempt: Any) -> int:
    return sum(len(listed(host, "gpus")) for host in listed(attempt, "detail"))


def _span(attempt: Any) -> int | None:
    """How long an attempt ran; None where its beginning or its end isn't known."""
    begin, end = text(attempt, "start_time"), text(attempt, "end_time")
    if begin in _NONE or end in _NONE:
        return None
    span = cells.moment("end_time", end) - cells.moment("start_time", begin)
    if span < 0:
        raise BadCell("end_time", cells.show(end), "an end at or after the beginning")
    return span
