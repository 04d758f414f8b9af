"""Real control planes to measure on: nodes that say that they are ready though nothing is there, pods, and gpumax in a process of its own."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from controlplane.build import KWOK, built
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually, free_ports

__all__ = ["KWOK", "ControlPlane", "Program", "built", "eventually", "free_ports"]
"""What the others have from here, who would not find it."""

Document = dict[str, Any]
GPU: Final = "nvidia.com/gpu"
NODES: Final = "/api/v1/nodes"
PODS: Final = "/api/v1/namespaces/default/pods"
QUEUES: Final = "/apis/gpumax.dev/v1alpha1/queues"
ROOM: Final = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
LOOK_S: Final = 0.5
OLD: Final = "2026-01-01T00:00:00Z"


def node(number: int, room: Document = ROOM) -> Document:
    """A node that says that it is ready, though nothing is there."""
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": OLD, "lastTransitionTime": OLD}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"},
        "status": {"allocatable": room, "capacity": room, "conditions": [ready]},
    }  # fmt: skip


def pod(
    name: str,
    scheduler: str,
    asks: Document,
    queue: str = "all",
    labels: Document | None = None,
    annotations: Document | None = None,
    **spec: Any,
) -> Document:
    """A pod that asks for so much."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"gpumax.dev/queue": queue, **(labels or {})}, "annotations": annotations or {}},
        "spec": {
            "schedulerName": scheduler, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "none", "resources": {"limits": asks}}], **spec,
        },
    }  # fmt: skip


def queue(name: str, **spec: Any) -> Document:
    """A queue."""
    return {"apiVersion": "gpumax.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec}


@contextmanager
def cluster(nodes: Iterable[Document], *flags: str) -> Iterator[ControlPlane]:
    """A control plane with nodes. Its controllers are ended, so that nothing but schedulers writes. flags: of its API server."""
    with tempfile.TemporaryDirectory() as directory:
        plane = ControlPlane("newest", Path(directory), *flags)
        try:
            plane.start()
            plane.controllers.kill()
            post(plane, NODES, nodes)
            yield plane
        finally:
            plane.stop()


def post(plane: ControlPlane, path: str, documents: Iterable[Document]) -> None:
    """Make them all, many at a time, in no order."""
    plane.crowd(path, documents)


def ours(plane: ControlPlane, queues: Iterable[Document]) -> Program:
    """gpumax, with these queues."""
    command = [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--kubernetes", "--install"]
    program = Program(
        [*command, "--data", str(plane.directory / "data")],
        plane.directory / "gpumax.log",
        env={"KUBECONFIG": str(plane.kubeconfig())},
    )
    program.start()
    for one in queues:
        eventually(lambda one=one: _made(plane, one), f"queue {one['metadata']['name']} is there", program)  # type: ignore[misc]
    return program


def _made(plane: ControlPlane, one: Document) -> bool:
    return plane.api.post(QUEUES, json=one).status_code in (201, 409)


def waiting(plane: ControlPlane, selector: str = "spec.nodeName=") -> bool:
    """Whether there is a pod without a node, or another that the selector of fields names. To look through all of them costs the API server
    something, which schedulers should have: not more than twice a second.
    """
    time.sleep(LOOK_S)
    query = {"fieldSelector": selector, "limit": "1"}
    return bool(plane.api.get(PODS, params=query).json()["items"])


class Object(msgspec.Struct, frozen=True):
    """What was asked for."""

    resource: str = ""
    subresource: str = ""
    name: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What was answered."""

    code: int = 0


class Made(msgspec.Struct, frozen=True):
    """What there is since, as far as it has a name."""

    class Meta(msgspec.Struct, frozen=True):
        """Its metadata."""

        name: str = ""

    metadata: Meta = Meta()


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """A request in the audit log, as far as it is measured."""

    verb: str
    request_received_timestamp: datetime
    stage_timestamp: datetime
    object_ref: Object = Object()
    response_status: Answer = Answer()
    response_object: Made = Made()

    @property
    def came_s(self) -> float:
        """When the API server got it, in seconds."""
        return self.request_received_timestamp.timestamp()

    @property
    def answered_s(self) -> float:
        """When it had answered."""
        return self.stage_timestamp.timestamp()

    def makes(self, resource: str, subresource: str = "") -> bool:
        """Whether one of these was made by it."""
        about = self.object_ref
        return (
            self.verb == "create"
            and self.response_status.code == 201
            and (about.resource, about.subresource) == (resource, subresource)
        )


def asked(plane: ControlPlane) -> Iterator[Asked]:
    """The audit log, line by line: that of ten thousand pods has hundreds of megabytes."""
    decoder = msgspec.json.Decoder(Asked)
    with plane.audit_log.open("rb") as file:
        yield from map(decoder.decode, file)


def used(program: Program) -> tuple[float, float]:
    """Seconds of CPU and MiB that a program has used, and uses."""
    process = psutil.Process(program.pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss / (1 << 20)
