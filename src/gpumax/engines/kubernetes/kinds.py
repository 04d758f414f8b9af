"""The kinds that are watched, and what is read of each."""

from __future__ import annotations

from typing import Any, Final

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.budgets import Budget
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.offers import Slice
from gpumax.engines.kubernetes.views import Document, Meta, NodeObject, Part, Pod, PriorityClass


class Named(Part, frozen=True, rename="camel", gc=False):
    """An object of which only the metadata is read."""

    metadata: Meta = Meta()


class Whole(Part, frozen=True, rename="camel", gc=False):
    """An object of which any field of its spec may be asked."""

    metadata: Meta = Meta()
    spec: Any = None


class Versioned(Meta, frozen=True, rename="camel", gc=False):
    """Metadata with the number of changes of what the user wrote."""

    generation: int = 0


class Stated(Whole, frozen=True, rename="camel", gc=False):
    """An object whose status is ours to write."""

    metadata: Versioned = Versioned()
    status: Any = None


PODS: Final = Kind("", "v1", "pods", "Pod", Pod)
NODES: Final = Kind("", "v1", "nodes", "Node", NodeObject, namespaced=False)
SPACES: Final = Kind("", "v1", "namespaces", "Namespace", Named, namespaced=False)
CLASSES: Final = Kind(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", PriorityClass, namespaced=False
)
BUDGETS: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", Budget)
ALWAYS: Final[tuple[Kind[Any], ...]] = (PODS, NODES, SPACES, CLASSES, BUDGETS)
"""What every cluster has."""

QUEUES: Final = Kind("gpumax.dev", "v1alpha1", "queues", "Queue", Stated, namespaced=False)
TOPOLOGIES: Final = Kind("gpumax.dev", "v1alpha1", "topologies", "Topology", Whole, namespaced=False)
GANGS: Final = Kind("gpumax.dev", "v1alpha1", "gangs", "Gang", Stated)
KAI_QUEUES: Final = Kind("scheduling.run.ai", "v2", "queues", "Queue", Whole, namespaced=False)
KAI_TOPOLOGIES: Final = Kind("kai.scheduler", "v1alpha1", "topologies", "Topology", Whole, namespaced=False)
KAI_GROUPS: Final = Kind("scheduling.run.ai", "v2alpha2", "podgroups", "PodGroup", Whole)
PLUGIN_GROUPS: Final = Kind("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup", Whole)
NATIVE_GROUPS: Final = (
    Kind("scheduling.k8s.io", "v1beta1", "podgroups", "PodGroup", Whole),
    Kind("scheduling.k8s.io", "v1alpha3", "podgroups", "PodGroup", Whole),
)
"""The cluster's own groups: of its versions, the first that is served."""
SLICES: Final = Kind("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", Slice, namespaced=False)
OFTEN: Final[tuple[Kind[Any], ...]] = (
    QUEUES, TOPOLOGIES, GANGS, KAI_QUEUES, KAI_TOPOLOGIES, KAI_GROUPS, PLUGIN_GROUPS, *NATIVE_GROUPS, SLICES,
)  # fmt: skip
"""What a cluster has where somebody installed it."""
OPTIONAL: Final = frozenset(OFTEN) - {QUEUES}
"""Without which pods are placed all the same, if less well: where we have no right to see them, we go on without."""
OURS: Final[dict[Kind[Any], str]] = {SLICES: f"spec.driver={keys.DRIVER}"}
"""Of kinds that others use, too: which of their objects are followed, as a selector of fields."""


def document(kind: Kind[Any], one: Any) -> Document:
    """An object as its user wrote it, as far as it is read."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": _meta(one.metadata),
        "spec": getattr(one, "spec", None),
    }


def _meta(meta: Meta) -> Document:
    return {
        "name": meta.name,
        "namespace": meta.namespace,
        "uid": meta.uid,
        "creationTimestamp": meta.creation_timestamp,
        "labels": meta.labels or {},
        "annotations": meta.annotations or {},
        "ownerReferences": [
            {
                "apiVersion": owner.api_version,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": owner.controller,
            }
            for owner in meta.owner_references or ()
        ],
    }
