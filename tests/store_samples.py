"""Workloads, queues and events for the tests of stores."""

from __future__ import annotations

from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live, TaskRecord, WorkloadRecord
from gpumax.model.spec import Checkpoint, GroupSpec, WorkloadSpec
from gpumax.model.workload import DeviceAsk, Request
from gpumax.ports.store import Store


def spec(name: str, project: str = "red", tasks: int = 1) -> WorkloadSpec:
    """A workload of tasks that are alike."""
    request = Request(gpu=(DeviceAsk(1, 500), DeviceAsk(2, model="H100")), cpu_milli=500, memory_mib=64)
    return WorkloadSpec(
        name=name,
        project=project,
        groups=(GroupSpec("", 1, tasks, request, ("python", "train.py"), {"A": "1"}),),
        preemptible="semi",
        env={"LANG": "C.UTF-8", "WÖRT": '"\\\n'},
        secrets=("TOKEN",),
        max_duration_ms=60_000,
        checkpoint=Checkpoint("saved", 5_000),
    )


def queue(name: str, parent: str | None = None, gpus: int = 0) -> Queue:
    """A queue with a quota of GPUs."""
    return Queue(name, parent, quota=Amounts(gpu=gpus * 1000))


def submit(store: Store, *specs: WorkloadSpec, key: str = "", digest: str = "") -> tuple[WorkloadRecord, ...]:
    """Submit at the moment 1000."""
    return store.submit(specs, key=key, digest=digest, now_ms=1000)


def event(message: str, workload: str = "") -> Event:
    """Something that happened at the moment 2000."""
    return Event(2000, "Started", message, workload, f"{workload}-0" if workload else "")


def put(store: Store, record: WorkloadRecord, *tasks: TaskRecord) -> None:
    """Commit one workload's rows."""
    store.commit(Changes((record,), tasks))


def names(live: Live) -> list[str]:
    """Names of the live workloads, in their order."""
    return [record.name for record, _ in live.workloads]


def tasks_of(store: Store, name: str) -> tuple[TaskRecord, ...]:
    """The tasks of a workload that exists."""
    found = store.find(name)
    assert found is not None
    return found[1]


def record_of(store: Store, name: str) -> WorkloadRecord:
    """A workload that exists."""
    found = store.find(name)
    assert found is not None
    return found[0]
