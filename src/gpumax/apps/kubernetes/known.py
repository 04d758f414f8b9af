"""Whether there is a cluster at hand, for who looks for a server."""

from __future__ import annotations

from gpumax.errors import GpumaxError


def current_context() -> str:
    """The current context of the kubeconfig; empty where there is none, or it can't be read. Asks nobody."""
    from gpumax.engines.kubernetes.client.kubeconfig import current, files_of

    try:
        return current(files_of())
    except (GpumaxError, OSError, RuntimeError):
        return ""
