"""A cluster all of whose namespaces take pods of the profile `restricted` alone, whatever they say themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controlplane.leftovers import CRDS, serve
from controlplane.plane import Cluster, ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Stage
from controlplane.test_commands import Cli, cli
from gpumax.apps.scheduler.install import kinds

__all__ = ["cli"]
PROFILES = """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: restricted, enforce-version: latest}
"""


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, that wants this of everybody."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    home = tmp_path_factory.mktemp("restricted")
    (home / "profiles.yaml").write_text(PROFILES)
    plane = ControlPlane(
        cluster.own.version, home, f"--admission-control-config-file={home / 'profiles.yaml'}"
    )
    try:
        plane.start()
        plane.start_kwok()
        for body in kinds():
            answer = plane.api.post(CRDS, json=body)
            assert answer.status_code == 201, answer.text
        serve(plane)
        yield plane
    finally:
        plane.stop()


def test_pods_run_where_no_namespace_says_how(stage: Stage, cli: Cli) -> None:
    """The API server does, when it is asked about a pod; so its word is taken, and nothing has to be said for it."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    done = cli("run", "-p", queue, "-n", "one", "--gpu", "1", "--", "true")
    assert done.code == 0, done.err
    eventually(lambda: cli("show", "one", "-o", "json").document["state"] == "succeeded", "it has run")
    (pod,) = stage.pods().values()
    assert pod["spec"]["securityContext"]["runAsUser"] == 1000
