"""A trace as a table with our names of columns, which scenarios read as it is."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Final, TextIO

from gpumax.model.trace import Arrival
from gpumax.units import MILLI

COLUMNS: Final = (
    "name", "submitted", "duration", "devices", "gpu_milli", "gpu_memory_mib", "models", "cpu_milli", "memory_mib", "queue", "user",
    "priority", "max_duration", "devices_per_task",
)  # fmt: skip


def write_trace(arrivals: Iterable[Arrival], file: TextIO) -> None:
    """One row an arrival; reading it gives equal arrivals."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_row(arrival) for arrival in arrivals)


def _row(one: Arrival) -> tuple[object, ...]:
    return (
        one.name, _seconds(one.submitted_ms), _seconds(one.duration_ms), one.devices,
        one.milli if one.devices and one.milli < MILLI else "",
        one.gpu_memory_mib or "", "|".join(one.models), one.cpu_milli, one.memory_mib, one.queue, one.user, one.priority,
        "" if one.max_duration_ms is None else _seconds(one.max_duration_ms), one.devices_per_task or "",
    )  # fmt: skip


def _seconds(ms: int) -> str:
    """Exactly."""
    whole, part = divmod(ms, 1000)
    return f"{whole}.{part:03}" if part else str(whole)
