"""Which cluster is meant."""

from __future__ import annotations

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.incluster import from_pod, is_inside
from gpumax.engines.kubernetes.client.kubeconfig import access_from, files_of


def access(context: str = "") -> Access:
    """The cluster of a context; of the pod that we are in where none is named; else of the current context."""
    if not context and is_inside():
        return from_pod()
    return access_from(files_of(), context)
