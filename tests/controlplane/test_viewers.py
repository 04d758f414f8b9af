"""People who only look, with the chart's own roles: what each shows them, and what it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.build import NoGo
from controlplane.helm import Helm, only
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Stage
from controlplane.test_commands import Cli, as_user, cli
from gpumax.engines.kubernetes.rights import VIEW

__all__ = ["cli"]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def viewer(stage: Stage, folder: Path, role: str) -> str:
    """A user with one of the chart's roles; his name."""
    try:
        made = only(Helm(folder).objects(), "ClusterRole", role)
    except NoGo as error:
        pytest.skip(str(error))
    name = f"{stage.name}-viewer"
    stage.post(f"{RBAC}/clusterroles", {**made, "metadata": {"name": name}})
    common = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
    }
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    stage.post(f"{RBAC}/clusterrolebindings", {**common, "roleRef": reference, "subjects": [who]})
    return name


def test_who_may_see_the_board_sees_all_of_it_and_changes_nothing(
    plane: ControlPlane, stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nodes, GPUs, queues and who holds what; no secrets, and nothing that is looked at is forbidden."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    stage.pod("p", queue, 2)
    eventually(lambda: stage.where("p") == ["n1"], "it is bound")
    user = viewer(stage, tmp_path / "helm", VIEW)
    as_user(stage, monkeypatch, user)
    eventually(lambda: cli("board").code == 0, "the right is known")
    for words in (("nodes",), ("gpu", "list"), ("queue", "list")):
        assert cli(*words).code == 0, words
    (row,) = [
        one for one in cli("nodes", "-o", "json").document["items"] if one["name"] == f"{stage.name}-n1"
    ]
    assert row["gpu"] == {"total": 4, "free": 2}
    held = {
        one["workload"]
        for gpu in cli("gpu", "list", "-o", "json").document["items"]
        for one in gpu["holders"]
    }
    assert f"{stage.name}/pod/p" in held
    with plane.client(user) as asks:
        assert asks.get("/api/v1/secrets").status_code == 403
        assert asks.delete(f"{stage.pods_path}/any").status_code == 403


def test_who_may_see_queues_sees_no_nodes_and_is_told_which_role_would_help(
    stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Shares stand on the queues themselves."""
    queue = stage.queue("a", 4)
    as_user(stage, monkeypatch, viewer(stage, tmp_path / "helm", "gpumax-queues-view"))
    eventually(lambda: queue in cli("queue", "list").out, "the right is known")
    refused = cli("board")
    assert refused.code == 3
    assert VIEW in refused.err
