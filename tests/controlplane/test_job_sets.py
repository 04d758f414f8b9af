"""Work whose tasks start again together, as a JobSet on a real API server; the set's controller is played, its kind defined for the test."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.kubelets import STAYS
from controlplane.leftovers import CRDS
from controlplane.processes import eventually
from controlplane.stage import Stage
from controlplane.test_commands import Cli, as_user, cli, jobs
from controlplane.test_tenants import may

__all__ = ["cli"]
GROUP = "jobset.x-k8s.io"
SET = "jobset.sigs.k8s.io"
PATCH = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def sets(stage: Stage) -> Iterator[str]:
    """Where JobSets of the stage's namespace are, as long as the test goes on."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"jobsets.{GROUP}"},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": "jobsets", "singular": "jobset", "kind": "JobSet", "listKind": "JobSetList"},
            "versions": [{
                "name": "v1alpha2", "served": True, "storage": True, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": anything},
            }],
        },
    }  # fmt: skip
    path = f"/apis/{GROUP}/v1alpha2/namespaces/{stage.name}/jobsets"
    if stage.api.get(f"{CRDS}/jobsets.{GROUP}").status_code == 200:
        pytest.skip("the cluster has JobSets, and a controller of its own for them")
    answer = stage.api.post(CRDS, json=body)
    assert answer.status_code == 201, answer.text
    eventually(lambda: stage.api.get(path).status_code == 200 and _known(stage), "JobSets are served")
    yield path
    stage.api.delete(f"{CRDS}/jobsets.{GROUP}")
    for gone in (path, f"{CRDS}/jobsets.{GROUP}"):
        eventually(lambda gone=gone: stage.api.get(gone).status_code == 404, "JobSets are served no more")  # type: ignore[misc]


def _known(stage: Stage) -> bool:
    """Whether those who ask what is served are told of JobSets."""
    answer = stage.api.get(f"/apis/{GROUP}/v1alpha2")
    return answer.status_code == 200 and any(row["name"] == "jobsets" for row in answer.json()["resources"])


