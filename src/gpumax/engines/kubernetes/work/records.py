"""Objects of a cluster become records, as a store has them: so whatever shows records shows a cluster's work, too. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, get_args

from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import number
from gpumax.engines.kubernetes.grants import recorded
from gpumax.engines.kubernetes.tasks import state_of
from gpumax.engines.kubernetes.telling import SCHEDULED, TARGET, UNSCHEDULABLE, WHY_GO
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.views import Owner
from gpumax.engines.kubernetes.work.container import MAIN
from gpumax.engines.kubernetes.work.job_sets import JobSet
from gpumax.engines.kubernetes.work.specs import read_spec
from gpumax.engines.kubernetes.work.views import ContainerStatus, Job, SeenPod, Terminated
from gpumax.model.decision import Cause, Hold, HoldCode
from gpumax.model.records import Pair, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.workload import ACTIVE, DeviceShare, TaskState

INDEX: Final = "batch.kubernetes.io/job-completion-index"
JOB_SET: Final = "JobSet"
JOB: Final = "batch.kubernetes.io/job-name"
_CAUSES: Final[dict[str, Cause]] = {reason: cause for cause, reason in WHY_GO.items()}
_STARTING: Final = frozenset(("ContainerCreating", "PodInitializing", ""))
"""Why a container waits while all is well."""
_CODES: Final = frozenset(get_args(HoldCode))


class Work(NamedTuple):
    """What a cluster has of one workload. jobs: in the order of their ranks; codes: of holds, by the name of the pod that was told of it.

    evictions: how often it was evicted; evicted: what was said the last time, and evicted_ms: when; failing: why its Job
    can't make all of its pods. kind: of who makes its pods; of another than a Job, a stand-in is in `jobs`. made: the set that was made of a workload file.
    """

    jobs: tuple[Job, ...]
    pods: tuple[SeenPod, ...] = ()
    codes: Mapping[str, str] = {}
    evictions: int = 0
    evicted: str = ""
    failing: str = ""
    kind: str = "Job"
    made: JobSet | None = None
    evicted_ms: int | None = None

    @property
    def ours(self) -> bool:
        """Whether commands know what it means to change it."""
        return self.kind == "Job" or self.made is not None


def name_of(job: Job) -> str:
    """Of the workload that a Job is part of: the one that was submitted, its JobSet, or the Job's own."""
    owner = set_of(job)
    return (job.metadata.labels or {}).get(keys.WORKLOAD) or (owner.name if owner else job.metadata.name)


def set_of(job: Job) -> Owner | None:
    """The JobSet that made it; None where none did."""
    return next(
        (row for row in job.metadata.owner_references or () if row.controller and row.kind == JOB_SET), None
    )


def first_rank(job: Job) -> int:
    """The rank of its first task."""
    written = (job.metadata.annotations or {}).get(keys.FIRST_RANK, "0")
    return int(written) if written.isascii() and written.isdecimal() and len(written) < 6 else 0


def size_of(job: Job) -> int:
    """How many tasks it has."""
    return max(number(job.spec, "completions", unset=0), number(job.spec, "parallelism", unset=0), 1)


def read(work: Work) -> Pair:
    """The workload and its tasks in rank order."""
    spec = read_spec(work.jobs)
    first = work.jobs[0]
    record = WorkloadRecord(
        id=(first.metadata.labels or {}).get(keys.RUN) or first.metadata.uid,
        spec=spec,
        submitted_ms=moment_ms(first.metadata.creation_timestamp) or 0,
        wish=_wish(first),
        evictions=work.evictions,
        failures=sum(job.status.failed for job in work.jobs),
    )
    tasks = tuple(task for job in work.jobs for task in _tasks(record, job, work))
    tasks = tuple(replace(task, index=rank) for rank, task in enumerate(tasks))
    return _as_it_is(record, tasks, work), tasks


