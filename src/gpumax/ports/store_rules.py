"""What every store does alike, whatever it keeps its rows in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from gpumax.errors import BadFile, Conflict, Fault, NotFound
from gpumax.model.queue import Queue
from gpumax.model.records import FINISHED, Event, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.spec import WorkloadSpec

KEPT_EVENTS: Final = 100_000
"""The newest so many events are kept; older ones may go."""

KEPT_KEYS_MS: Final = 7 * 24 * 3_600_000
"""How long an idempotency key is remembered: longer than anyone retries a request."""

Tasks = tuple[TaskRecord, ...]


def is_live(record: WorkloadRecord) -> bool:
    """Whether the loop still has something to do for it."""
    return record.state not in FINISHED or record.wish == "delete"


def is_finished(record: WorkloadRecord) -> bool:
    """Whether its last task has ended for good."""
    return record.state in FINISHED


def begin(spec: WorkloadSpec, workload_id: str, now_ms: int) -> tuple[WorkloadRecord, Tasks, Event]:
    """The rows of a new workload: as many tasks as its groups may have at most, ranked over all groups in their order.

    A task's name is its workload's and its rank, which no other workload's task can have, whatever the two are called.
    """
    groups = [group.name for group in spec.groups for _ in range(group.max)]
    tasks = tuple(
        TaskRecord(workload_id, rank, f"{spec.name}-{rank}", group) for rank, group in enumerate(groups)
    )
    many = f"{len(tasks)} tasks" if len(tasks) != 1 else "1 task"
    event = Event(now_ms, "Submitted", f"{many}, submitted to {spec.project}", spec.name)
    return WorkloadRecord(workload_id, spec, now_ms), tasks, event


def refuse_names(specs: Sequence[WorkloadSpec], taken: Mapping[str, WorkloadState]) -> None:
    """Conflict, one line for each name that is in use, or comes twice. taken: states of the workloads that have names of these."""
    names = [spec.name for spec in specs]
    lines = [
        f"{name}: a workload of this name exists ({taken[name]}); delete it, or choose another name"
        for name in names
        if name in taken
    ]
    lines += [f"{name}: submitted twice at once" for name, times in Counter(names).items() if times > 1]
    if lines:
        raise Conflict("\n".join(lines))


def refuse_key(key: str) -> Conflict:
    """The error for a key that comes again with something else."""
    return Conflict(f"the idempotency key {key!r} was used for another submission; choose a new one")


def kept(old: WorkloadRecord, new: WorkloadRecord) -> WorkloadRecord:
    """What a commit makes of a record: what was submitted stays, and so does the wish, which may be newer than the commit's view."""
    if new.spec is old.spec and new.submitted_ms == old.submitted_ms and new.wish == old.wish:
        return new
    return replace(new, spec=old.spec, submitted_ms=old.submitted_ms, wish=old.wish)


def wished(record: WorkloadRecord | None, name: str, wish: Wish) -> WorkloadRecord:
    """The record with the wish. NotFound; Conflict where it is finished, or on its way to being deleted, and wish isn't delete."""
    if record is None:
        raise NotFound(f"no workload named {name!r}")
    if wish != "delete" and record.wish == "delete":
        raise Conflict(f"{name}: is being deleted")
    if wish != "delete" and record.state in FINISHED:
        raise Conflict(f"{name}: has {_ENDS[record.state]} already")
    return record if record.wish == wish else replace(record, wish=wish)


_ENDS: Final[Mapping[str, str]] = {"succeeded": "succeeded", "failed": "failed", "stopped": "been stopped"}


def set_queues(
    known: Mapping[str, Queue], wanted: Sequence[Queue], now_ms: int
) -> tuple[tuple[Queue, ...], tuple[Event, ...]]:
    """The queues that change, and an event for each. Conflict where a parent is missing or the parents run in a circle.

    A queue that doesn't say when it was created is as old as it was, or new.
    """
    tree, events = dict(known), []
    for queue in wanted:
        old = tree.get(queue.name)
        fresh = queue
        if not queue.created_ms:
            fresh = replace(queue, created_ms=now_ms if old is None else old.created_ms)
        if fresh != old:
            tree[queue.name] = fresh
            done = "created" if old is None else "changed"
            events.append(Event(now_ms, "QueueSet", f"queue {queue.name} {done}"))
    for queue in wanted:
        _refuse_parents(tree, queue.name)
        if queue.fresh is not None and queue.fresh not in tree:
            raise Conflict(f"queue {queue.name}: its queue for fresh work {queue.fresh!r} does not exist")
    changed = tuple(queue for name, queue in tree.items() if queue != known.get(name))
    return changed, tuple(events)


def _refuse_parents(tree: Mapping[str, Queue], name: str) -> None:
    way = [name]
    while (parent := tree[way[-1]].parent) is not None:
        if parent not in tree:
            raise Conflict(f"queue {way[-1]}: its parent {parent!r} does not exist")
        if parent in way:
            raise Conflict(f"queue {name}: its parents run in a circle: {' -> '.join([*way, parent])}")
        way.append(parent)


def refuse_queue_deletion(queues: Mapping[str, Queue], name: str, unfinished: Collection[str]) -> None:
    """NotFound, or Conflict where others need the queue, or it has unfinished work. unfinished: names of its workloads."""
    if name not in queues:
        raise NotFound(f"no queue named {name!r}")
    children = sorted(queue.name for queue in queues.values() if queue.parent == name)
    if children:
        raise Conflict(f"queue {name}: has queues below it: {_some(children)}")
    senders = sorted(queue.name for queue in queues.values() if queue.fresh == name)
    if senders:
        raise Conflict(f"queue {name}: fresh work counts in it, of {_some(senders)}")
    if unfinished:
        raise Conflict(f"queue {name}: has unfinished work: {_some(sorted(unfinished))}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def queue_deleted(name: str, now_ms: int) -> Event:
    """What is told of a queue's end."""
    return Event(now_ms, "QueueDeleted", f"queue {name} deleted")


def numbered(events: Iterable[Event], last: int) -> tuple[Event, ...]:
    """The events with the numbers after `last`."""
    return tuple(replace(event, seq=seq) for seq, event in enumerate(events, last + 1))


def read_cursor(after: str) -> int | None:
    """The number in a page's cursor; None for the first page. BadFile for what no page ever gave."""
    if not after:
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise BadFile([Fault("after", None, repr(after[:40]), "the `next` of the page before")])
    return int(after)
