"""The way to the cluster that we run in ourselves: what the kubelet puts into every pod."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gpumax.engines.kubernetes.client.access import Access, Pem
from gpumax.engines.kubernetes.client.credentials import TokenFile
from gpumax.errors import Refused

FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def is_inside(environment: Mapping[str, str] = os.environ, folder: Path = FOLDER) -> bool:
    """Whether this process runs in a pod with a service account."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").exists()


def from_pod(environment: Mapping[str, str] = os.environ, folder: Path = FOLDER) -> Access:
    """The pod's own cluster, as its service account. Token and authority are read again, since both are renewed."""
    host, port = (environment.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host or not port:
        raise Refused("this isn't a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT aren't set")
    if not (folder / "token").exists():
        raise Refused(
            f"this pod has no service account: {folder / 'token'} is missing (automountServiceAccountToken)"
        )
    space = folder / "namespace"
    return Access(
        name="in-cluster",
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=space.read_text(encoding="utf-8").strip() if space.exists() else "default",
        authority=Pem(file=str(folder / "ca.crt")),
        credential=TokenFile(str(folder / "token")),
    )
