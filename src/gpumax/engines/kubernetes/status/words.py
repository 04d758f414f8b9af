"""The status of a queue and of a gang, as documents. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

from gpumax.engines.kubernetes.documents import at, rows
from gpumax.engines.kubernetes.tallies import Tally, Wait
from gpumax.engines.kubernetes.telling import INVALID, short
from gpumax.engines.kubernetes.views import Document
from gpumax.errors import Fault
from gpumax.model.amounts import Amounts
from gpumax.model.workload import ACTIVE, Workload
from gpumax.units import UNLIMITED, format_count, format_memory

READY: Final = "Ready"
_LEFT_OUT: Final = "lastTransitionTime"

State = Literal["Empty", "Waiting", "Starting", "Running", "BelowMinimum", "Invalid"]


def queue_status(tally: Tally | None, faults: Sequence[Fault]) -> Document:
    """Of a queue. tally: None where nothing was decided with it yet."""
    ready = (
        _condition(INVALID, faults)
        if faults
        else {"type": READY, "status": "True", "reason": "Valid", "message": "work can go to it"}
    )
    found: Document = {"share": None, "allocated": None, "waiting": None, "why": None, "conditions": [ready]}
    if tally is not None:
        found["share"], found["allocated"] = _amounts(tally.share), _amounts(tally.allocated)
        found["waiting"] = {"workloads": len(tally.waits), **_amounts(tally.waiting)}
        found["why"] = _why(tally.waits)
    return found


def gang_status(workload: Workload | None, wait: Wait | None, faults: Sequence[Fault]) -> Document:
    """Of a gang. workload: None where it has no pods of which anything is to be decided; faults: of its pods and of its own."""
    counts = Counter(task.state for task in (workload.tasks if workload is not None else ()))
    state: State = "Invalid" if workload is None and faults else _state(workload)
    if faults:
        condition = _condition(INVALID, faults)
    else:
        reason = wait.code if wait is not None else state
        message = wait.message if wait is not None else _WORDS[state]
        status = "True" if state == "Running" else "False"
        condition = {"type": READY, "status": status, "reason": reason, "message": short(message)}
    return {
        "state": state,
        "bound": counts["bound"] + counts["running"],
        "running": counts["running"],
        "why": None if state == "Running" and not faults else condition["message"],
        "conditions": [condition],
    }


_WORDS: Final[dict[State, str]] = {
    "Empty": "it has no pods that are to run",
    "Waiting": "its pods wait to be placed",
    "Starting": "its pods have their places, and not all of its minimum run yet",
    "Running": "its minimum runs",
    "BelowMinimum": "some of its pods hold room, and fewer than its minimum",
    "Invalid": "",
}


def news(wanted: Document, before: Document | None, moment: str, generation: int) -> Document | None:
    """The status to be written, with the time of each condition; None where it is so already."""
    found: Document = {key: at(before, key) for key in wanted}
    stamped = []
    for row in wanted["conditions"]:
        old = next((one for one in rows(found, "conditions") if at(one, "type") == row["type"]), None)
        same = at(old, "status") == row["status"]
        since = at(old, _LEFT_OUT) if same else None
        stamped.append({**row, "observedGeneration": generation, _LEFT_OUT: since or moment})
    fresh = {**wanted, "conditions": stamped}
    return None if fresh == found else fresh


def _state(workload: Workload | None) -> State:
    if workload is None:
        return "Empty"
    active = Counter(task.group for task in workload.tasks if task.state in ACTIVE)
    runs = Counter(task.group for task in workload.tasks if task.state == "running")
    if not active:
        return "Waiting"
    if any(active[group.name] < group.min for group in workload.groups):
        return "BelowMinimum"
    return "Running" if all(runs[group.name] >= group.min for group in workload.groups) else "Starting"


def _why(waits: Sequence[Wait]) -> str | None:
    """How many wait for which reason, and of the first what it was told."""
    if not waits:
        return None
    counts = Counter(wait.code for wait in waits)
    codes = ", ".join(f"{number} {code}" for code, number in sorted(counts.items()))
    return short(f"{codes}; {waits[0].workload}: {waits[0].message}")


def _condition(reason: str, faults: Sequence[Fault]) -> dict[str, Any]:
    message = short("; ".join(str(fault) for fault in faults))
    return {"type": READY, "status": "False", "reason": reason, "message": message}


def _amounts(amounts: Amounts) -> dict[str, str]:
    """As people write them."""
    return {
        "gpu": _text(amounts.gpu, format_count(amounts.gpu)),
        "cpu": _text(amounts.cpu, format_count(amounts.cpu)),
        "memory": _text(amounts.memory, format_memory(amounts.memory)),
    }


def _text(amount: int, words: str) -> str:
    return "unlimited" if amount >= UNLIMITED else words
