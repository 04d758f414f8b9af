"""Records as rows, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gpumax.model.queue import Queue
from gpumax.model.records import Event, TaskRecord, WorkloadRecord

Row = dict[str, Any]

_COLUMNS: Final = ("id", "spec", "state", "wish", "submitted_ms")
_BODY: Final = tuple(name for name in WorkloadRecord.__struct_fields__ if name not in _COLUMNS)
_to_record: Final = msgspec.json.Decoder(WorkloadRecord).decode
_to_task: Final = msgspec.json.Decoder(TaskRecord).decode
_to_queue: Final = msgspec.json.Decoder(Queue).decode
_to_ids: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def workload_row(seq: int, record: WorkloadRecord) -> Row:
    """A whole new row."""
    return {
        "id": record.id,
        "seq": seq,
        "name": record.name,
        "project": record.spec.project,
        "wish": record.wish,
        "submitted_ms": record.submitted_ms,
        "spec": encode(record.spec),
        **progress_row(record),
    }


def progress_row(record: WorkloadRecord) -> Row:
    """The columns that change while it lives, all but the wish."""
    return {"state": record.state, "body": encode({name: getattr(record, name) for name in _BODY})}


def read_workload(row: Any) -> WorkloadRecord:
    """The record of a row with the columns of _COLUMNS and `body`, decoded in one go."""
    head = encode(
        {"id": row.id, "state": row.state, "wish": row.wish, "submitted_ms": row.submitted_ms}
    ).removesuffix("}")
    return _to_record(f'{head},"spec":{row.spec},{row.body.removeprefix("{")}')


def task_row(task: TaskRecord) -> Row:
    """A whole new row."""
    return {"workload_id": task.workload_id, "rank": task.index, "body": encode(task)}


def read_task(row: Any) -> TaskRecord:
    """The record of a row with `body`."""
    return _to_task(row.body)


def queue_row(queue: Queue) -> Row:
    """A whole new row."""
    return {"name": queue.name, "body": encode(queue)}


def read_queue(row: Any) -> Queue:
    """The queue of a row with `body`."""
    return _to_queue(row.body)


def event_row(event: Event) -> Row:
    """A whole new row."""
    return {
        "seq": event.seq,
        "at_ms": event.at_ms,
        "kind": event.kind,
        "workload": event.workload,
        "task": event.task,
        "message": _storable(event.message),
    }


def read_event(row: Any) -> Event:
    """The event of a whole row."""
    return Event(row.at_ms, row.kind, row.message, row.workload, row.task, row.seq)


def read_ids(text: str) -> tuple[str, ...]:
    """Ids from their JSON list."""
    return _to_ids(text)


def encode(value: Any) -> str:
    """As JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a surrogate pair, out of a file name that isn't UTF-8
        return msgspec.json.encode(_storable_all(msgspec.to_builtins(value))).decode()


def _storable(text: str) -> str:
    """Text that every database takes."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _storable_all(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable_all(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_storable_all(item) for item in value]
    return value
