"""Objects as far as the commands read them: more of a pod's status than a scheduler needs, and Jobs with their templates."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import field

from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import Named
from gpumax.engines.kubernetes.views import Condition, Meta, Part, Pod, PodStatus


class Waiting(Part, frozen=True, rename="camel", gc=False):
    """Why a container hasn't begun."""

    reason: str = ""
    message: str = ""


class Running(Part, frozen=True, rename="camel", gc=False):
    """Since when it runs."""

    started_at: str | None = None


class Terminated(Part, frozen=True, rename="camel", gc=False):
    """How it ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Part, frozen=True, rename="camel", gc=False):
    """One of the three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True, rename="camel", gc=False):
    """How a container is."""

    name: str = ""
    state: ContainerState = ContainerState()


class SeenStatus(PodStatus, frozen=True, rename="camel", gc=False):
    """How a pod is, with its containers."""

    reason: str = ""
    message: str = ""
    container_statuses: tuple[ContainerStatus, ...] | None = ()
    init_container_statuses: tuple[ContainerStatus, ...] | None = ()


class SeenPod(Pod, frozen=True, rename="camel", gc=False):
    """A pod."""

    status: SeenStatus = SeenStatus()


class JobStatus(Part, frozen=True, rename="camel", gc=False):
    """How a Job is."""

    conditions: tuple[Condition, ...] | None = ()
    start_time: str | None = None
    completion_time: str | None = None
    active: int = 0
    failed: int = 0
    succeeded: int = 0
    completed_indexes: str = ""


class Job(Part, frozen=True, rename="camel", gc=False):
    """A Job; any field of its spec may be asked."""

    metadata: Meta = Meta()
    spec: Any = None
    status: JobStatus = JobStatus()


class Regarding(Part, frozen=True, rename="camel", gc=False):
    """Whom an event is about."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class HappenedEvent(Part, frozen=True, rename="camel", gc=False):
    """An event in the words of events.k8s.io, read as the core API has it; older reporters fill in the last time alone."""

    metadata: Meta = Meta()
    regarding: Regarding = field(default=Regarding(), name="involvedObject")
    type: str = ""
    reason: str = ""
    action: str = ""
    note: str = field(default="", name="message")
    event_time: str | None = None
    last_timestamp: str | None = None
    reporting_controller: str = field(default="", name="reportingComponent")


class Keys(Part, frozen=True, rename="camel", gc=False):
    """A Secret, as far as anybody here needs it: its keys. Values aren't decoded, and never shown."""

    metadata: Meta = Meta()
    data: dict[str, msgspec.Raw] | None = None


PODS: Final = Kind("", "v1", "pods", "Pod", SeenPod)
JOBS: Final = Kind("batch", "v1", "jobs", "Job", Job)
EVENTS: Final = Kind("", "v1", "events", "Event", HappenedEvent)
"""The same objects as those of events.k8s.io, which the usual roles of a namespace let nobody read on Kubernetes 1.34."""
SERVICES: Final = Kind("", "v1", "services", "Service", Named)
SECRETS: Final = Kind("", "v1", "secrets", "Secret", Named)
KEYS: Final = Kind("", "v1", "secrets", "Secret", Keys)
CLAIMS: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", Named)
SPACES: Final = Kind("", "v1", "namespaces", "Namespace", Named, namespaced=False)
