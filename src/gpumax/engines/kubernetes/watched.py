"""The kinds that are watched, and what is read of each."""

from __future__ import annotations

from typing import Final

from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import Thing
from gpumax.engines.kubernetes.views import NodeObject, Pod

PODS: Final = Kind("", "v1", "pods", "Pod", Pod)
NODES: Final = Kind("", "v1", "nodes", "Node", NodeObject, namespaced=False)
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", Thing, namespaced=False)
