"""What tests of the formats share: documents in, nouns or faults out."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from gpumax.errors import BadFile, Fault
from gpumax.formats.snapshot import load_snapshot
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import Request, Workload

QUEUES = (Queue("default"), Queue("team"), Queue("team-a", parent="team"))


def snapshot(text: str) -> Snapshot:
    """The snapshot of YAML."""
    return load_snapshot(dedent(text))


def workload(fields: str = "", task: str = "") -> Workload:
    """The only workload of a snapshot, with one task; more fields in YAML flow style."""
    return snapshot(
        f"workloads: [{{name: w, queue: q, {fields + ', ' if fields else ''}tasks: [{{name: t{', ' + task if task else ''}}}]}}]"
    ).workloads[0]


def request(text: str) -> Request:
    """What `request: {...}` of a snapshot's workload means."""
    return workload(f"request: {{{text}}}").tasks[0].request


def submit(text: str, *, project: str = "default", source: str = "my_file.yaml") -> tuple[WorkloadSpec, ...]:
    """The workloads of a workload file that stands in /home/me, where the queues of QUEUES are."""
    return load_workloads(
        parse_text(dedent(text).encode(), source), base="/home/me", queues=QUEUES, default_project=project
    )[1]


def one(text: str, **options: Any) -> WorkloadSpec:
    """The only workload of a file."""
    (spec,) = submit(text, **options)
    return spec


def faults_of(read: Any, *args: Any, **options: Any) -> tuple[Fault, ...]:
    """The faults with which reading fails; each names what was found and what was wanted, on one safe line."""
    with pytest.raises(BadFile) as caught:
        read(*args, **options)
    for fault in caught.value.faults:
        assert fault.found
        assert fault.wanted
        assert str(fault).isprintable()
    assert caught.value.exit_code == 2
    return caught.value.faults


def fault_of(read: Any, *args: Any, **options: Any) -> Fault:
    """The only fault with which reading fails."""
    (fault,) = faults_of(read, *args, **options)
    return fault
