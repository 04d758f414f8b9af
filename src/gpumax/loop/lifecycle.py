"""What the engine saw, folded into records: events in, changes and orders out. Pure.

    pending -> bound -> running -> succeeded
       ^         |         |  \\
       |         v         v   failed: the whole run stops, then starts again or fails for good
       +------ releasing <-+           (evicted, suspended, stopped, overdue, or another task failed)

Changes are committed before orders are carried out. So a crash in between repeats an order, which does no harm, and
never forgets an end that isn't on record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from gpumax.loop.ends import how, outcome, pause_ms, quick_failures
from gpumax.loop.memory import Memory
from gpumax.model.records import (
    FINISHED,
    Changes,
    Event,
    EventKind,
    Live,
    TaskRecord,
    WorkloadRecord,
    WorkloadState,
)
from gpumax.model.workload import ACTIVE, HOLDING, TaskState
from gpumax.ports.engine import AttemptSeen, Forget, Observation, Order, Stop
from gpumax.units import format_duration

ENDED: Final = frozenset(("exited", "lost"))
"""States of an attempt that has nothing running any more."""

_TOLD: Final[dict[str, tuple[EventKind, str]]] = {
    "suspend": ("Suspending", "suspending"),
    "stop": ("Stopping", "stopping"),
    "delete": ("Deleting", "deleting"),
}
"""What is said of a wish while the tasks have their grace: an event, and the reason meanwhile."""
_RESUMED: Final = "resumed; it starts again when its tasks have ended"


class Step(msgspec.Struct, frozen=True):
    """One step of all lives: rows to commit, then orders to carry out; next_ms: when time alone changes something."""

    changes: Changes = Changes()
    orders: tuple[Order, ...] = ()
    next_ms: int | None = None


def advance(live: Live, observation: Observation, now_ms: int, memory: Memory | None = None) -> Step:
    """Fold what the engine saw into the records.

    memory: of the last step; lives in which there was nothing to do then, and which are as they were, aren't looked at again. It is
    brought up to date.
    """
    memory = Memory() if memory is None else memory
    moving = memory.moving(live, observation.attempts, now_ms)
    runs = [_Run(record, tasks, memory.seen, now_ms) for record, tasks in moving]
    for run in runs:
        run.fold()
        memory.note(run.was.id, run.due_ms, still=run.still)
    due = [run.due_ms for run in runs if run.due_ms and not run.still]
    gone = {run.record.id for run in runs if run.deleted}
    changes = Changes(
        workloads=tuple(r.record for r in runs if r.record != r.was and r.record.id not in gone),
        tasks=tuple(
            task
            for r in runs
            if r.record.id not in gone
            for task, was in zip(r.tasks, r.were, strict=True)
            if task != was
        ),
        events=tuple(event for run in runs for event in run.events),
        deleted=tuple(run.record.id for run in runs if run.deleted),
    )
    orders = [order for run in runs for order in run.orders]
    strays = [memory.seen[id_] for id_ in sorted(memory.strays)]
    orders += [_leave(attempt) for attempt in strays if attempt.state != "stopping"]
    return Step(changes, tuple(orders), min((*due, *memory.due.values()), default=None))


def overdue_reason(record: WorkloadRecord) -> str:
    """The words for a run that reached its max_duration; empty for a workload that has none."""
    limit = record.spec.max_duration_ms
    return "" if limit is None else f"max_duration of {format_duration(limit)} reached"


def is_overdue(record: WorkloadRecord) -> bool:
    """Whether the run was told to end because it reached its max_duration."""
    return bool(record.reason) and record.reason == overdue_reason(record)


def may_start(record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> bool:
    """Whether pending tasks may be placed: not while the run that they belong to is being ended."""
    return record.wish == "run" and not is_overdue(record) and all(task.state != "failed" for task in tasks)


def below_minimum(record: WorkloadRecord, tasks: Sequence[TaskRecord]) -> bool:
    """Whether a group has fewer tasks that run or are done than its minimum."""
    present = Counter(task.group for task in tasks if task.state in ACTIVE or task.state == "succeeded")
    return any(present[group.name] < group.min for group in record.spec.groups)


def _leave(stray: AttemptSeen) -> Order:
    """An attempt that no record claims: end it; once it has ended, its end concerns nobody."""
    return Forget(stray.attempt) if stray.state in ENDED else Stop(stray.attempt, 0)


class _Run:
    """One workload while its records are folded. due_ms: when its max_duration ends it, 0 for never."""

    def __init__(
        self,
        record: WorkloadRecord,
        tasks: tuple[TaskRecord, ...],
        seen: dict[str, AttemptSeen],
        now_ms: int,
    ) -> None:
        self.was, self.were = record, tasks
        self.record, self.tasks = record, list(tasks)
        self.seen = seen
        self.now_ms = now_ms
        self.events: list[Event] = []
        self.orders: list[Order] = []
        self.deleted = False
        self.due_ms = 0

    @property
    def still(self) -> bool:
        """Whether there was nothing to do."""
        quiet = not (self.events or self.orders or self.deleted) and self.record == self.was
        return quiet and all(task is was for task, was in zip(self.tasks, self.were, strict=True))

    def fold(self) -> None:
        """Look at every task that holds something, then settle what follows for the whole."""
        if self.record.state in FINISHED:
            self._delete()  # finished work is live only while it is wished away
            return
        for index, task in enumerate(self.tasks):
            if task.state in HOLDING:
                self._look(index, task)
        if self._holding():
            self._take_wish()
            self._watch_duration()
            if not may_start(self.record, tuple(self.tasks)):
                self._stop_all()
            self._change(state="running", stale_since_ms=self._stale_since_ms())
        else:
            self._settle()
            self._change(stale_since_ms=None)

    def _look(self, index: int, task: TaskRecord) -> None:
        attempt = task.attempt or ""
        seen = self.seen.get(attempt)
        if seen is None and task.state == "bound":
            # The server died between record and start, or the start failed: it never ran, and the id is not used again.
            self.tasks[index] = _vacate(task, "pending", "the start was not carried out")
        elif seen is None:
            self._end(index, task, AttemptSeen(attempt, "lost", message="the engine no longer knows it"))
        elif seen.state in ENDED:
            self._end(index, task, seen)
            self.orders.append(Forget(attempt))
        elif task.state == "releasing":
            if seen.state != "stopping":
                self.orders.append(Stop(attempt, self.record.spec.grace_ms))
        elif task.state == "bound" and seen.state != "starting":
            self.tasks[index] = replace(task, state="running", started_ms=seen.started_ms or self.now_ms)
            self._tell("Started", f"running on {task.node}", task)

    def _end(self, index: int, task: TaskRecord, seen: AttemptSeen) -> None:
        state, reason = outcome(self.record, task, seen)
        started_ms = seen.started_ms or task.started_ms
        ended_ms = seen.ended_ms or self.now_ms
        if started_ms is not None:
            milli = sum(share.milli for share in task.devices)
            self._change(device_ms=self.record.device_ms + milli * max(0, ended_ms - started_ms))
        if state in ("pending", "gated"):
            task = _vacate(task, state, reason)
        self.tasks[index] = replace(
            task,
            state=state,
            reason=reason,
            started_ms=started_ms,
            ended_ms=ended_ms,
            exit_code=seen.exit_code,
        )
        words = how(seen)
        more = "" if reason in ("", words) else f"; {reason}"
        self._tell("Lost" if seen.state == "lost" else "Exited", words + more, task)

    def _take_wish(self) -> None:
        """Say that a wish was heard, or taken back, while the tasks that must go for it have their grace."""
        wish, reason = self.record.wish, self.record.reason
        if is_overdue(self.record):
            return
        if wish in _TOLD and reason != _TOLD[wish][1]:
            kind, words = _TOLD[wish]
            self._change(reason=words)
            grace = format_duration(self.record.spec.grace_ms)
            self._tell(kind, f"{words}: its tasks have {grace} to end")
        elif wish == "run" and reason == "suspending":
            self._change(reason=_RESUMED)
            self._tell("Resumed", _RESUMED)

    def _stale_since_ms(self) -> int | None:
        """When its running tasks became too few for its minimum; None where they are enough."""
        runs = any(task.state in ACTIVE for task in self.tasks)
        if not runs or not below_minimum(self.record, self.tasks):
            return None
        since_ms = self.record.stale_since_ms
        return self.now_ms if since_ms is None else since_ms

    def _watch_duration(self) -> None:
        limit, started_ms = self.record.spec.max_duration_ms, self.record.started_ms
        if limit is None or started_ms is None or not may_start(self.record, tuple(self.tasks)):
            return
        # A run that is being evicted has ended by that.
        if all(task.cause is not None for task in self._holding()):
            return
        if started_ms + limit <= self.now_ms:
            self._change(reason=overdue_reason(self.record))
        else:
            self.due_ms = started_ms + limit

    def _stop_all(self) -> None:
        for index, task in enumerate(self.tasks):
            if task.state in ("bound", "running") and task.attempt is not None:
                self.tasks[index] = replace(task, state="releasing", cause=None, beneficiary="")
                self.orders.append(Stop(task.attempt, self.record.spec.grace_ms))

    def _settle(self) -> None:
        """Nothing of it runs: what becomes of the whole."""
        record = self.record
        failed = next((task for task in self.tasks if task.state == "failed"), None)
        if record.wish == "delete":
            self._delete()
        elif all(task.state == "succeeded" for task in self.tasks):
            self._finish("succeeded", "Succeeded", "")
        elif record.wish == "stop":
            self._finish("stopped", "Stopped", "stopped")
        elif is_overdue(record):
            self._finish("failed", "Failed", record.reason)
        elif failed is not None:
            self._fail(failed)
        elif record.wish == "suspend":
            self._suspend()
        else:
            self._wait()

    def _fail(self, failed: TaskRecord) -> None:
        """The run failed: all of it again, done tasks included, as long as retries are left."""
        failures, retries = self.record.failures + 1, self.record.spec.retries
        reason = f"{failed.name}: {failed.reason}"
        in_a_row = quick_failures(self.record, self.now_ms)
        self._change(failures=failures, failures_in_a_row=in_a_row)
        if failures > retries:
            self._finish("failed", "Failed", reason)
            return
        self._all_to("pending")
        pause = pause_ms(in_a_row)
        words = f"{reason}; starts again after {format_duration(pause)}, retry {failures} of {retries}"
        self._tell("Retried", words)
        self.due_ms = self.now_ms + pause
        self._change(state="pending", started_ms=None, retry_ms=self.due_ms, reason=words)
        if self.record.wish == "suspend":
            self._suspend()

    def _suspend(self) -> None:
        self.tasks = [
            replace(task, state="gated", reason="suspended") if task.state == "pending" else task
            for task in self.tasks
        ]
        if self.record.state != "suspended":
            self._tell("Suspended", "suspended")
        self._change(state="suspended", started_ms=None, hold=None, reason="suspended")

    def _wait(self) -> None:
        """It waits to be placed: new, given back by an eviction, never begun, or resumed."""
        if self.record.state == "suspended":
            self._tell("Resumed", "resumed")
        if self.record.state == "suspended" or self.record.reason == _RESUMED:
            self._change(reason="")
        if self._never_began():
            self._change(runs=self.record.runs - 1)
        goes_on = self._goes_on()
        for index, task in enumerate(self.tasks):
            if task.state == "gated":
                self.tasks[index] = replace(task, state="pending", reason="")
            elif task.state == "succeeded" and not goes_on:
                self.tasks[index] = _vacate(task, "pending", "starts again with its gang")
        self._change(state="pending", started_ms=None)
        retry_ms = self.record.retry_ms
        if retry_ms is not None and retry_ms > self.now_ms:
            self.due_ms = retry_ms
        elif retry_ms is not None:
            self._change(retry_ms=None, reason="")

    def _goes_on(self) -> bool:
        """Whether what is done stays done. A new run is one of all tasks, or the others of a gang would wait for those that
        are done; only extras that are left over when every group's minimum is done need nobody."""
        done = Counter(task.group for task in self.tasks if task.state == "succeeded")
        return all(done[group.name] >= group.min for group in self.record.spec.groups)

    def _never_began(self) -> bool:
        """Whether this step undid a run of which no task had started."""
        unbegun = any(was.state == "bound" and was.attempt not in self.seen for was in self.were)
        return unbegun and not any(was.state in ("running", "releasing", "succeeded") for was in self.were)

    def _finish(self, state: WorkloadState, kind: EventKind, reason: str) -> None:
        self.tasks = [
            replace(task, state="failed", reason=reason) if task.state in ("pending", "gated") else task
            for task in self.tasks
        ]
        self._change(state=state, reason=reason, ended_ms=self.now_ms, hold=None, retry_ms=None)
        self._tell(kind, reason or state)

    def _delete(self) -> None:
        if self.record.wish == "delete":
            self.deleted = True
            self._tell("Deleted", "deleted")

    def _all_to(self, state: Literal["pending"]) -> None:
        self.tasks = [_vacate(task, state, "") for task in self.tasks]

    def _holding(self) -> list[TaskRecord]:
        return [task for task in self.tasks if task.state in HOLDING]

    def _change(self, **fields: Any) -> None:
        self.record = replace(self.record, **fields)

    def _tell(self, kind: EventKind, message: str, task: TaskRecord | None = None) -> None:
        self.events.append(
            Event(self.now_ms, kind, message, self.record.name, task.name if task is not None else "")
        )


def _vacate(task: TaskRecord, state: TaskState, reason: str) -> TaskRecord:
    """A task that holds nothing any more and isn't done."""
    return replace(task, state=state, reason=reason, attempt=None, node=None, devices=())
