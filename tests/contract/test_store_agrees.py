"""The store on SQL does what the one in memory does, whatever is asked of it and whenever it is closed and opened."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from gpumax.errors import GpumaxError
from gpumax.model.records import Changes, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.ports.store import Store
from gpumax.ports.store_fake import MemoryStore
from gpumax.stores.sql import SqlStore
from store_samples import event, queue, spec

NAMES = st.sampled_from(["a", "b", "c", "a-1"])
QUEUES = st.sampled_from(["red", "blue", "company"])
STATES = st.sampled_from(["pending", "running", "suspended", "succeeded", "failed", "stopped"])
WISHES = st.sampled_from(["run", "suspend", "stop", "delete"])


def _plain(record: WorkloadRecord) -> WorkloadRecord:
    return replace(record, id="")


def _plain_tasks(tasks: tuple[TaskRecord, ...]) -> tuple[TaskRecord, ...]:
    return tuple(replace(task, workload_id="") for task in tasks)


def _found(name: str, store: Store) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]] | None:
    found = store.find(name)
    return None if found is None else (_plain(found[0]), _plain_tasks(found[1]))


class Agreement(RuleBasedStateMachine):
    """Both are told the same and must answer the same; only ids differ."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.memory = MemoryStore()
        self.sql = SqlStore(self.home / "gpumax.db")
        self.now_ms = 1000

    def both(self, act: Callable[[Store], Any]) -> None:
        """Do it to both, and compare what comes of it."""
        self.now_ms += 1
        answers = []
        for store in (self.memory, self.sql):
            try:
                answers.append(act(store))
            except GpumaxError as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]

    @rule(names=st.lists(NAMES, max_size=3), tasks=st.integers(1, 3), project=QUEUES, queues=st.lists(QUEUES))
    def submit(self, names: list[str], tasks: int, project: str, queues: list[str]) -> None:
        specs = [spec(name, project, tasks) for name in names]
        parents = [queue(name) for name in queues]
        self.both(lambda store: [
            _plain(record)
            for record in store.submit(specs, queues=parents, key="", digest="", now_ms=self.now_ms)
        ])  # fmt: skip

    @rule(name=NAMES, key=st.sampled_from("kl"), digest=st.sampled_from("de"), days=st.integers(0, 5))
    def submit_with_key(self, name: str, key: str, digest: str, days: int) -> None:
        self.now_ms += days * 24 * 3_600_000
        self.both(
            lambda store: [
                _plain(r) for r in store.submit([spec(name)], key=key, digest=digest, now_ms=self.now_ms)
            ]
        )

    @rule(
        name=NAMES, state=STATES, other=NAMES, runs=st.integers(0, 9), rank=st.integers(0, 3), drop=st.booleans()
    )  # fmt: skip
    def commit(self, name: str, state: WorkloadState, other: str, runs: int, rank: int, drop: bool) -> None:
        def act(store: Store) -> None:
            found, leaving = store.find(name), store.find(other)
            workloads: tuple[WorkloadRecord, ...] = ()
            tasks: tuple[TaskRecord, ...] = ()
            if found is not None:
                workloads = (replace(found[0], state=state, runs=runs, wish="run"),)
                tasks = (replace(found[1][0], index=rank, reason=f"reason {runs}"),)
            deleted = (leaving[0].id,) if drop and leaving is not None else ()
            store.commit(Changes(workloads, tasks, (event("told", name),), deleted))

        self.both(act)

    @rule(name=NAMES, wish=WISHES)
    def wish(self, name: str, wish: Wish) -> None:
        self.both(lambda store: _plain(store.wish(name, wish, now_ms=self.now_ms)))

    @rule(name=QUEUES, parent=st.none() | QUEUES, gpus=st.integers(0, 2))
    def set_queue(self, name: str, parent: str | None, gpus: int) -> None:
        self.both(lambda store: store.set_queue(queue(name, parent, gpus), now_ms=self.now_ms))

    @rule(name=QUEUES)
    def delete_queue(self, name: str) -> None:
        self.both(lambda store: store.delete_queue(name, now_ms=self.now_ms))

    @rule(states=st.sets(STATES), project=st.just("") | QUEUES, limit=st.integers(1, 3))
    def page(self, states: set[WorkloadState], project: str, limit: int) -> None:
        def act(store: Store) -> list[list[WorkloadRecord]]:
            pages, rest = [], "first"
            while rest:
                records, rest = store.page(
                    states=states, project=project, after=rest.removeprefix("first"), limit=limit
                )
                pages.append([_plain(record) for record in records])
            return pages

        self.both(act)

    @rule(
        after=st.integers(0, 20), workload=st.just("") | NAMES, limit=st.integers(1, 9), newest=st.booleans()
    )
    def events(self, after: int, workload: str, limit: int, newest: bool) -> None:
        self.both(lambda store: store.events(after=after, workload=workload, limit=limit, newest=newest))

    @rule()
    def open_again(self) -> None:
        """What is in the file is what was in memory."""
        self.sql.close()
        self.sql = SqlStore(self.home / "gpumax.db")

    @invariant()
    def agree(self) -> None:
        self.both(lambda store: [
            (_plain(record), _plain_tasks(tasks), _plain_tasks(store.tasks_of([record.id])))
            for record, tasks in store.live().workloads
        ])  # fmt: skip
        self.both(lambda store: store.live().queues)
        self.both(lambda store: store.queues())
        self.both(lambda store: store.counts())
        for name in ("a", "b", "c", "a-1"):
            self.both(partial(_found, name))

    def teardown(self) -> None:
        self.sql.close()
        shutil.rmtree(self.home)


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
