"""A workload becomes objects of a cluster: a Job for each of its groups, and what these need beside them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import GANGS
from gpumax.engines.kubernetes.work.container import (
    ROOT,
    checkpoint_volume,
    container,
    literal,
    own_labels,
)
from gpumax.engines.kubernetes.work.gpus import Gpus, gpus
from gpumax.engines.kubernetes.work.job_sets import JOB_SETS, MEMBER, set_body
from gpumax.engines.kubernetes.work.views import JOBS, SECRETS, SERVICES
from gpumax.formats.affinity import dump_affinity
from gpumax.formats.snapshot_shapes import CLASSES
from gpumax.formats.workload import dump_spec
from gpumax.model.names import natural
from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.ports.engine import Launch

LONGEST_LABEL: Final = 63
USER: Final = 1000
"""As whom pods run where they may not run as root: whoever it is, images don't mind."""
PACKED: Final = "workdir.tar.gz"
_CLASS_OF: Final = {number: name for name, number in CLASSES.items() if name != "train"}
_PREEMPTIBLE: Final = {True: "true", False: "false", "semi": "semi"}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

Document = dict[str, Any]


class Item(NamedTuple):
    """An object to create."""

    kind: Kind[Any]
    body: Document

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["metadata"]["name"])


class Bundle(NamedTuple):
    """The objects of one workload. The first that is made owns all others: they go when it goes. whole: a JobSet that makes the Jobs."""

    jobs: tuple[Item, ...]
    others: tuple[Item, ...]
    whole: Item | None = None

    @property
    def made(self) -> tuple[Item, ...]:
        """What is made suspended: the Jobs, or the set that makes them."""
        return self.jobs if self.whole is None else (self.whole,)


class Files(NamedTuple):
    """packed: some are brought along; ours: the directory that they would be in is the submitter's, not the image's."""

    packed: bool
    ours: bool


class Confined(NamedTuple):
    """How pods of a namespace run that takes no others than those of the profile `restricted` of pod security.

    user: as whom, since images' own is root as a rule; None where the cluster chooses one itself.
    """

    user: int | None = USER


class Ground(NamedTuple):
    """What of the cluster decides how objects look. labels: of nodes, as far as they may be seen; keeps: a claim for checkpoints.

    secrets: names of those that the namespace has; None where nobody asked, or that may not be seen; sets: JobSets may be made.
    """

    scheduler: str
    labels: Sequence[Mapping[str, str]] = ()
    keeps: bool = False
    secrets: frozenset[str] | None = None
    confined: Confined | None = None
    sets: bool = False


def in_set(spec: WorkloadSpec, ground: Ground) -> bool:
    """Whether its Jobs are made by a set: that ends all of them, or starts all again, where a task fails; Jobs know nothing of each other."""
    many = sum(group.max for group in spec.groups) > 1
    return ground.sets and (len(spec.groups) > 1 or (many and bool(spec.retries)))


def bundle(
    record: WorkloadRecord,
    tasks: tuple[TaskRecord, ...],
    launches: Mapping[str, Launch],
    ground: Ground,
    packed: bytes = b"",
    *,
    brings: bool = False,
) -> Bundle:
    """The objects, Jobs suspended: pods come when everything is there. `unfit` has nothing against the workload.

    launches: how the first task of each group starts, by the group's name. brings: its directory is here, though there may be no file in it; else it is one of the image.
    """
    spec = record.spec
    files = Files(bool(packed), brings)
    jobs = tuple(_job(record, tasks, group, launches[group.name], ground, files) for group in spec.groups)
    whole = _whole(record, jobs) if in_set(spec, ground) else None
    others = []
    if len(tasks) > 1:
        others.append(Item(SERVICES, _service(record)))
    if len(spec.groups) > 1 and whole is None:
        others.append(Item(GANGS, _gang(record)))
    if packed:
        data = {PACKED: base64.b64encode(packed).decode()}
        meta = _meta(record, f"{spec.name}-files")
        others.append(
            Item(
                SECRETS,
                {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "immutable": True, "data": data},
            )
        )
    return Bundle(jobs, tuple(others), whole)


