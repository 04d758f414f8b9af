"""The cluster that these tests speak to: a control plane of their own, or the one that KUBECONFIG names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from controlplane.build import VERSIONS, NoGo
from controlplane.plane import Cluster, ControlPlane


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Somebody's cluster where USE_EXISTING_CLUSTER says so, else one that is started here, of the version that CONTROLPLANE names."""
    if os.environ.get("USE_EXISTING_CLUSTER", "").lower() in ("1", "true"):
        files = os.environ.get("KUBECONFIG", "")
        assert files, (
            "USE_EXISTING_CLUSTER needs KUBECONFIG: it is never guessed on which cluster tests may write"
        )
        yield Cluster(files, None)
        return
    version = os.environ.get("CONTROLPLANE") or VERSIONS[0]
    try:
        plane = ControlPlane(version, tmp_path_factory.mktemp("controlplane"))
    except NoGo as error:
        pytest.skip(str(error))
    try:
        plane.start()
        yield Cluster(str(plane.kubeconfig()), plane)
    finally:
        plane.stop()


@pytest.fixture
def plane(cluster: Cluster) -> ControlPlane:
    """A control plane that a test may do anything to."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    return cluster.own
