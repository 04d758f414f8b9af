"""What a person wrote in a workload file, checked and with every default filled in."""

from __future__ import annotations

from typing import Literal

import msgspec

from gpumax.model.workload import Affinity, Preemptible, Request

Kind = Literal["training", "sweep", "workspace", "inference"]


class GroupSpec(msgspec.Struct, frozen=True):
    """Tasks that are alike. min < max: elastic. run: a shell line, or an argv. labels: beside the workload's, before them.

    swap: memory of its devices may be moved to host memory while others have their turn, so that limits may exceed a device.
    strict: of its parts' time exactly the share, also where a device would be idle otherwise.
    """

    name: str
    min: int
    max: int
    request: Request
    run: str | tuple[str, ...]
    env: dict[str, str] = {}
    shm_mib: int = 0
    labels: dict[str, str] = {}
    affinity: Affinity | None = None
    swap: bool = False
    strict: bool = False


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the program keeps what it needs to go on, and how often it writes it."""

    path: str = ""
    every_ms: int | None = None


class WorkloadSpec(msgspec.Struct, frozen=True):
    """A workload as submitted. groups is never empty; workdir is absolute; setup runs before `run` in every task."""

    name: str
    project: str
    groups: tuple[GroupSpec, ...]
    kind: Kind = "training"
    priority: int = 50
    preemptible: Preemptible = True
    workdir: str = "/"
    image: str = ""
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    setup: str = ""
    max_duration_ms: int | None = None
    grace_ms: int = 30_000
    retries: int = 0
    checkpoint: Checkpoint | None = None
    labels: dict[str, str] = {}