def _whole(record: WorkloadRecord, jobs: Sequence[Item]) -> Item:
    """The set of these Jobs. What was submitted stands on it instead of the first of them."""
    first = jobs[0].body["metadata"]["annotations"]
    meta = {**_meta(record, record.name), "annotations": {keys.FILE: first.pop(keys.FILE)}}
    return Item(JOB_SETS, set_body(meta, [job.body for job in jobs], record.spec.retries))


def service_name(workload: str) -> str:
    """Of the Service that gives tasks their names; Services begin with a letter."""
    return workload if workload[:1].isalpha() else f"w-{workload}"


def meeting(spec: WorkloadSpec, ground: Ground) -> str:
    """The name of rank 0, where all tasks meet."""
    if sum(group.max for group in spec.groups) == 1:
        return "localhost"
    return f"{job_name(spec, spec.groups[0], ground)}-0.{service_name(spec.name)}"


def job_name(spec: WorkloadSpec, group: GroupSpec, ground: Ground) -> str:
    """Of the Job of a group."""
    if in_set(spec, ground):
        return f"{spec.name}-{group.name or MEMBER}-0"
    return f"{spec.name}-{group.name}" if group.name else spec.name


def _meta(record: WorkloadRecord, name: str) -> Document:
    return {"name": name, "labels": own_labels(record)}


