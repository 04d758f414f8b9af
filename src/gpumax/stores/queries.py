"""The statements: each reads or writes rows on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, or_, select, update

from gpumax.model.queue import Queue
from gpumax.model.records import FINISHED, Changes, Event, TaskRecord, WorkloadRecord, WorkloadState
from gpumax.stores import rows
from gpumax.stores.mirror import Mirror
from gpumax.stores.tables import events, queues, submissions, tasks, workloads

_MOST_IN_LIST: Final = 500
"""Names or ids in one statement; databases bound its parameters."""

_IS_LIVE: Final = or_(workloads.c.state.not_in(sorted(FINISHED)), workloads.c.wish == "delete")


def load_mirror(connection: Connection) -> Mirror:
    """What the loop works on, as the database has it."""
    found = connection.execute(select(workloads).where(_IS_LIVE)).all()
    live_ids = select(workloads.c.id).where(_IS_LIVE)
    its_tasks = _group(connection, select(tasks.c.body).where(tasks.c.workload_id.in_(live_ids)))
    pairs = []
    for row in found:
        record = rows.read_workload(row)
        pairs.append((row.seq, (record, its_tasks.get(record.id, ()))))
    return Mirror(
        (rows.read_queue(row) for row in connection.execute(select(queues.c.body))),
        pairs,
        connection.execute(select(func.max(workloads.c.seq))).scalar() or 0,
        connection.execute(select(func.max(events.c.seq))).scalar() or 0,
    )


def find(connection: Connection, name: str) -> tuple[int, WorkloadRecord, tuple[TaskRecord, ...]] | None:
    """A workload by name, its number, and its tasks."""
    row = connection.execute(select(workloads).where(workloads.c.name == name)).first()
    if row is None:
        return None
    return row.seq, rows.read_workload(row), tasks_of(connection, (row.id,)).get(row.id, ())


def states_of(connection: Connection, names: Sequence[str]) -> dict[str, WorkloadState]:
    """The states of those workloads that exist, by name."""
    taken: dict[str, WorkloadState] = {}
    for some in _portions(names):
        found = connection.execute(
            select(workloads.c.name, workloads.c.state).where(workloads.c.name.in_(some))
        )
        taken.update((row.name, row.state) for row in found)
    return taken


def by_ids(connection: Connection, ids: Sequence[str]) -> dict[str, WorkloadRecord]:
    """Those workloads that exist, by id."""
    records: dict[str, WorkloadRecord] = {}
    for some in _portions(ids):
        found = connection.execute(select(workloads).where(workloads.c.id.in_(some)))
        records.update((row.id, rows.read_workload(row)) for row in found)
    return records


def tasks_of(connection: Connection, ids: Collection[str]) -> dict[str, tuple[TaskRecord, ...]]:
    """The tasks of these workloads in the order of their ranks, by workload."""
    found: dict[str, tuple[TaskRecord, ...]] = {}
    for some in _portions(sorted(ids)):
        found.update(_group(connection, select(tasks.c.body).where(tasks.c.workload_id.in_(some))))
    return found


def page(
    connection: Connection, states: Collection[WorkloadState], project: str, before: int | None, limit: int
) -> tuple[tuple[WorkloadRecord, ...], str]:
    """The newest workloads that match, and the number of the last one where there are more."""
    query = select(workloads).order_by(workloads.c.seq.desc()).limit(limit + 1)
    if states:
        query = query.where(workloads.c.state.in_(sorted(states)))
    if project:
        query = query.where(workloads.c.project == project)
    if before is not None:
        query = query.where(workloads.c.seq < before)
    found = connection.execute(query).all()
    rest = str(found[limit - 1].seq) if len(found) > limit else ""
    return tuple(rows.read_workload(row) for row in found[:limit]), rest


def counts(connection: Connection) -> dict[WorkloadState, int]:
    """How many workloads are in each state that occurs."""
    found = connection.execute(select(workloads.c.state, func.count()).group_by(workloads.c.state))
    return {row[0]: row[1] for row in found}


def add_workloads(
    connection: Connection, made: Sequence[tuple[int, WorkloadRecord, tuple[TaskRecord, ...]]]
) -> None:
    """Insert new workloads with their tasks."""
    if made:
        connection.execute(insert(workloads), [rows.workload_row(seq, record) for seq, record, _ in made])
    if all_tasks := [rows.task_row(task) for _, _, its in made for task in its]:
        connection.execute(insert(tasks), all_tasks)


def write(connection: Connection, changes: Changes) -> None:
    """Write changed rows, but not the events. A deleted workload's tasks go with it, by their foreign key."""
    for some in _portions(changes.deleted):
        connection.execute(delete(workloads).where(workloads.c.id.in_(some)))
    if changes.workloads:
        connection.execute(
            _PROGRESS, [{"the_id": record.id, **rows.progress_row(record)} for record in changes.workloads]
        )
    if changes.tasks:
        connection.execute(
            _TASK,
            [
                {"the_id": task.workload_id, "the_rank": task.index, "body": rows.encode(task)}
                for task in changes.tasks
            ],
        )


