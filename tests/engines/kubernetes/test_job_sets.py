"""Workloads whose tasks start again together are made as a JobSet, where a cluster has those, and read back from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engines.kubernetes.test_work import made, scheduled, spec_of, variables
from gpumax.apps.kubernetes.create import New
from gpumax.apps.kubernetes.site import works
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.work.job_sets import JobSet
from gpumax.engines.kubernetes.work.manifest import Ground
from gpumax.engines.kubernetes.work.records import Work, read
from gpumax.engines.kubernetes.work.unfit import unfit
from gpumax.engines.kubernetes.work.views import Job
from gpumax.model.spec import WorkloadSpec

SETS = Ground("gpumax", sets=True)
GROUPS = [{"name": "leader", "tasks": 1}, {"name": "worker", "tasks": 2, "resources": {"gpu": 1}}]


def again(**fields: Any) -> WorkloadSpec:
    """A workload of several tasks that starts again after failures."""
    return spec_of(**{"tasks": 2, "retries": {"max": 3}, **fields})


def there(new: New, jobs: list[Job] = [], **status: Any) -> Work:  # noqa: B006 - never changed
    """The workload as a cluster shows it."""
    assert new.objects.whole is not None
    body = new.objects.whole.body
    meta = {**body["metadata"], "uid": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}
    whole = msgspec.convert({**body, "metadata": meta, "status": status}, JobSet)
    (work,) = works(jobs, (), (), "gpumax", [whole])
    return work


def member(new: New, index: int = 0, **status: Any) -> Job:
    """A Job as the set's controller makes it."""
    assert new.objects.whole is not None
    template = new.objects.whole.body["spec"]["replicatedJobs"][index]["template"]
    owner = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "name": "w",
        "uid": "s",
        "controller": True,
    }
    meta = {
        **template["metadata"],
        "name": new.objects.jobs[index].name,
        "uid": f"j{index}",
        "ownerReferences": [owner],
    }
    return msgspec.convert(
        {"metadata": meta, "spec": {**template["spec"], "suspend": False}, "status": status}, Job
    )


def test_work_that_starts_again_as_a_whole_is_a_set() -> None:
    """One failure fails its Job, so that the set starts all of it again; an eviction is none. Suspended until all is there."""
    new = made(again(), SETS)
    assert [item.kind.name for item in (*new.objects.made, *new.objects.others)] == ["JobSet", "Service"]
    spec = new.objects.made[0].body["spec"]
    assert spec["suspend"] is True
    assert spec["failurePolicy"] == {"maxRestarts": 3}
    (one,) = spec["replicatedJobs"]
    assert (one["name"], one["replicas"]) == ("task", 1)
    job = one["template"]["spec"]
    assert (job["backoffLimit"], job["completions"], "suspend" in job) == (0, 2, False)
    assert job["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    # Its own Service gives the tasks their names; pods of Jobs are called JOB-INDEX.
    assert spec["network"] == {"enableDNSHostnames": False}
    assert variables(new)["MASTER_ADDR"] == "w-task-0-0.w"


@pytest.mark.parametrize("fields", [{"retries": None}, {"tasks": 1}])
def test_other_work_needs_no_set(fields: dict[str, Any]) -> None:
    """Of one group, and whose end is the end: Jobs are everywhere."""
    new = made(again(**fields), SETS)
    assert [item.kind.name for item in new.objects.made] == ["Job"]


def test_groups_end_together() -> None:
    """Where one fails the others would wait for it on their GPUs."""
    new = made(spec_of(groups=GROUPS), SETS)
    assert [item.kind.name for item in (*new.objects.made, *new.objects.others)] == ["JobSet", "Service"]
    assert new.objects.made[0].body["spec"]["failurePolicy"] == {"maxRestarts": 0}


def test_a_set_is_one_gang() -> None:
    """The scheduler finds its minimum from the set, group by group."""
    workload = scheduled(made(again(), SETS))
    assert (workload.name, [group.min for group in workload.groups]) == ("ns/jobset/w", [2])
    workload = scheduled(made(again(tasks=None, groups=GROUPS), SETS))
    assert [(group.name, group.min) for group in workload.groups] == [("leader", 1), ("worker", 2)]
    assert sorted(task.group for task in workload.tasks) == ["leader", "worker", "worker"]


def test_without_sets_it_is_refused_in_words() -> None:
    """And what would help is said."""
    (fault,) = unfit(again(), Ground("gpumax"))
    assert (fault.path, "JobSet" in fault.wanted) == ("retries", True)


def test_names_leave_room_for_what_a_set_adds() -> None:
    """Tasks are machines, whose names have an end."""
    assert unfit(again(name="n" * 52), SETS) == []
    assert [fault.path for fault in unfit(again(name="n" * 56), SETS)] == ["name"]


def test_a_set_says_what_was_submitted() -> None:
    """Also before its Jobs are made, and while none of them is there."""
    spec = again(tasks=None, groups=GROUPS, env={"A": "1"})
    new = made(spec, SETS)
    record, tasks = read(there(new))
    assert (record.name, record.id, record.spec) == ("w", new.record.id, spec)
    assert [(task.name, task.group) for task in tasks] == [
        ("w-0", "leader"),
        ("w-1", "worker"),
        ("w-2", "worker"),
    ]
    assert record.state == "suspended"
    record, _ = read(there(new, [member(new, 1)]))
    assert [task.group for task in read(there(new, [member(new, 1)]))[1]] == ["leader", "worker", "worker"]
    assert new.objects.whole is not None
    new.objects.whole.body["spec"]["suspend"] = False
    assert read(there(new))[0].state == "pending"


def test_a_set_that_starts_again_has_not_failed() -> None:
    """One of its Jobs has; how often it began anew is told, and only the set's own word is the end."""
    new = made(again(), SETS)
    assert new.objects.whole is not None
    new.objects.whole.body["spec"]["suspend"] = False
    failed = member(
        new, conditions=[{"type": "Failed", "status": "True", "message": "a pod failed"}], failed=1
    )
    record, _ = read(there(new, [failed], restarts=2))
    assert (record.state, record.failures, record.runs) == ("pending", 2, 2)
    ends = [{"type": "Failed", "status": "True", "message": "no more restarts"}]
    record, _ = read(there(new, [failed], restarts=3, conditions=ends))
    assert (record.state, record.reason) == ("failed", "no more restarts")
    done = [{"type": "Completed", "status": "True"}]
    assert read(there(new, conditions=done))[0].state == "succeeded"


def test_what_is_wished_of_a_set_is_read_of_it() -> None:
    """Stopped for good; a Job of it that goes to be made anew is no wish of anybody's."""
    new = made(again(), SETS)
    assert new.objects.whole is not None
    going = member(new)
    going = msgspec.structs.replace(
        going, metadata=msgspec.structs.replace(going.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    )
    assert read(there(new, [going]))[0].wish == "suspend"
    new.objects.whole.body["metadata"]["annotations"][keys.WISH] = "stop"
    record, _ = read(there(new, [member(new)]))
    assert (record.wish, record.state) == ("stop", "stopped")