def make_jobs(stage: Stage, path: str, name: str) -> None:
    """What the controller does when a set begins, or begins anew."""
    whole = stage.api.get(f"{path}/{name}").json()
    assert whole["spec"]["suspend"] is False
    for member in whole["spec"]["replicatedJobs"]:
        template: dict[str, Any] = copy.deepcopy(member["template"])
        labels = {f"{SET}/jobset-name": name, f"{SET}/replicatedjob-name": member["name"]}
        pod = template["spec"]["template"]["metadata"]
        pod["labels"] = {**pod.get("labels", {}), **labels}
        meta = template["metadata"]
        owner = {
            "apiVersion": f"{GROUP}/v1alpha2", "kind": "JobSet", "name": name, "uid": whole["metadata"]["uid"],
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        body = {
            "apiVersion": "batch/v1", "kind": "Job", "spec": template["spec"],
            "metadata": {
                **meta, "name": f"{name}-{member['name']}-0", "labels": {**meta.get("labels", {}), **labels},
                "ownerReferences": [owner],
            },
        }  # fmt: skip
        answer = stage.api.post(f"/apis/batch/v1/namespaces/{stage.name}/jobs", json=body)
        assert answer.status_code == 201, answer.text


def fail_first(stage: Stage) -> None:
    """A task ends with exit code 1, as its kubelet says it."""
    name = next(name for name in sorted(stage.pods()) if "-0-" in name)
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}}
    status = {"phase": "Failed", "containerStatuses": [
        {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
    ]}  # fmt: skip
    answer = stage.api.patch(f"{stage.pods_path}/{name}/status", json={"status": status}, headers=PATCH)
    assert answer.status_code == 200, answer.text


def test_all_tasks_start_again_where_one_fails(stage: Stage, cli: Cli, sets: str) -> None:
    """From submit to the end of it: one gang, one workload in every list, whether its Jobs are there or not."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    body = f"name: again\nproject: {queue}\nrun: 'true'\nworkdir: /\ntasks: 2\nresources: {{gpu: 2}}\nretries: {{max: 2}}\nlabels: {{{STAYS}: 'yes'}}\n"
    path = Path("again.yaml")
    path.write_text(body)
    planned = cli("plan", str(path))
    assert f"again would start on {stage.name}-n1" in planned.out, planned.err
    assert cli("apply", str(path)).code == 0
    assert jobs(stage) == {}

    def shown() -> Any:
        return cli("show", "again", "-o", "json").document

    assert (shown()["state"], len(shown()["tasks"])) == ("pending", 2)
    assert cli("apply", str(path)).code == 0  # nothing is made twice
    make_jobs(stage, sets, "again")
    eventually(lambda: {task["state"] for task in shown()["tasks"]} == {"running"}, "both run")
    assert stage.where("again-task-0-") == ["n1", "n1"]
    # A task fails, and with it its Job; the set takes all away and begins anew.
    fail_first(stage)
    failed = f"/apis/batch/v1/namespaces/{stage.name}/jobs/again-task-0"
    eventually(
        lambda: any(
            row["type"] == "Failed" for row in stage.api.get(failed).json()["status"].get("conditions", [])
        ),
        "its Job has failed",
    )
    assert shown()["state"] in ("running", "pending")
    stage.api.delete(failed, params={"propagationPolicy": "Background"})
    eventually(lambda: jobs(stage) == {} and stage.pods() == {}, "all of it is gone")
    answer = stage.api.patch(f"{sets}/again/status", json={"status": {"restarts": 1}}, headers=PATCH)
    assert answer.status_code == 200, answer.text
    assert (shown()["state"], shown()["failures"]) == ("pending", 1)
    make_jobs(stage, sets, "again")
    eventually(lambda: {task["state"] for task in shown()["tasks"]} == {"running"}, "both run again")
    # What is asked of it is asked of the set.
    assert cli("suspend", "again").code == 0
    assert stage.api.get(f"{sets}/again").json()["spec"]["suspend"] is True
    assert shown()["state"] in ("running", "suspended")
    assert cli("resume", "again").code == 0
    assert stage.api.get(f"{sets}/again").json()["spec"]["suspend"] is False
    assert cli("delete", "-y", "again").code == 0
    eventually(lambda: jobs(stage) == {} and stage.pods() == {}, "its Jobs and pods are gone")
    assert cli("show", "again").code == 2
    service = f"/api/v1/namespaces/{stage.name}/services/again"
    eventually(lambda: stage.api.get(service).status_code == 404, "its Service, too")


def test_who_may_make_no_sets_gets_jobs(
    stage: Stage, cli: Cli, sets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they may see them: groups are Jobs then, as where there are no sets; what takes a set is refused in words."""
    queue = stage.queue("a", 4)
    user = f"{stage.name}-user"
    may(
        stage, user,
        {"apiGroups": ["", "batch", "gpumax.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [GROUP], "resources": ["jobsets"], "verbs": ["list"]},
    )  # fmt: skip
    as_user(stage, monkeypatch, user)
    head = f"project: {queue}\nrun: 'true'\nworkdir: /\ngroups: [{{name: a}}, {{name: b}}]\n"
    path = Path("team.yaml")
    path.write_text(f"name: team\n{head}")
    done = cli("apply", str(path))
    assert done.code == 0, done.err
    assert sorted(jobs(stage)) == ["team-a", "team-b"]
    path.write_text(f"name: more\n{head}retries: {{max: 1}}\n")
    refused = cli("apply", str(path))
    assert refused.code == 2
    assert "a cluster with JobSet" in refused.err


def test_groups_start_again_together(stage: Stage, cli: Cli, sets: str) -> None:
    """Of several groups each is a Job of the set, and all are one gang, whether they start again or end together."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    groups = "[{name: leader, resources: {gpu: 1}}, {name: worker, tasks: 2, resources: {gpu: 2}}]"
    path = Path("team.yaml")
    path.write_text(
        f"name: team\nproject: {queue}\nrun: 'true'\nworkdir: /\nlabels: {{{STAYS}: 'yes'}}\ngroups: {groups}\n"
    )
    assert cli("apply", str(path)).code == 0
    make_jobs(stage, sets, "team")
    eventually(lambda: "GangNoRoom" in cli("ps").out, "five GPUs don't fit")
    assert stage.where() == ["", "", ""]
    stage.node("n2", 4)
    eventually(lambda: "" not in stage.where(), "there is room, and all of them start")
    shown = cli("show", "team", "-o", "json").document
    assert [(task["index"], task["group"]) for task in shown["tasks"]] == [
        (0, "leader"), (1, "worker"), (2, "worker"),
    ]  # fmt: skip
