"""Objects of the API, as far as they are read. What is not named here is skipped, which is what makes reading 50,000 pods cheap."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.decode import INITIAL_END

Labels = dict[str, str]
KEPT: Final = keys.READ | {INITIAL_END}
LONGEST: Final = 1000
"""The most characters of a pod's annotation that are kept; no sound one that a user writes has so many."""
ABSENT: Final = msgspec.Raw(b"null")
"""Of a part that is kept as it was written: not there."""
Quantities = dict[str, str | int | float]
Document = dict[str, Any]
"""An object of which any field may be asked: owners, and objects of kinds that are declared."""


class Part(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A part of an object. Nothing in it ever points back, so the garbage collector need not know it."""


def _own(part: Part, *names: str) -> None:
    """Keep what was written as bytes of its own: as it is read it is a piece of the whole list that it came in, which would be kept for it."""
    for name in names:
        written = getattr(part, name)
        if written is not ABSENT:
            force_setattr(part, name, _written(bytes(written)))


@lru_cache(maxsize=1 << 12)
def _written(text: bytes) -> msgspec.Raw:
    """The same object for what thousands of pods write alike."""
    return msgspec.Raw(text)


class Owner(Part, frozen=True, rename="camel", gc=False):
    """Whom an object belongs to."""

    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool = False

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]


class Meta(Part, frozen=True, rename="camel", gc=False):
    """Who an object is. Times are as they were written: RFC 3339, in whole seconds."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    owner_references: tuple[Owner, ...] = ()


class Resources(Part, frozen=True, rename="camel", gc=False):
    """What is asked for, and what is never exceeded, by the name of the resource."""

    requests: Quantities | None = None
    limits: Quantities | None = None


class Container(Part, frozen=True, rename="camel", gc=False):
    """A container of a pod. restart_policy Always, of an init container: it stays beside the others."""

    name: str = ""
    resources: msgspec.Raw = ABSENT
    restart_policy: str = ""

    def __post_init__(self) -> None:
        _own(self, "resources")


class Gate(Part, frozen=True, rename="camel", gc=False):
    """Something that a pod waits for before it may be scheduled."""

    name: str = ""


class SchedulingGroup(Part, frozen=True, rename="camel", gc=False):
    """The group that a pod is scheduled with, where the cluster itself knows such groups."""

    pod_group_name: str = ""


class PodClaim(Part, frozen=True, rename="camel", gc=False):
    """A claim to devices that a pod uses: its name in the pod, and the claim's own. Empty where it is made of a template."""

    name: str = ""
    resource_claim_name: str = ""


class PodSpec(Part, frozen=True, rename="camel", gc=False):
    """What a pod asks for. What thousands of pods write alike is kept as bytes, and read once."""

    node_name: str = ""
    scheduler_name: str = ""
    priority: int | None = None
    priority_class_name: str = ""
    service_account_name: str = ""
    node_selector: Labels | None = None
    affinity: msgspec.Raw = ABSENT
    tolerations: msgspec.Raw = ABSENT
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: msgspec.Raw = ABSENT
    resources: msgspec.Raw = ABSENT
    scheduling_group: SchedulingGroup | None = None
    scheduling_gates: tuple[Gate, ...] = ()
    resource_claims: tuple[PodClaim, ...] = ()
    active_deadline_seconds: int | None = None

    def __post_init__(self) -> None:
        _own(self, "affinity", "tolerations", "overhead", "resources")


class Condition(Part, frozen=True, rename="camel", gc=False):
    """What is said of an object, and since when."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ExtendedClaim(Part, frozen=True, rename="camel", gc=False):
    """The claim by which a pod gets devices that it asks for by a resource."""

    resource_claim_name: str = ""


class PodStatus(Part, frozen=True, rename="camel", gc=False):
    """How a pod is."""

    phase: str = ""
    extended_resource_claim_status: ExtendedClaim | None = None
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Pod(Part, frozen=True, rename="camel", gc=False):
    """A pod."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def __post_init__(self) -> None:
        written = self.metadata.annotations
        if written and not (KEPT.issuperset(written) and max(map(len, written.values())) <= LONGEST):
            force_setattr(self.metadata, "annotations", _kept(written, bound=bool(self.spec.node_name)))


def _kept(written: Labels, *, bound: bool) -> Labels:
    """What is read of a pod's annotations: whoever may make pods may write 256 KiB of them into each of thousands."""
    kept = {key: value[:LONGEST] for key, value in written.items() if key in KEPT}
    if bound and keys.GIVEN in written:
        kept[keys.GIVEN] = written[keys.GIVEN]
    return kept


class NodeTaint(Part, frozen=True, rename="camel", gc=False):
    """Keeps pods away that do not tolerate it."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Part, frozen=True, rename="camel", gc=False):
    """What is wanted of a node."""

    unschedulable: bool = False
    taints: tuple[NodeTaint, ...] = ()


class NodeInfo(Part, frozen=True, rename="camel", gc=False):
    """Which programs a node runs."""

    kubelet_version: str = ""


class NodeStatus(Part, frozen=True, rename="camel", gc=False):
    """What a node has. capacity: with what is broken, or kept for the system."""

    node_info: NodeInfo | None = None
    capacity: Quantities | None = None
    allocatable: Quantities | None = None
    conditions: tuple[Condition, ...] = ()


class NodeObject(Part, frozen=True, rename="camel", gc=False):
    """A node."""

    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def __post_init__(self) -> None:
        # For people to see, and much of it: no decision reads it.
        (self.metadata.annotations or {}).pop(keys.RESIDENTS, None)


class PriorityClass(Part, frozen=True, rename="camel", gc=False):
    """A name for a priority."""

    metadata: Meta = Meta()
    value: int = 0
    global_default: bool = False
