"""Alibaba's openb (gpu-v2023): lists of pods. Moments count from the beginning of the trace, in seconds."""

from __future__ import annotations

from typing import Final

from gpumax.traces.collect import NEVER_RAN, Collector
from gpumax.traces.source import Source
from gpumax.traces.table import picked

_SIZES: Final = {
    "name": "name",
    "cpu_milli": "cpu_milli",
    "memory_mib": "memory_mib",
    "devices": "num_gpu",
    "gpu_milli": "gpu_milli",
    "models": "gpu_spec",
}
_TIMES: Final = {"submitted": "creation_time", "started": "scheduled_time", "ended": "deletion_time"}


def is_openb(names: list[str]) -> bool:
    """Whether a table's first line is that of a list of pods."""
    return {"num_gpu", "gpu_milli", "gpu_spec"} <= set(names)


def read_openb(source: Source, collector: Collector, *, timed: bool) -> None:
    """Give every pod to the collector; of those that never ran only what they ask for is of use."""
    columns = {**_SIZES, **_TIMES} if timed else _SIZES
    for line, row in picked(source, columns, collector.bad_row):
        if timed and not row["started"]:
            collector.passed(NEVER_RAN)
        else:
            collector.take(line, row, columns)