def _as_it_is(record: WorkloadRecord, tasks: tuple[TaskRecord, ...], work: Work) -> WorkloadRecord:
    state, reason = _state(record, tasks, work)
    started = [task.started_ms for task in tasks if task.started_ms is not None]
    ended = [task.ended_ms for task in tasks if task.ended_ms is not None]
    over = state in ("succeeded", "failed")
    wish: Wish = "run" if state == "failed" and record.wish != "delete" else record.wish
    hold = _hold(work) if state == "pending" else None
    if work.failing and hold is not None and hold.code == "GangIncomplete":
        hold = None  # why tasks are missing says more than that they are
    return replace(
        record,
        state=state,
        wish=wish,
        reason=reason,
        objection=_objection(state, tasks, work),
        hold=hold,
        started_ms=min(started, default=None) if state != "pending" else None,
        ended_ms=max([*ended, *_ends(work.jobs)], default=None) if over else None,
        runs=1 + record.evictions + record.failures if started else record.evictions + record.failures,
        device_ms=sum(_held_ms(task) for task in tasks),
    )


def _objection(state: WorkloadState, tasks: Sequence[TaskRecord], work: Work) -> str:
    """What keeps its tasks from beginning, though nothing else does: their Job can't make them, or a node can't start them."""
    if state == "pending":
        return work.failing
    stuck = next((task for task in tasks if task.state == "bound" and task.reason), None)
    if state != "running" or stuck is None:
        return ""
    return stuck.reason if len(tasks) == 1 else f"{stuck.name}: {stuck.reason}"


def _held_ms(task: TaskRecord) -> int:
    """What an attempt that has ended held; one that goes on is counted by who shows it."""
    if task.started_ms is None or task.ended_ms is None:
        return 0
    return sum(share.milli for share in task.devices) * max(0, task.ended_ms - task.started_ms)


def _state(record: WorkloadRecord, tasks: Sequence[TaskRecord], work: Work) -> tuple[WorkloadState, str]:
    conditions = [
        {row.type: row for row in job.status.conditions or () if row.status == "True"} for job in work.jobs
    ]
    failed = next((own["Failed"] for own in conditions if "Failed" in own), None)
    if failed is not None:
        return "failed", _why_failed(tasks) or f"{failed.message or failed.reason}"
    if all("Complete" in own for own in conditions):
        return "succeeded", ""
    if any(task.state in ACTIVE or task.state == "releasing" for task in tasks):
        return "running", ""
    if any(isinstance(job.spec, dict) and job.spec.get("suspend") is True for job in work.jobs):
        return ("stopped" if record.wish == "stop" else "suspended"), ""
    return "pending", ""


def _why_failed(tasks: Sequence[TaskRecord]) -> str:
    """In the words of one machine: which task ended how."""
    ends = [task for task in tasks if task.state == "failed" and (task.exit_code or task.reason)]
    if not ends:
        return ""
    first = min(ends, key=lambda task: task.ended_ms or 0)
    told = first.reason or f"exit code {first.exit_code}"
    return told if len(tasks) == 1 else f"{first.name}: {told}"


def _ends(jobs: Iterable[Job]) -> list[int]:
    found = [
        moment_ms(row.last_transition_time)
        for job in jobs
        for row in job.status.conditions or ()
        if row.type in ("Complete", "Failed") and row.status == "True"
    ]
    return [end for end in found if end is not None]


def _wish(job: Job) -> Wish:
    if job.metadata.deletion_timestamp is not None:
        return "delete"
    if (job.metadata.annotations or {}).get(keys.WISH) == "stop":
        return "stop"
    return "suspend" if isinstance(job.spec, dict) and job.spec.get("suspend") is True else "run"


def _hold(work: Work) -> Hold | None:
    """Why it waits, as the scheduler wrote it on its pods."""
    for pod in work.pods:
        row = _told(pod)
        if row is None:
            continue
        # Where more nodes would help, the code is in the event alone; other reasons say all, and an older event nothing.
        code = work.codes.get(pod.metadata.name, "") if row[0] == UNSCHEDULABLE else row[0]
        if code in _CODES:
            return Hold(record_name(work), code, row[1])  # type: ignore[arg-type]
    return None


def record_name(work: Work) -> str:
    """The name of the workload."""
    return name_of(work.jobs[0])


def _told(pod: SeenPod) -> tuple[str, str] | None:
    """Reason and message, where it isn't scheduled."""
    if pod.spec.node_name or state_of(pod) != "pending":
        return None
    for row in pod.status.conditions or ():
        if row.type == SCHEDULED and row.status == "False":
            return row.reason, row.message
    return None


