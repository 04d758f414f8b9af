"""The cluster that these tests speak to: a control plane of their own, or the one that KUBECONFIG names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from controlplane.build import VERSIONS, NoGo
from controlplane.elsewhere import Elsewhere
from controlplane.guards import SCHEDULER, system_namespace
from controlplane.helm import Document, Helm
from controlplane.installation import installation
from controlplane.leftovers import CRDS, clear, follow_leases, heed, serve
from controlplane.plane import Cluster, ControlPlane
from controlplane.stage import QUEUES, Stage
from gpumax.apps.scheduler.install import kinds

# Programs are forked, so that they end with us. What gRPC does of itself in a child ends it now and then before it begins.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"


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
        follow_leases(plane)
        yield Cluster(str(plane.kubeconfig()), plane)
    finally:
        plane.stop()


@pytest.fixture
def plane(cluster: Cluster) -> ControlPlane:
    """A control plane that a test may do anything to."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    return cluster.own


@pytest.fixture(scope="module")
def prepared(cluster: Cluster) -> Iterator[ControlPlane]:
    """The control plane with our kinds of objects, and kubelets that are played; pods run until they are told to go."""
    plane = cluster.own
    if plane is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    clear(plane)
    heed(plane)
    kwok = plane.start_kwok()
    for body in kinds():
        answer = plane.api.post(CRDS, json=body)
        assert answer.status_code in (201, 409), answer.text
    serve(plane)
    yield plane
    kwok.stop()


@pytest.fixture(scope="module")
def system(prepared: ControlPlane) -> ControlPlane:
    """The control plane with the namespace that we are installed in."""
    system_namespace(prepared)
    return prepared


@pytest.fixture(scope="module")
def scheduler(system: ControlPlane) -> Iterator[httpx.Client]:
    """The service account of the scheduler, here with all rights: what it may not do is the policies' to say."""
    with system.client(SCHEDULER, "system:masters") as client:
        yield client


@pytest.fixture(scope="module")
def bare(cluster: Cluster) -> Iterator[ControlPlane]:
    """The control plane with kubelets that are played, and without anything of ours."""
    plane = cluster.own
    if plane is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    clear(plane, kinds_too=True)
    heed(plane)
    kwok = plane.start_kwok()
    yield plane
    kwok.stop()


@pytest.fixture(scope="module")
def helm(bare: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the cluster's administrator."""
    return Helm(tmp_path_factory.mktemp("helm"), str(bare.kubeconfig()))


@pytest.fixture(scope="module")
def installed(bare: ControlPlane, helm: Helm) -> Iterator[list[Document]]:
    """The objects of the chart."""
    with installation(helm, bare) as objects:
        yield objects


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """Somebody's cluster, on which gpumax's kinds of objects are already; nodes that a test makes have kubelets that are played."""
    made = Elsewhere(cluster.kubeconfig, tmp_path_factory.mktemp("elsewhere"))
    assert made.api.get(QUEUES).status_code == 200, (
        "the cluster has no gpumax.dev queues: helm install gpumax charts/gpumax"
    )
    kwok = made.start_kwok()
    yield made
    kwok.stop()
    made.stop()


@pytest.fixture
def stage(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A namespace of the test's own. What happened in it is checked by the log of audits, where the control plane is ours."""
    ground: ControlPlane | Elsewhere = request.getfixturevalue(
        "elsewhere" if cluster.own is None else "prepared"
    )
    made = Stage(ground)
    try:
        yield made
    finally:
        made.close()
        made.judge()
