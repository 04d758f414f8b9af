"""What the end of an attempt makes of its task, and in which words. Pure."""

from __future__ import annotations

import signal
from typing import Final

from gpumax.model.decision import Cause
from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.workload import TaskState
from gpumax.ports.engine import AttemptSeen

GANG_REFUSED: Final = "a task of its gang could not start"
"""The reason of a task that was started with others of which one was refused: it goes, and starts again with them."""

FIRST_PAUSE_MS: Final = 1_000
MOST_PAUSE_MS: Final = 60_000
"""How long a run that failed waits before it starts again: doubled with every failure in a row, up to this."""

LONG_RUN_MS: Final = 600_000
"""A run that lasted longer than this is no failure in a row: whatever made it fail isn't there from the start."""

_SIGNALS: Final = {number.value: number.name for number in signal.Signals}


def outcome(record: WorkloadRecord, task: TaskRecord, seen: AttemptSeen) -> tuple[TaskState, str]:
    """What an ended task is now, and why.

    Exit code 0 says that work is done only where nobody had told the program to go: many save on SIGTERM, and exit with 0.
    """
    if seen.exit_code == 0 and not seen.told:
        return "succeeded", ""
    if task.state != "releasing":
        outside = "it was told to end from outside: " if seen.told else ""
        return "failed", outside + how(seen)
    if record.wish in ("stop", "delete"):
        return "failed", "stopped"
    if record.wish == "suspend":
        return "gated", "suspended"
    if task.reason == GANG_REFUSED:
        return "pending", GANG_REFUSED
    if task.cause is not None:
        return "pending", eviction_reason(task.cause, task.beneficiary)
    return "pending", "ended with its workload"


def eviction_reason(cause: Cause, beneficiary: str) -> str:
    """Why a task was evicted, in words."""
    if not beneficiary:
        return f"evicted ({cause}): its gang was below its minimum for too long"
    return f"evicted for {beneficiary} ({cause})"


def how(seen: AttemptSeen) -> str:
    """How an attempt ended, in words."""
    if seen.state == "lost":
        return f"lost: {seen.message}"
    words = seen.message or code_words(seen.exit_code)
    return f"{words}; {seen.note}" if seen.note else words


def code_words(code: int | None) -> str:
    """An exit code; one above 128 is that of a signal, as shells give it."""
    name = _SIGNALS.get((code or 0) - 128)
    return f"ended by {name} (exit code {code})" if name else f"exit code {code}"


def quick_failures(record: WorkloadRecord, now_ms: int) -> int:
    """How many runs have failed in a row, with the one that fails now."""
    lasted_ms = 0 if record.started_ms is None else now_ms - record.started_ms
    return 1 if lasted_ms > LONG_RUN_MS else record.failures_in_a_row + 1


def pause_ms(failures_in_a_row: int) -> int:
    """How long a run that failed waits before it starts again."""
    return min(MOST_PAUSE_MS, FIRST_PAUSE_MS << min(failures_in_a_row - 1, 16))