def _service(record: WorkloadRecord) -> Document:
    """Without an address of its own: each task gets a name, from the moment on when it has an address."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(record, service_name(record.name)),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {keys.RUN: record.id}},
    }


def _gang(record: WorkloadRecord) -> Document:
    groups = sorted(record.spec.groups, key=lambda group: natural(group.name))
    return {
        "apiVersion": GANGS.api_version,
        "kind": GANGS.name,
        "metadata": _meta(record, record.name),
        "spec": {"groups": [{"name": group.name, "min": group.min} for group in groups]},
    }


def _job(
    record: WorkloadRecord,
    tasks: tuple[TaskRecord, ...],
    group: GroupSpec,
    told: Launch,
    ground: Ground,
    files: Files,
) -> Item:
    spec = record.spec
    first = next(task.index for task in tasks if task.group == group.name)
    annotations = {keys.FIRST_RANK: str(first)}
    if group is spec.groups[0]:
        annotations[keys.FILE] = msgspec.json.encode(dump_spec(spec)).decode()
    body = {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.name,
        "metadata": {**_meta(record, job_name(spec, group, ground)), "annotations": annotations},
        "spec": {
            "suspend": True,
            "completionMode": "Indexed",
            "completions": group.max,
            "parallelism": group.max,
            "backoffLimit": spec.retries,
            # An eviction is no failure of the task's own.
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
                ]
            },
            "template": _template(record, tasks, group, told, ground, files),
        },
    }
    return Item(JOBS, body)


def _template(
    record: WorkloadRecord,
    tasks: tuple[TaskRecord, ...],
    group: GroupSpec,
    told: Launch,
    ground: Ground,
    files: Files,
) -> Document:
    spec = record.spec
    asked = gpus(group, ground.labels)
    annotations = dict(asked.annotations)
    labels = {
        **spec.labels, **group.labels, **own_labels(record),
        keys.PRIORITY[0]: _CLASS_OF[spec.priority], keys.PREEMPTIBLE[0]: _PREEMPTIBLE[spec.preemptible],
    }  # fmt: skip
    # Names of queues may be longer than labels.
    (labels if len(spec.project) <= LONGEST_LABEL else annotations)[keys.QUEUE[0]] = spec.project
    if len(spec.groups) > 1 and not in_set(spec, ground):
        labels |= {keys.GANG[0]: spec.name, keys.GROUP[0]: group.name}
    service = service_name(spec.name)
    rank = next(task.index for task in tasks if task.group == group.name)
    main = container(record, group, rank, told, keeps=ground.keeps, confined=ground.confined is not None)
    main["resources"] = _resources(group, asked)
    pod: Document = {
        "schedulerName": ground.scheduler,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": -(-spec.grace_ms // 1000),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **_user(ground.confined)},
        "containers": [main],
    }
    if len(tasks) > 1:
        pod["subdomain"] = service
    if spec.max_duration_ms is not None:
        pod["activeDeadlineSeconds"] = -(-spec.max_duration_ms // 1000)
    if affinity := _affinity(group, asked):
        pod["affinity"] = affinity
    _add_volumes(pod, record, group, ground, files)
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}


def _user(confined: Confined | None) -> Document:
    """As whom a pod runs, and whose its volumes are; as its image says where nothing forbids that."""
    if confined is None:
        return {}
    if confined.user is None:
        return {"runAsNonRoot": True}
    own = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), confined.user)
    return {"runAsNonRoot": True, **own, "fsGroupChangePolicy": "OnRootMismatch"}


def _resources(group: GroupSpec, asked: Gpus) -> Document:
    """Memory is a bound, too, as on one machine; cores are no bound there, and none here."""
    requests, limits = {}, dict(asked.limits)
    if group.request.cpu_milli:
        requests["cpu"] = f"{group.request.cpu_milli}m"
    if group.request.memory_mib:
        requests["memory"] = limits["memory"] = f"{group.request.memory_mib}Mi"
    limits |= {name: str(amount) for name, amount in group.request.extended.items()}
    return {name: part for name, part in (("requests", requests), ("limits", limits)) if part}


def _affinity(group: GroupSpec, asked: Gpus) -> Document:
    """The file's affinity, and the models: each of its terms with each of the models'."""
    written = dump_affinity(group.affinity) if group.affinity is not None else {}
    if not asked.terms and not asked.preferred:
        return written
    node = dict(written.get("nodeAffinity", {}))
    if asked.terms:
        own = node.get(_REQUIRED, {}).get("nodeSelectorTerms", [{}])
        both = [_both(term, model) for term in own for model in asked.terms]
        node[_REQUIRED] = {"nodeSelectorTerms": both}
    if asked.preferred:
        more = [{"weight": weight, "preference": term} for weight, term in asked.preferred]
        node[_PREFERRED] = [*node.get(_PREFERRED, []), *more]
    return {**written, "nodeAffinity": node}


def _both(term: Document, model: Document) -> Document:
    return {**term, "matchExpressions": [*term.get("matchExpressions", []), *model["matchExpressions"]]}


def _add_volumes(
    pod: Document, record: WorkloadRecord, group: GroupSpec, ground: Ground, files: Files
) -> None:
    """Shared memory, checkpoints, and the files that were brought along, which are unpacked before the command begins."""
    main, volumes, mounts = pod["containers"][0], [], []
    if group.shm_mib:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{group.shm_mib}Mi"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - of the container
    if ground.keeps:
        volume, mount = checkpoint_volume(record)
        volumes.append(volume)
        mounts.append(mount)
    if files.packed:
        where = ROOT / "workdir"
        volumes += [
            {"name": "files", "secret": {"secretName": f"{record.name}-files"}},
            {"name": "workdir", "emptyDir": {}},
        ]
        unpack = {"name": "workdir", "mountPath": str(where)}
        mounts.append(unpack)
        main["workingDir"] = str(where)
        pod["initContainers"] = [
            {
                "name": "unpack",
                "image": main["image"],
                "command": ["tar", "-xzf", str(ROOT / "files" / PACKED), "-C", str(where)],
                "volumeMounts": [unpack, {"name": "files", "mountPath": str(ROOT / "files")}],
                "securityContext": main["securityContext"],
            }
        ]
    elif not files.ours:
        main["workingDir"] = literal(str(PurePosixPath(record.spec.workdir)))
    if volumes:
        pod["volumes"], main["volumeMounts"] = volumes, mounts
