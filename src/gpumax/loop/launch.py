"""What it takes to start one task: its command, and the environment that launchers know. Pure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.workload import HOLDING, DeviceAsk, DeviceShare
from gpumax.ports.engine import Launch, Part
from gpumax.units import MILLI


class Master(msgspec.Struct, frozen=True):
    """Where the tasks of a run meet."""

    address: str
    port: int


NOWHERE: Final = Master("", 0)
"""For a launch that is asked about and not carried out."""


def launch(
    record: WorkloadRecord, tasks: tuple[TaskRecord, ...], task: TaskRecord, *, data: Path, master: Master
) -> Launch:
    """How to start `task`, which has its place and attempt. tasks: all of the workload, as they are with this start."""
    spec = record.spec
    group = next(group for group in spec.groups if group.name == task.group)
    checkpoints = checkpoint_dir(record, data)
    ours = {
        **_ranks(spec, tasks, task),
        "GPUMAX_WORKLOAD": spec.name,
        "GPUMAX_TASK": task.name,
        "GPUMAX_RUN": record.id,
        "GPUMAX_RESTARTS": str(max(0, record.runs - 1)),
        "GPUMAX_CHECKPOINT_DIR": checkpoints,
    }
    if is_elastic(spec):
        ours["GPUMAX_GANG_FILE"] = str(gang_file(record.id, data))
    return Launch(
        attempt=task.attempt or "",
        task=task.name,
        workload=record.id,
        node=task.node or "",
        devices=task.devices,
        argv=("/bin/sh", "-c", group.run) if isinstance(group.run, str) else group.run,
        workdir=spec.workdir,
        log=os.path.join(data, "logs", record.id, f"{task.index}.log"),
        env={**_meeting(spec, task, master), **spec.env, **group.env, **ours},
        secrets=spec.secrets,
        setup=spec.setup,
        checkpoint_dir=checkpoints,
        cpu_milli=group.request.cpu_milli,
        memory_mib=group.request.memory_mib,
        gpu=_part(group, task),
    )


def _part(group: GroupSpec, task: TaskRecord) -> Part | None:
    """What it gets of its devices; None where it has them whole, or none. Before it has a place, as its first alternative says."""
    asks, held = group.request.gpu, task.devices
    ask = next((each for each in asks if _meets(each, held)), asks[0] if asks else None)
    if ask is None or (ask.milli == MILLI and not ask.memory_mib and not group.swap):
        return None
    return Part(ask.memory_mib, group.request.limit, group.swap, group.strict)


def _meets(ask: DeviceAsk, held: tuple[DeviceShare, ...]) -> bool:
    return ask.devices == len(held) and (bool(ask.memory_mib) or ask.milli == held[0].milli)


def checkpoint_dir(record: WorkloadRecord, data: Path) -> str:
    """Where the workload's tasks keep their checkpoints: a path of theirs, or one in the data directory."""
    written = record.spec.checkpoint.path if record.spec.checkpoint is not None else ""
    if not written:  # by far the most: and this is asked for everybody who waits
        return os.path.join(data, "checkpoints", record.id)
    return str(data / "checkpoints" / record.id / written)  # an absolute path stands for itself


def gang_file(workload_id: str, data: Path) -> Path:
    """The file that tells a workload of several tasks who is placed."""
    return data / "gangs" / f"{workload_id}.json"


def is_elastic(spec: WorkloadSpec) -> bool:
    """Whether the number of its tasks may change while it runs."""
    return any(group.min < group.max for group in spec.groups)


def placed_ranks(tasks: tuple[TaskRecord, ...]) -> list[int]:
    """The ranks that run or are about to."""
    return [task.index for task in tasks if task.state in HOLDING and task.state != "releasing"]


def _ranks(spec: WorkloadSpec, tasks: tuple[TaskRecord, ...], task: TaskRecord) -> dict[str, str]:
    """One task is one process that sees its own devices only, so it is alone on its node as launchers count."""
    world = str(len(placed_ranks(tasks)) if is_elastic(spec) else len(tasks))
    rank = str(task.index)
    return {
        "RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": rank,
        "GROUP_WORLD_SIZE": world,
        "NODE_RANK": rank,
    }


def _meeting(spec: WorkloadSpec, task: TaskRecord, master: Master) -> dict[str, str]:
    """Where the tasks meet, also in the words of torchrun; a user's own settings win over these."""
    most = sum(group.max for group in spec.groups)
    nodes = f"{sum(group.min for group in spec.groups)}:{most}" if is_elastic(spec) else str(most)
    port = str(master.port)
    return {
        "MASTER_ADDR": master.address,
        "MASTER_PORT": port,
        "PET_NNODES": nodes,
        "PET_NODE_RANK": str(task.index),
        "PET_NPROC_PER_NODE": str(max(1, len(task.devices))),
        "PET_MASTER_ADDR": master.address,
        "PET_MASTER_PORT": port,
    }
