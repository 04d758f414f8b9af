"""What a trace says: work that came, what it asked for, and how long it really ran."""

from __future__ import annotations

import msgspec


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One workload of a trace. Amounts are of the whole workload; devices of each `milli`, or of `gpu_memory_mib` where that is set.

    duration_ms: how long it runs where nothing throws it back; max_duration_ms: what its owner told the scheduler, None: nothing.
    devices_per_task: the most devices of one of its tasks; 0: as the scenario says.
    models: device models in the order of preference; empty: any. queue: empty where the trace knows no tenants.
    """

    name: str
    submitted_ms: int
    duration_ms: int
    devices: int = 0
    milli: int = 1000
    gpu_memory_mib: int = 0
    models: tuple[str, ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    queue: str = ""
    user: str = ""
    priority: int = 50
    max_duration_ms: int | None = None
    devices_per_task: int = 0


class BadRow(msgspec.Struct, frozen=True):
    """A row that can't be used. row: its line in the file, from 1; column: as the file calls it, empty for the row as a whole."""

    row: int
    column: str
    found: str
    wanted: str


class Trace(msgspec.Struct, frozen=True):
    """Arrivals sorted by moment, then name. rows: that were read. bad: the first rows that were left out; bad_rows: how many were.

    notes: what rows did that is no fault but worth knowing, by how many: `never ran`. renamed: tenants that have other names here than
    in the trace, by ours.
    """

    arrivals: tuple[Arrival, ...] = ()
    rows: int = 0
    bad: tuple[BadRow, ...] = ()
    bad_rows: int = 0
    notes: dict[str, int] = {}
    renamed: dict[str, tuple[str, ...]] = {}
