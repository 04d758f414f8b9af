"""What a workload file says and a cluster can't honour: told in words, all of it at once, before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.work.container import SECRETS
from gpumax.engines.kubernetes.work.gpus import gpus
from gpumax.engines.kubernetes.work.manifest import Ground, job_name, service_name
from gpumax.errors import Fault
from gpumax.formats.lines import format_path
from gpumax.formats.shape import Bad
from gpumax.formats.snapshot_shapes import CLASSES
from gpumax.model.spec import GroupSpec, WorkloadSpec

LONGEST: Final = 63
"""The most characters of a name that a machine has."""
MOST_NAMES: Final = 8
"""Of secrets that are told."""
_RESERVED: Final = frozenset(
    name
    for meanings in vars(keys).values()
    if isinstance(meanings, tuple)
    for name in meanings
    if isinstance(name, str)
)


def unfit(spec: WorkloadSpec, ground: Ground) -> list[Fault]:
    """Every fault; none where `bundle` says all of the workload."""
    return [*_whole(spec, ground), *(fault for group in spec.groups for fault in _group(spec, group, ground))]


def _whole(spec: WorkloadSpec, ground: Ground) -> Iterator[Fault]:
    count = sum(group.max for group in spec.groups)
    if spec.priority not in CLASSES.values():
        names = ", ".join(f"{name} ({number})" for name, number in CLASSES.items())
        yield Fault(
            "priority", None, str(spec.priority), f"a class: {names}; on a cluster each priority is one"
        )
    if spec.retries and count > 1 and not ground.sets:
        wanted = (
            "retries of workloads of one task, or a cluster with JobSet (jobset.x-k8s.io): a Job starts one task again, and not all "
            "tasks together"
        )
        yield Fault("retries", None, f"{spec.retries} for {count} tasks", wanted)
    if spec.retries and spec.max_duration_ms is not None:
        wanted = "one of the two: a Job starts again what its max_duration ended"
        yield Fault("retries", None, f"{spec.retries} beside max_duration", wanted)
    if spec.checkpoint is not None and not ground.keeps:
        wanted = "the claim gpumax-checkpoints in the namespace (a PersistentVolumeClaim), where checkpoints stay when pods go"
        yield Fault("checkpoint", None, "no place that outlives a pod", wanted)
    yield from _secrets(spec, ground)
    for key in sorted({*spec.labels, *(key for group in spec.groups for key in group.labels)}):
        if key in _RESERVED or key.startswith(
            (f"{keys.OWN}/", "batch.kubernetes.io/", "job-name", "controller-uid")
        ):
            yield Fault(
                format_path(("labels", key)),
                None,
                "a label that means something to the scheduler",
                "another name",
            )


def _secrets(spec: WorkloadSpec, ground: Ground) -> Iterator[Fault]:
    """Those that aren't there: a container that needs one never begins, and keeps its GPUs all the while."""
    if ground.secrets is None:
        return
    names = sorted(ground.secrets)
    there = ", ".join(names[:MOST_NAMES]) + (
        f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    )
    if there:
        wanted = f"a key of the Secret {SECRETS} of the namespace, which has {there}; `kubectl edit secret {SECRETS}` adds one"
    else:
        wanted = f"the Secret {SECRETS} in the namespace; `kubectl create secret generic {SECRETS} --from-env-file=FILE` makes it of lines NAME=VALUE"
    for index, name in enumerate(spec.secrets):
        if name not in ground.secrets:
            yield Fault(format_path(("secrets", index)), None, name, wanted)


def _group(spec: WorkloadSpec, group: GroupSpec, ground: Ground) -> Iterator[Fault]:
    at = ("groups", spec.groups.index(group)) if group.name else ()
    if group.min != group.max:
        wanted = "a number: on a cluster nobody tells the program yet that its number of tasks changed"
        yield Fault(format_path((*at, "tasks")), None, f"{group.min} to {group.max}", wanted)
    try:
        gpus(group, ground.labels)
    except Bad as bad:
        for wrong in bad.wrongs:
            yield Fault(format_path((*at, "resources", *wrong.path)), None, wrong.found, wrong.wanted)
    name = job_name(spec, group, ground)
    longest = max(len(f"{name}-{group.max - 1}"), len(service_name(spec.name)), len(f"{spec.name}-files"))
    if longest > LONGEST:
        wanted = (
            f"a name that is {longest - LONGEST} characters shorter: tasks are called by it and their number"
        )
        yield Fault("name", None, spec.name, wanted)
