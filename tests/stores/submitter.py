"""A process that uses a store and says what was acknowledged, until it is killed: `python submitter.py FILE PREFIX`.

One line each time a call has returned: the act, and the workload's name.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from gpumax.model.records import Changes
from gpumax.stores.sql import SqlStore
from store_samples import event, spec, submit

TASKS = 30
"""Of a workload: enough that its rows don't fit a page."""


def run(path: Path, prefix: str) -> None:
    """Submit, wish, run and delete in turn, for ever."""
    store = SqlStore(path)
    for number in count():
        name = f"{prefix}-{number}"
        (record,) = submit(store, spec(name, tasks=TASKS), key=name, digest="d")
        say("submitted", name)
        if number % 4 == 1:
            store.wish(name, "stop", now_ms=5)
            say("stopped", name)
        if number % 4 == 2:
            its = store.tasks_of([record.id])
            told = tuple(event("started", name) for _ in its)
            running = tuple(replace(task, state="running", node="n1") for task in its)
            store.commit(Changes((replace(record, state="running"),), running, told))
            say("started", name)
        if to_be_deleted(name):
            store.commit(Changes(deleted=(record.id,)))
            say("deleted", name)


def to_be_deleted(name: str) -> bool:
    """Whether it is deleted as soon as it was submitted."""
    return int(name.rpartition("-")[2]) % 4 == 3


def say(act: str, name: str) -> None:
    """Tell what is certain now."""
    sys.stdout.write(f"{act} {name}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2])