_PROGRESS: Final = (
    update(workloads)
    .where(workloads.c.id == bindparam("the_id"))
    .values(state=bindparam("state"), body=bindparam("body"))
)
_TASK: Final = (
    update(tasks)
    .where(tasks.c.workload_id == bindparam("the_id"), tasks.c.rank == bindparam("the_rank"))
    .values(body=bindparam("body"))
)


def set_wish(connection: Connection, record: WorkloadRecord) -> None:
    """Write the record's wish down."""
    connection.execute(update(workloads).where(workloads.c.id == record.id).values(wish=record.wish))


def set_queues(connection: Connection, changed: Sequence[Queue]) -> None:
    """Create or replace queues."""
    if changed:
        remove_queues(connection, [queue.name for queue in changed])
        connection.execute(insert(queues), [rows.queue_row(queue) for queue in changed])


def remove_queues(connection: Connection, names: Sequence[str]) -> None:
    """Delete those queues that exist."""
    for some in _portions(names):
        connection.execute(delete(queues).where(queues.c.name.in_(some)))


def read_events(
    connection: Connection, after: int, workload: str, limit: int, newest: bool
) -> tuple[Event, ...]:
    """Events in their order."""
    query = select(events).where(events.c.seq > after).limit(limit)
    if workload:
        query = query.where(events.c.workload == workload)
    found = connection.execute(query.order_by(events.c.seq.desc() if newest else events.c.seq)).all()
    return tuple(rows.read_event(row) for row in (reversed(found) if newest else found))


def add_events(connection: Connection, told: Sequence[Event]) -> None:
    """Insert events that have their numbers."""
    if told:
        connection.execute(insert(events), [rows.event_row(event) for event in told])


def forget_events(connection: Connection, until: int) -> None:
    """Delete events up to a number."""
    connection.execute(delete(events).where(events.c.seq <= until))


def submission(connection: Connection, key: str) -> tuple[str, tuple[str, ...]] | None:
    """The digest of what was submitted with a key, and the ids of what it made."""
    row = connection.execute(select(submissions).where(submissions.c.key == key)).first()
    return None if row is None else (row.digest, rows.read_ids(row.made))


def remember(connection: Connection, key: str, digest: str, now_ms: int, ids: Sequence[str]) -> None:
    """Keep a submission's key."""
    connection.execute(
        insert(submissions), [{"key": key, "digest": digest, "at_ms": now_ms, "made": rows.encode(ids)}]
    )


def forget_submissions(connection: Connection, before_ms: int) -> None:
    """Drop keys that are older."""
    connection.execute(delete(submissions).where(submissions.c.at_ms < before_ms))


def _group(connection: Connection, query: Select[tuple[str]]) -> dict[str, tuple[TaskRecord, ...]]:
    grouped: dict[str, list[TaskRecord]] = {}
    for row in connection.execute(query.order_by(tasks.c.workload_id, tasks.c.rank)):
        task = rows.read_task(row)
        grouped.setdefault(task.workload_id, []).append(task)
    return {workload_id: tuple(its) for workload_id, its in grouped.items()}


def _portions(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _MOST_IN_LIST] for start in range(0, len(items), _MOST_IN_LIST))
