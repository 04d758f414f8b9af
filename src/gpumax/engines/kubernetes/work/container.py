"""The container of a task: its command and the environment that launchers know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.spec import GroupSpec
from gpumax.model.workload import DeviceShare
from gpumax.ports.engine import Launch

MAIN: Final = "main"
"""The name of the container that the command runs in."""
PORT: Final = 29500
"""Where tasks meet, as torchrun has it: each task has an address of its own, so it is free."""
SECRETS: Final = "gpumax-secrets"
"""The Secret of the namespace that has the secrets of workload files, by their names."""
CHECKPOINTS: Final = "gpumax-checkpoints"
"""The PersistentVolumeClaim of the namespace that keeps checkpoints."""
ROOT: Final = Path("/gpumax")
"""Where a container finds what we bring along."""
HOME: Final = "/tmp"  # noqa: S108 - of the container
"""Of users whom the image doesn't know: their own would be `/`, where they may not write."""
DEFAULT_IMAGE: Final = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
"""Of workloads that name no image: the Python of whoever submits."""
INDEX: Final = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
_RANKS: Final = ("RANK", "GROUP_RANK", "NODE_RANK", "PET_NODE_RANK")
_OTHERWISE: Final = frozenset((*_RANKS, "GPUMAX_TASK", "GPUMAX_RESTARTS", "GPUMAX_CHECKPOINT_DIR"))
"""What a launch says and a cluster can't, or says otherwise."""

_SETUP: Final = '/bin/sh -c "$0" || { code=$?; echo "gpumax: its setup failed with exit code $code" >&2; exit $code; }; exec "$@"'


def first_task(tasks: tuple[TaskRecord, ...], group: GroupSpec) -> TaskRecord:
    """The first task of a group, with the devices that it will have as its container counts them."""
    asked = group.request.gpu[0].devices if group.request.gpu else 0
    task = next(task for task in tasks if task.group == group.name)
    return replace(task, devices=tuple(DeviceShare(index, 1000) for index in range(asked)))


def container(
    record: WorkloadRecord, group: GroupSpec, rank: int, told: Launch, *, keeps: bool, confined: bool = False
) -> dict[str, Any]:
    """Command and environment of the tasks of a group. rank: of the first of them, which `told` says how to start; keeps: there is a
    claim for checkpoints; confined: it runs as nobody whom its image knows.
    """
    spec = record.spec
    written = {**spec.env, **group.env}
    argv = told.argv
    if rank:
        argv = ("/bin/sh", "-c", _shifted(spec.name, rank, written), *argv)
    if spec.setup:
        argv = ("/bin/sh", "-c", _SETUP, spec.setup, *argv)
    env = [] if rank else list(_ranks(spec.name, written))
    env += [
        {"name": name, "value": literal(value)}
        for name, value in sorted(told.env.items())
        if name in written or name not in _OTHERWISE
    ]
    if keeps:
        env.append({"name": "GPUMAX_CHECKPOINT_DIR", "value": literal(str(_checkpoints(record)))})
    usual = {"PYTHONUNBUFFERED": "1", **({"HOME": HOME} if confined else {})}
    env += [{"name": name, "value": value} for name, value in usual.items() if name not in written]
    env += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRETS, "key": name}}} for name in spec.secrets
    ]
    return {
        "name": MAIN,
        "image": spec.image or DEFAULT_IMAGE,
        "command": [literal(word) for word in argv],
        "env": env,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            **({"capabilities": {"drop": ["ALL"]}} if confined else {}),
        },
    }


def _ranks(name: str, written: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Of the first group, whose ranks are the indexes of its Job."""
    yield {"name": "RANK", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}}
    yield from ({"name": rank, "value": "$(RANK)"} for rank in _RANKS[1:] if rank not in written)
    yield {"name": "GPUMAX_TASK", "value": f"{name}-$(RANK)"}


def literal(text: str) -> str:
    """Text that Kubernetes passes on as it is: `$(NAME)` is a variable to it, and `$$` one dollar."""
    return text.replace("$", "$$")


def _checkpoints(record: WorkloadRecord) -> Path:
    """Where tasks keep their checkpoints: below ours, unless the path is absolute."""
    written = record.spec.checkpoint.path if record.spec.checkpoint is not None else ""
    return ROOT / "checkpoints" / written


def _shifted(name: str, offset: int, written: dict[str, str]) -> str:
    """A shell line that makes ranks of the indexes of a group that doesn't come first, and becomes the command."""
    ranks = " ".join(f"{rank}=$r" for rank in _RANKS if rank not in written)
    return f'r=$(($JOB_COMPLETION_INDEX+{offset})); export {ranks} GPUMAX_TASK={name}-$r; exec "$0" "$@"'


def checkpoint_volume(record: WorkloadRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume that keeps checkpoints, and where a container has it: each workload sees its own directory alone."""
    volume = {"name": "checkpoints", "persistentVolumeClaim": {"claimName": CHECKPOINTS}}
    base = ROOT / "checkpoints"
    path = _checkpoints(record)
    where = base if path.is_relative_to(base) else path
    mount = {"name": "checkpoints", "mountPath": str(where), "subPath": record.id}
    return volume, mount


def own_labels(record: WorkloadRecord) -> dict[str, str]:
    """By which all objects of a workload are found."""
    return {keys.WORKLOAD: record.name, keys.RUN: record.id}
