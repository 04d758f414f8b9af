"""A workload as a JobSet, where a cluster has those: it starts all Jobs of a gang again where one fails, which a Job can't of its own tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.documents import at, rows, text
from gpumax.engines.kubernetes.views import Condition, Meta, Owner, Part
from gpumax.engines.kubernetes.work.views import Job, JobStatus

MEMBER: Final = "task"
"""What the Job of a workload without groups is called within its set."""


class JobSetStatus(Part, frozen=True, rename="camel", gc=False):
    """How a JobSet is."""

    conditions: tuple[Condition, ...] | None = ()
    restarts: int = 0


class JobSet(Part, frozen=True, rename="camel", gc=False):
    """A JobSet; any field of its spec may be asked."""

    metadata: Meta = Meta()
    spec: Any = None
    status: JobSetStatus = JobSetStatus()


JOB_SETS: Final = Kind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", JobSet)


def set_body(meta: dict[str, Any], jobs: Sequence[dict[str, Any]], retries: int) -> dict[str, Any]:
    """The object, suspended. meta: its own, with what is written on the first Job otherwise; jobs: what it makes."""
    return {
        "apiVersion": JOB_SETS.api_version,
        "kind": JOB_SETS.name,
        "metadata": meta,
        "spec": {
            "suspend": True,
            # Tasks find each other by the Service that they have with Jobs alone, too.
            "network": {"enableDNSHostnames": False},
            "failurePolicy": {"maxRestarts": retries},
            "replicatedJobs": [_replicated(meta["name"], job) for job in jobs],
        },
    }


def _replicated(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """One Job of it. Whether one of its tasks starts again is the set's to say, and whether it's suspended."""
    spec = {key: value for key, value in job["spec"].items() if key != "suspend"}
    meta = {key: value for key, value in job["metadata"].items() if key != "name"}
    member = job["metadata"]["name"].removeprefix(f"{name}-").removesuffix("-0")
    return {
        "name": member,
        "replicas": 1,
        "template": {"metadata": meta, "spec": {**spec, "backoffLimit": 0}},
    }


def is_ours(made: JobSet) -> bool:
    """Whether it was made of a workload file."""
    labels = made.metadata.labels or {}
    return bool(labels.get(keys.WORKLOAD) and labels.get(keys.RUN))


def jobs_of(made: JobSet, there: Iterable[Job]) -> list[Job]:
    """Its Jobs in the order of their ranks, as if nobody but we had made them; those that aren't there yet, or for now, too.

    What stands on the set counts for all of them: a Job that failed is none that has failed as long as the set starts it again.
    """
    known = {job.metadata.name: job for job in there}
    ends = {row.type: row for row in made.status.conditions or () if row.status == "True"}
    found = []
    for index, member in enumerate(rows(made.spec, "replicatedJobs")):
        name = f"{made.metadata.name}-{text(member, 'name')}-0"
        job = known.get(name) or _absent(made, name, member)
        spec = {
            **(job.spec if isinstance(job.spec, dict) else {}),
            "suspend": at(made.spec, "suspend") is True,
        }
        conditions = tuple(_conditions(job, ends))
        status = replace(job.status, conditions=conditions, failed=0 if index else made.status.restarts)
        found.append(Job(_meta(made, job), spec, status))
    return found


def _absent(made: JobSet, name: str, member: object) -> Job:
    """The Job that isn't there."""
    meta = at(member, "template", "metadata") or {}
    owner = Owner(JOB_SETS.name, made.metadata.name, made.metadata.uid, JOB_SETS.api_version, controller=True)
    labels, annotations = at(meta, "labels") or {}, at(meta, "annotations") or {}
    return Job(
        Meta(
            name,
            made.metadata.namespace,
            "",
            labels=labels,
            annotations=annotations,
            owner_references=(owner,),
        ),
        at(member, "template", "spec") or {},
        JobStatus(),
    )


def _meta(made: JobSet, job: Job) -> Meta:
    own, whole = job.metadata, made.metadata
    return replace(
        own,
        annotations={**(own.annotations or {}), **(whole.annotations or {})},
        creation_timestamp=whole.creation_timestamp,
        deletion_timestamp=whole.deletion_timestamp,
    )


def _conditions(job: Job, ends: dict[str, Condition]) -> Iterator[Condition]:
    """Those of the Job; how the set ended instead of how the Job did."""
    for kind, said in (("Complete", "Completed"), ("Failed", "Failed")):
        if said in ends:
            yield replace(ends[said], type=kind)
            return
    yield from (row for row in job.status.conditions or () if row.type not in ("Failed", "FailureTarget"))
