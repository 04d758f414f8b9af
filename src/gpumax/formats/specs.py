"""A workload as submitted: made of the fields of a workload file, and written back."""

from __future__ import annotations

import os.path
from collections.abc import Collection
from typing import Final

from gpumax.formats.affinity import dump_affinity
from gpumax.formats.requests import dump_request
from gpumax.formats.scalars import write_duration
from gpumax.formats.shape import Wrongs, show
from gpumax.formats.snapshot_shapes import CLASSES, MOST_TASKS, Row
from gpumax.formats.workload_shapes import Resources
from gpumax.model.spec import Checkpoint, GroupSpec, WorkloadSpec
from gpumax.model.workload import NON_PREEMPTIBLE_FROM, Document, Request
from gpumax.units import format_memory

_NOTHING: Final = Resources(Request())
_AS_THEY_ARE: Final = (
    "image", "env", "secrets", "setup", "max_duration_ms", "grace_ms", "retries", "checkpoint",
    "labels",
)  # fmt: skip
_PASSED_DOWN: Final = ("tasks", "resources", "run", "affinity")


def build_spec(
    row: Row, name: str, project: str, base: str, wrongs: Wrongs, unread: Collection[str] = ()
) -> WorkloadSpec:
    """The workload of the fields that were read; of no use where `wrongs` got new entries.

    unread: fields that are there and could not be read; nobody is told that they are missing.
    """
    priority = _priority(row.get("priority", "normal"), wrongs)
    _check_secrets(row, wrongs)
    return WorkloadSpec(
        name=name,
        project=project,
        groups=_groups(row, wrongs, unread),
        priority=priority,
        preemptible=row.get("preemptible", priority < NON_PREEMPTIBLE_FROM),
        workdir=os.path.normpath(os.path.join(base, row.get("workdir", "."))),
        **{key: row[key] for key in _AS_THEY_ARE if key in row},
    )


def _priority(written: int | str, wrongs: Wrongs) -> int:
    if not isinstance(written, str):
        return written
    if written not in CLASSES:
        wrongs.add(("priority",), show(written), f"a number or one of {', '.join(CLASSES)}", written, CLASSES)
    return CLASSES.get(written, 0)


def _check_secrets(row: Row, wrongs: Wrongs) -> None:
    written = {
        *row.get("env", {}),
        *(name for group in row.get("groups", ()) for name in group.get("env", {})),
    }
    for index, name in enumerate(row.get("secrets", ())):
        if name in written:
            wrongs.add(
                ("secrets", index), f"{name}, which is in env, too", "either the secret or the variable"
            )


def _groups(row: Row, wrongs: Wrongs, unread: Collection[str]) -> tuple[GroupSpec, ...]:
    written: tuple[Row, ...] = row.get("groups", ({"name": ""},))
    groups = []
    names: set[str] = set()
    for index, own in enumerate(written):
        path = ("groups", index) if "groups" in row else ()
        # env and labels are not passed down: a task gets the workload's and its group's.
        group: Row = {**{key: row[key] for key in _PASSED_DOWN if key in row}, **own}
        if "run" not in group and not {"run", "groups"} & set(unread):
            wrongs.add((*path, "run"), "nothing", "run: the command, here or for the whole workload")
        if own["name"] in names:
            wrongs.add((*path, "name"), f"{show(own['name'])} twice", "each group once")
        names.add(own["name"])
        least, most = group.get("tasks", (1, 1))
        resources: Resources = group.get("resources", _NOTHING)
        groups.append(
            GroupSpec(
                own["name"],
                least,
                most,
                resources.request,
                group.get("run", ""),
                own.get("env", {}),
                resources.shm_mib,
                own.get("labels", {}),
                group.get("affinity"),
                resources.swap,
                resources.strict,
            )
        )
    total = sum(group.max for group in groups)
    if total > MOST_TASKS:
        wrongs.add(("groups",), f"{total:,} tasks in all", f"at most {MOST_TASKS:,}")
    return tuple(groups)


def dump_spec(spec: WorkloadSpec) -> Document:
    """The workload file of a workload, every default written out; loading it gives an equal workload."""
    alone = len(spec.groups) == 1 and not spec.groups[0].name
    document: Document = {
        "name": spec.name,
        "kind": spec.kind,
        "project": spec.project,
        "priority": spec.priority,
        "preemptible": spec.preemptible,
        **(_dump_group(spec.groups[0]) if alone else {}),
        "workdir": spec.workdir,
    }
    unset: Document = {
        "image": spec.image,
        "env": dict(sorted({**spec.env, **(spec.groups[0].env if alone else {})}.items())),
        "secrets": list(spec.secrets),
        "setup": spec.setup,
        "labels": dict(sorted({**spec.labels, **(spec.groups[0].labels if alone else {})}.items())),
    }
    document.update({key: value for key, value in unset.items() if value})
    if spec.max_duration_ms is not None:
        document["max_duration"] = write_duration(spec.max_duration_ms)
    document["grace"] = write_duration(spec.grace_ms)
    document["retries"] = {"max": spec.retries}
    if spec.checkpoint is not None:
        document["checkpoint"] = _dump_checkpoint(spec.checkpoint)
    if not alone:
        document["groups"] = [
            {
                "name": group.name,
                **_dump_group(group),
                **({"env": dict(sorted(group.env.items()))} if group.env else {}),
                **({"labels": dict(sorted(group.labels.items()))} if group.labels else {}),
            }
            for group in spec.groups
        ]
    return document


def _dump_group(group: GroupSpec) -> Document:
    resources = dump_request(group.request)
    if group.shm_mib:
        resources["shm"] = format_memory(group.shm_mib)
    if group.swap:
        resources["swap"] = True
    if group.strict:
        resources["mode"] = "strict"
    return {
        "tasks": group.max if group.min == group.max else {"min": group.min, "max": group.max},
        "resources": resources,
        "run": group.run if isinstance(group.run, str) else list(group.run),
        **({"affinity": dump_affinity(group.affinity)} if group.affinity is not None else {}),
    }


def _dump_checkpoint(checkpoint: Checkpoint) -> Document:
    document: Document = {}
    if checkpoint.path:
        document["path"] = checkpoint.path
    if checkpoint.every_ms is not None:
        document["every"] = write_duration(checkpoint.every_ms)
    return document
