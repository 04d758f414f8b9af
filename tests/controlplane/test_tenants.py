"""Commands against a real API server, by those who have a namespace of it: what they got wrong is told before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.guards import may as allowed
from controlplane.guards import on
from controlplane.processes import eventually
from controlplane.stage import Stage
from controlplane.test_commands import Cli, as_user, cli, jobs

__all__ = ["cli"]
MODEL = "nvidia.com/gpu.product"


def label(stage: Stage, path: str, **labels: str) -> None:
    """Put labels on an object."""
    kind = {"content-type": "application/merge-patch+json"}
    answer = stage.api.patch(path, json={"metadata": {"labels": labels}}, headers=kind)
    assert answer.status_code == 200, answer.text


def may(stage: Stage, user: str, *rules: dict[str, Any]) -> None:
    """A user who may do these things in the stage's namespace, and nothing else."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.name}"
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user}}
    stage.post(f"{path}/roles", {**head, "kind": "Role", "rules": list(rules)})
    stage.post(
        f"{path}/rolebindings",
        {
            **head, "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    )  # fmt: skip
    for rule in rules:
        for group in rule["apiGroups"]:
            what = on(rule["resources"][0], rule["verbs"][0], group, namespace=stage.name)
            eventually(lambda what=what: allowed(stage.plane, user, what), "the API server has heard of it")  # type: ignore[misc]


def test_a_secret_that_is_not_there_is_refused(stage: Stage, cli: Cli) -> None:
    """A container that needs it would never begin and keep its GPUs: nothing is made until the secret is there."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    command = ("run", "-p", queue, "-n", "one", "--secret", "HF_TOKEN", "--", "true")
    refused = cli(*command)
    assert refused.code == 2
    assert "--secret: found HF_TOKEN; wanted the Secret gpumax-secrets" in refused.err
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gpumax-secrets"},
        "stringData": {"X": "1"},
    }
    stage.post(f"/api/v1/namespaces/{stage.name}/secrets", secret)
    refused = cli(*command)
    assert refused.code == 2
    assert "which has X" in refused.err
    assert jobs(stage) == {}
    patched = stage.api.patch(
        f"/api/v1/namespaces/{stage.name}/secrets/gpumax-secrets",
        json={"stringData": {"HF_TOKEN": "a-token"}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert patched.status_code == 200
    done = cli(*command)
    assert done.code == 0, done.err
    assert "a-token" not in done.err + done.out


def test_a_model_that_is_not_there_is_told_with_those_that_are(stage: Stage, cli: Cli) -> None:
    """As on one machine: the next question is which there are. A node that is down may come back, and is named."""
    stage.node("n1", 4)
    label(stage, f"/api/v1/nodes/{stage.name}-n1", **{MODEL: "NVIDIA-H100-80GB-HBM3"})
    queue = stage.queue("a", 9)
    stage.steer()
    told = cli("run", "-p", queue, "-n", "one", "--gpu", "Z999", "--", "true")
    assert told.code == 0, told.err
    eventually(
        lambda: f"no node has {MODEL} Z999, only" in cli("why", "one").out, "it is told which there are"
    )
    assert "NVIDIA-H100-80GB-HBM3" in cli("why", "one").out


def test_a_namespace_that_is_not_there_is_told(
    stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty list would say that there is nothing in it."""
    queue = stage.queue("a", 4)
    assert cli("ps").code == 0
    monkeypatch.setenv("GPUMAX_NAMESPACE", "no-such-place")
    for command in (
        ("ps",),
        ("ps", "-a"),
        ("why", "x"),
        ("events",),
        ("logs", "x"),
        ("run", "-p", queue, "--", "true"),
    ):
        refused = cli(*command)
        assert refused.code in (2, 3), command
        assert "no namespace 'no-such-place'" in refused.err, (command, refused.err)


def test_pods_run_in_namespaces_that_take_restricted_ones_alone(
    stage: Stage, cli: Cli, tmp_path: Path
) -> None:
    """What the profile asks for is written into them, and nothing has to be said for it."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    label(stage, f"/api/v1/namespaces/{stage.name}", **{"pod-security.kubernetes.io/enforce": "restricted"})
    (tmp_path / "train.py").write_text("print()")
    done = cli("run", "-p", queue, "-n", "one", "--gpu", "1", "--", "python", "train.py")
    assert done.code == 0, done.err
    eventually(lambda: cli("show", "one", "-o", "json").document["state"] == "succeeded", "it has run")


def test_why_a_job_makes_no_pods_is_told(stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the API server's words, by `ps` and `why`, to who may see neither the namespace nor try out a pod."""
    queue = stage.queue("a", 4)
    label(stage, f"/api/v1/namespaces/{stage.name}", **{"pod-security.kubernetes.io/enforce": "restricted"})
    user = f"{stage.name}-user"
    may(
        stage, user,
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    )  # fmt: skip
    as_user(stage, monkeypatch, user)
    done = cli("run", "-p", queue, "-n", "one", "--workdir", "/", "--", "true")
    assert done.code == 0, done.err
    eventually(lambda: 'violates PodSecurity "restricted' in cli("why", "one").out, "why says so")
    assert "It can't start:" in cli("why", "one").out
    assert "violates PodSecurity" in cli("ps").out


def test_why_a_gang_lacks_pods_is_told(stage: Stage, cli: Cli) -> None:
    """A quota of the namespace that takes one of its two pods is what it waits for, and not for tasks that nobody makes."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": "1"}},
    }
    stage.post(f"/api/v1/namespaces/{stage.name}/resourcequotas", quota)
    path = f"/api/v1/namespaces/{stage.name}/resourcequotas/few"
    eventually(lambda: stage.api.get(path).json().get("status", {}).get("used"), "the quota counts")
    done = cli("run", "-p", queue, "-n", "two", "--gpu", "1", "--tasks", "2", "--", "true")
    assert done.code == 0, done.err
    eventually(lambda: "exceeded quota: few" in cli("ps").out, "ps says so")
    told = cli("why", "two").out
    assert "It can't start: Error creating: pods" in told
    assert told.count("exceeded quota") == 1
    stage.api.delete(path)
    eventually(lambda: cli("show", "two", "-o", "json").document["state"] == "succeeded", "then it runs")


def test_who_has_no_rights_is_told_which_help(
    stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server says what was refused; a person needs to know what to ask for."""
    as_user(stage, monkeypatch, f"{stage.name}-stranger")
    refused = cli("ps")
    assert refused.code == 3
    assert f"bind the role `edit` in namespace {stage.name} to you" in refused.err


def test_files_that_have_changed_are_told(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """A file that is applied again with other files beside it is other work, which needs another name."""
    queue = stage.queue("a", 4)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print(1)")
    (tmp_path / "work.yaml").write_text(f"name: w\nproject: {queue}\nrun: python train.py\nworkdir: code\n")
    assert cli("apply", "-f", "work.yaml").code == 0
    assert cli("apply", "-f", "work.yaml").code == 0
    (tmp_path / "code" / "train.py").write_text("print(2)")
    refused = cli("apply", "-f", "work.yaml")
    assert refused.code == 3
    assert "and files of it can't change; delete it, or choose another name" in refused.err
