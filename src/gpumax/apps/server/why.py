"""Why a workload is where it is, for those that wait, run, are put aside or have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gpumax.apps.server.cluster import share
from gpumax.apps.server.shapes import Why
from gpumax.apps.server.views import hold, reason_of
from gpumax.errors import NotFound
from gpumax.formats.explanation import dump_facts
from gpumax.formats.scalars import write_amount
from gpumax.loop.attained import attained, place_in_line
from gpumax.loop.troubles import on_failing
from gpumax.model.explanation import Explanation
from gpumax.model.records import FINISHED, TaskRecord, WorkloadRecord
from gpumax.model.workload import ACTIVE
from gpumax.units import format_duration

if TYPE_CHECKING:
    from gpumax.apps.server.site import Site

_NEXT: Final = "The next cycle decides about it."


def why(site: Site, name: str) -> Why:
    """The answer to `gpumax why`. NotFound for a name that no workload has."""
    found = site.store.find(name)
    if found is None:
        raise NotFound(f"no workload named {name!r}")
    record, tasks = found
    told = past(record, tasks, _last_eviction(site, name))
    if record.state in FINISHED or record.state == "suspended":
        return alone(record, told)
    explained = _explained(site, name)
    if explained is None:
        return alone(record, told or (_NEXT,))
    # What the decision says nothing about is told from the records, which know more than that it isn't waiting.
    decided = explained.state in ("placed", "held", "evicted")
    runs = record.state == "running" and any(task.state in ACTIVE for task in tasks)
    return Why(
        workload=name,
        state=explained.state if decided else record.state,
        sentences=[
            *(explained.sentences if decided or runs else ()),
            *_in_line(site, record, tasks),
            *told,
            *(_on_its_gpu(site, name) if runs else ()),
            *(f"{words}." for who, _, words in on_failing(site.seen().snapshot) if who == name),
        ]
        or [_NEXT],
        hold=hold(explained.hold or record.hold),
        queue=[share(row) for row in explained.queue],
        ahead=list(explained.ahead),
        **dump_facts(explained, write_amount),
    )


def _explained(site: Site, name: str) -> Explanation | None:
    # Late: who only tells of the past, as the command line does of a cluster's work, needs no policy.
    from gpumax.policy.explain import explain

    seen = site.seen()
    explained = explain(seen.snapshot, seen.decision, name)
    if explained is None:
        site.settle()
        seen = site.seen()
        explained = explain(seen.snapshot, seen.decision, name)
    return explained


def _on_its_gpu(site: Site, name: str) -> tuple[str, ...]:
    """Why it doesn't get on there right now: others share the device."""
    return tuple(f"On its GPU it waits now: {text}." for text in site.waits(name))


def _in_line(site: Site, record: WorkloadRecord, tasks: Sequence[TaskRecord]) -> tuple[str, ...]:
    """What it has held, where that makes it stand elsewhere in line."""
    snapshot = site.seen().snapshot
    row = next((row for row in snapshot.workloads if row.name == record.name), None)
    had, _ = attained(record, tasks, snapshot.now_ms)
    told = "" if row is None else place_in_line(row, record, had)
    return (told,) if told else ()


def alone(record: WorkloadRecord, sentences: Sequence[str]) -> Why:
    """What records alone say."""
    return Why(
        workload=record.name,
        state=record.state,
        sentences=list(sentences),
        hold=None,
        queue=[],
        ahead=[],
        since=None,
        derived=[],
        tried=[],
        needs=[],
    )


def past(record: WorkloadRecord, tasks: Sequence[TaskRecord], last: str = "") -> tuple[str, ...]:
    """What records alone say: how it ended, what was asked of it, what it went through. Sentences.

    last: of its last eviction, when and why, as `ago` begins it; empty where that isn't known.
    """
    return tuple(sentence for sentence in (*_present(record), *_history(record, tasks, last)) if sentence)


