"""What `sacct --parsable2` prints: one row a job, steps beneath it.

Slurm's Priority is a number of the moment, made of age, use and size; it is no class of ours and not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gpumax.traces.cells import BadCell, show
from gpumax.traces.collect import NEVER_RAN, STILL_RUNNING, Collector
from gpumax.traces.source import Source
from gpumax.traces.table import Row, header, picked

STEP: Final = "told of a step of a job"

_NEEDED: Final = ("JobID", "Submit", "Start", "End")
_OTHERS: Final = (
    "User", "Account", "Partition", "Eligible", "Elapsed", "ElapsedRaw", "AllocTRES", "ReqTRES", "AllocGRES", "ReqGRES", "State",
    "NCPUS", "AllocCPUS", "ReqCPUS", "ReqMem", "NNodes", "Timelimit", "TimelimitRaw",
)  # fmt: skip
_NO_TIME: Final = ("", "Unknown", "None")
_COLUMN: Final = {
    "name": "JobID", "submitted": "Submit", "started": "Start", "ended": "End", "duration": "ElapsedRaw", "queue": "Account",
    "user": "User", "max_duration": "Timelimit",
}  # fmt: skip
_GRES: Final = re.compile(r"(?:^|,)(?:gres[/:])?gpu(?::([A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*))?[:=](\d+)", re.ASCII)  # fmt: skip
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)B?([cn]?)", re.ASCII)
_MIB: Final = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}


def is_slurm(names: list[str]) -> bool:
    """Whether a table's first line is one of sacct's."""
    return {"JobID", "Submit"} <= set(names)


def read_slurm(source: Source, collector: Collector, *, timed: bool) -> None:
    """Give every job to the collector; steps, and jobs that never began, are passed over."""
    there = set(header(source))
    columns: dict[str, str] = {
        name: name for name in (*_NEEDED, *_OTHERS) if name in there or name in _NEEDED
    }
    for line, row in picked(source, columns, collector.bad_row):
        if "." in row["JobID"]:
            collector.passed(STEP)
        elif timed and row["Start"] in _NO_TIME:
            collector.passed(NEVER_RAN)
        else:
            try:
                ours = _job(row)
            except BadCell as bad:
                collector.bad_row(line, bad.column, bad.found, bad.wanted)
                continue
            if row["End"] in _NO_TIME and "duration" in ours:
                collector.note(STILL_RUNNING)
            collector.take(line, ours, _COLUMN)


def _job(row: Row) -> Row:
    """A job as texts by our columns."""
    get = row.get
    ours = {
        # Parts of a heterogeneous job are named 17+0 and 17+1.
        "name": row["JobID"].replace("+", "-"),
        "submitted": _later(row["Submit"], get("Eligible", "")),
        "started": row["Start"],
        "queue": get("Account") or get("Partition") or "",
        "user": get("User", ""),
    }
    if row["End"] not in _NO_TIME:
        ours["ended"] = row["End"]
    if elapsed := get("ElapsedRaw") or get("Elapsed"):
        ours["duration"] = elapsed
    elif "ended" not in ours:
        ours["running"] = "yes"
    _add_sizes(row, ours)
    if (limit := get("Timelimit", "")) and limit[:1].isdigit():
        ours["max_duration"] = limit if ":" in limit or "-" in limit else f"{limit}m"
    elif (minutes := get("TimelimitRaw", "")).isdigit():
        ours["max_duration"] = f"{minutes}m"
    return ours


def _later(submit: str, eligible: str) -> str:
    """A job that depends on others waits for room from the moment on at which it may run. Both are written alike."""
    return eligible if eligible not in _NO_TIME and eligible > submit else submit


def _add_sizes(row: Row, ours: Row) -> None:
    """Devices, cores and memory: what was asked for, or where that is not told, what was given."""
    asked, given = row.get("ReqTRES", ""), row.get("AllocTRES", "")
    gpus = _gpus((given, asked, row.get("AllocGRES", ""), row.get("ReqGRES", "")))[0]
    ours["gpu"] = str(gpus)
    if (nodes := row.get("NNodes", "")).isdigit() and int(nodes) > 1:
        ours["devices_per_task"] = str(-(-gpus // int(nodes)))
    # What was given always names a model; only who asked for one needs it.
    ours["models"] = "|".join(_gpus((asked, row.get("ReqGRES", "")))[1])
    tres = {key: value for key, _, value in (part.partition("=") for part in (given or asked).split(","))}
    ours["cpu"] = tres.get("cpu") or row.get("NCPUS") or row.get("AllocCPUS") or row.get("ReqCPUS") or "0"
    ours["memory_mib"] = str(_memory(row, tres.get("mem", ""), ours["cpu"]))


def _gpus(texts: Iterable[str]) -> tuple[int, list[str]]:
    """How many, by the first text that tells: the sum of `gres/gpu`, or of all models."""
    for text in texts:
        found = _GRES.findall(text)
        if found:
            plain = sum(int(count) for model, count in found if not model)
            return plain or sum(int(count) for _, count in found), [model for model, _ in found if model]
    return 0, []


def _memory(row: Row, tres: str, cpus: str) -> int:
    """MiB: of `mem=64G`, or of ReqMem: 4Gc is for each core, 64Gn for each node."""
    text = tres or row.get("ReqMem", "")
    if text in ("", "0", "0n", "0c", "?"):
        return 0
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise BadCell(
            "AllocTRES" if tres else "ReqMem", show(text), "an amount of memory like 64G, 4Gc or 64Gn"
        )
    nodes = row.get("NNodes", "")
    times = {"c": int(cpus) if cpus.isdigit() else 1, "n": int(nodes) if nodes.isdigit() else 1, "": 1}[
        match[3]
    ]
    return min(round(float(match[1]) * _MIB[match[2]]) * times, 1 << 50)