def current(job: Job, pods: Iterable[SeenPod]) -> dict[int, SeenPod]:
    """By index, the pod that counts: the newest that hasn't failed, else the newest."""
    found: dict[int, SeenPod] = {}
    name = job.metadata.name
    own = [pod for pod in pods if (pod.metadata.labels or {}).get(JOB, name) == name]
    own.sort(
        key=lambda pod: (state_of(pod) != "failed", pod.metadata.creation_timestamp or "", pod.metadata.name)
    )
    plain = [pod for pod in own if _index(pod) is None]
    found.update(enumerate(plain[-size_of(job) :]))
    for pod in own:
        index = _index(pod)
        if index is not None and index < size_of(job):
            found[index] = pod
    return found


def _index(pod: SeenPod) -> int | None:
    written = (pod.metadata.labels or {}).get(INDEX, "")
    return int(written) if written.isascii() and written.isdecimal() and len(written) < 6 else None


def _tasks(record: WorkloadRecord, job: Job, work: Work) -> Iterable[TaskRecord]:
    first = first_rank(job)
    groups = record.spec.groups
    group = groups[work.jobs.index(job)] if len(work.jobs) == len(groups) else groups[0]
    done = any(row.type == "Complete" and row.status == "True" for row in job.status.conditions or ())
    seen = current(job, work.pods)
    asked = group.request.gpu[0] if group.request.gpu else None
    devices = (
        () if asked is None else tuple(DeviceShare(index, asked.milli) for index in range(asked.devices))
    )
    for index in range(size_of(job)):
        rank = first + index
        task = TaskRecord(record.id, rank, f"{record.name}-{rank}", group.name)
        pod = seen.get(index)
        if pod is None:
            yield replace(task, state="succeeded") if done else task
        else:
            yield _of_pod(task, pod, devices)


def _of_pod(task: TaskRecord, pod: SeenPod, devices: tuple[DeviceShare, ...]) -> TaskRecord:
    state: TaskState = state_of(pod)
    main = _main(pod)
    end = main.state.terminated if main is not None else None
    target = next(
        (row for row in pod.status.conditions or () if row.type == TARGET and row.status == "True"), None
    )
    told = _told(pod)
    return replace(
        task,
        state=state,
        attempt=pod.metadata.uid,
        node=pod.spec.node_name or None,
        devices=(recorded(pod) or devices) if pod.spec.node_name else (),
        started_ms=_placed_ms(pod) if pod.spec.node_name else None,
        ended_ms=moment_ms(end.finished_at) if end is not None and state in ("succeeded", "failed") else None,
        exit_code=end.exit_code if end is not None else None,
        reason=_reason(pod, end) or (told[1] if told is not None and told[0] not in _CODES else ""),
        cause=_CAUSES.get(target.reason) if target is not None else None,
    )


def _main(pod: SeenPod) -> ContainerStatus | None:
    rows = pod.status.container_statuses or ()
    return next((row for row in rows if row.name == MAIN), rows[0] if rows else None)


def _reason(pod: SeenPod, end: Terminated | None) -> str:
    """What went wrong, or keeps it from beginning, in the cluster's words."""
    for row in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waits = row.state.waiting
        if waits is not None and waits.reason not in _STARTING:
            return f"{waits.reason}: {waits.message}" if waits.message else waits.reason
        begun = row.state.terminated
        if row.name == "unpack" and begun is not None and begun.exit_code:
            return f"its files couldn't be unpacked (exit code {begun.exit_code}); does its image have tar?"
    if pod.status.reason or pod.status.message:
        return f"{pod.status.reason}: {pod.status.message}".strip(": ")
    if end is not None and end.reason not in ("Completed", "Error", ""):
        return f"{end.reason}: exit code {end.exit_code}"
    return ""


def _placed_ms(pod: SeenPod) -> int | None:
    for row in pod.status.conditions or ():
        if row.type == SCHEDULED and row.status == "True":
            return moment_ms(row.last_transition_time)
    return moment_ms(pod.status.start_time)