def ago(at_ms: int | None, now_ms: int) -> str:
    """`4m ago`, `just now`, or empty where no moment is known."""
    if at_ms is None:
        return ""
    past_ms = now_ms - at_ms
    return f"{format_duration(past_ms // 1000 * 1000)} ago" if past_ms >= 1000 else "just now"


def _present(record: WorkloadRecord) -> tuple[str, ...]:
    name = record.name
    match record.state, record.wish:
        case "succeeded", _:
            return (f"It is done: {_tasks_of(record)} ended with exit code 0.",)
        case "failed", _:
            return (f"It failed: {record.reason or 'no reason is known'}.", _retries(record))
        case "stopped", _:
            return ("It was stopped, as was asked.",)
        case "suspended", "suspend":
            return (f"It is suspended until `gpumax resume {name}`.",)
        case "suspended", _:
            return ("It was resumed and waits for the next cycle.",)
        case _, "run":
            return ()
        case _, wish:
            doing = {"stop": "stopped", "suspend": "suspended", "delete": "deleted"}[wish]
            return (f"It is being {doing}; its tasks have their grace to end.",)


def _history(record: WorkloadRecord, tasks: Sequence[TaskRecord], last: str) -> tuple[str, ...]:
    if record.state in FINISHED:
        return ()
    sentences = []
    leaving = [task for task in tasks if task.state == "releasing"]
    if leaving:
        many = f"{len(leaving)} of its tasks are" if len(leaving) > 1 else "A task of it is"
        sentences.append(f"{many} on the way out: {leaving[0].reason or 'told to end'}.")
    if not any(task.cause for task in leaving):
        sentences.append(_evictions(record, tasks, last))
    sentences.append(_retries(record))
    if record.state == "pending" and record.runs:
        sentences.append(f"It ran {record.runs} time{'s' if record.runs > 1 else ''} before.")
    reason = reason_of(record, tasks)
    if record.state == "pending" and reason and _evicted(tasks) is None:
        sentences.append(_heard(record, reason))
    return tuple(sentences)


def _heard(record: WorkloadRecord, reason: str) -> str:
    if record.objection:
        return f"It can't start: {reason}. That is looked at again every few seconds."
    if record.retry_ms is not None:
        return f"Its last run failed: {reason}."
    return f"What was last heard of it: {reason}. It is tried again in a moment."


def _evictions(record: WorkloadRecord, tasks: Sequence[TaskRecord], last: str) -> str:
    """What became of it before, by what was told of it: of work that runs again its tasks don't tell."""
    task = _evicted(tasks)
    if not last and task is not None:
        last = f"for {task.beneficiary} ({task.cause})" if task.beneficiary else f"({task.cause})"
    if record.evictions > 1:
        return f"It was evicted {record.evictions} times{f', the last time {last}' if last else ''}."
    return f"It was evicted {last or 'once'}." if last or record.evictions else ""


def _evicted(tasks: Sequence[TaskRecord]) -> TaskRecord | None:
    return next((task for task in tasks if task.cause is not None and task.state == "pending"), None)


def _last_eviction(site: Site, name: str) -> str:
    """Who takes work off a GPU without another's asking for it doesn't count, but says so."""
    told = site.store.events(workload=name, limit=1000, newest=True)
    last = next((event for event in reversed(told) if event.kind == "Evicted"), None)
    if last is None:
        return ""
    # What became of it then is told by what it is now.
    words, _, _ = last.message.partition("; it's suspended until")
    return f"{ago(last.at_ms, site.clock.now_ms())} {words.removeprefix('evicted ')}"


def _retries(record: WorkloadRecord) -> str:
    if not record.failures or not record.spec.retries:
        return ""
    return f"It failed {record.failures} time{'s' if record.failures > 1 else ''}; its retries are {record.spec.retries}."


def _tasks_of(record: WorkloadRecord) -> str:
    count = sum(group.max for group in record.spec.groups)
    return "its task" if count == 1 else f"all {count} tasks"
