"""gpumax doctor on a real cluster: what it finds where all is well, and where something is broken on purpose."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.build import VERSIONS
from controlplane.guards import apply, system_namespace
from controlplane.leftovers import CRDS, clear, serve
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Stage
from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor import steering
from gpumax.apps.doctor.visit import LOOKS, examine
from gpumax.apps.scheduler.install import kinds
from gpumax.engines.kubernetes.guard import NAMESPACE
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
HOOKS = f"{ADMISSION}/mutatingwebhookconfigurations/gpumax"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Doctor:
    """Asks with the rights of one user."""

    def __init__(self, plane: ControlPlane, patch: pytest.MonkeyPatch) -> None:
        self._plane = plane
        self._patch = patch

    def found(self, *groups: str, user: str = "admin", namespace: str = "") -> dict[str, list[Check]]:
        """All findings, by what was looked at. namespace: of the context; unset: default."""
        config = self._plane.kubeconfig(user, *(groups or (("system:masters",) if user == "admin" else ())))
        self._patch.setenv("KUBECONFIG", str(config))
        rows: list[Check] = []
        examine("", f"{NAMESPACE}/gpumax", rows.append, namespace)
        by_name: dict[str, list[Check]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        assert all(row.wish for row in rows if row.state != "ok"), rows
        return by_name

    def only(self, name: str) -> Check:
        """The one finding of a look."""
        (row,) = self.found()[name]
        return row


@pytest.fixture
def doctor(prepared: ControlPlane, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """A cluster in which all that can be there without pods of ours is there, a queue and a node with eight GPUs."""
    clear(prepared)
    system_namespace(prepared)
    made = [
        path
        for name in ("fence", "decisions", "only", "webhook-rights", "webhook")
        for path in apply(prepared, name)
    ]
    stage.node("n1", 8)
    stage.queue("a", 8)
    yield Doctor(prepared, monkeypatch)
    for path in reversed(made):
        prepared.api.delete(path)
    prepared.api.delete(f"{LEASES}/gpumax")


def steered(plane: ControlPlane, ago: timedelta) -> None:
    """Somebody holds the lease, and renewed it then."""
    body: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "gpumax"},
        "spec": {
            "holderIdentity": "somebody", "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "renewTime": (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }  # fmt: skip
    if plane.api.post(LEASES, json=body).status_code == 409:
        plane.api.patch(f"{LEASES}/gpumax", json={"spec": body["spec"]}, headers=MERGE).raise_for_status()


def test_a_cluster_that_is_well(prepared: ControlPlane, doctor: Doctor, stage: Stage) -> None:
    """Everything is looked at; what isn't well is the webhook that never ran."""
    steered(prepared, timedelta())
    found = doctor.found()
    assert set(found) >= {"cluster", *(name for name, _ in LOOKS)} - {"neighbours"}
    assert {name for name, rows in found.items() if any(row.state == "fail" for row in rows)} == {"webhook"}
    assert "rights that the scheduler needs" in found["rights"][0].found
    assert found["leader"][0].found == "somebody steers, epoch 3"
    assert any("given out by nvidia.com/gpu" in row.found for row in found["gpus"])
    newer = prepared.version == VERSIONS[0]
    assert ("show how much they hold" if newer else "in their parameters alone") in found["claims"][0].found
    for name in ("clock", "kinds", "queues", "policies", "claims"):
        assert [row.state for row in found[name]] == ["ok"], found[name]


def test_who_gives_out_gpus_is_told(doctor: Doctor, stage: Stage) -> None:
    """The vendor's plugin on one node, our agent on another."""
    stage.node("n2", 0)
    name = f"{stage.name}-n2"
    uid = stage.api.get(f"/api/v1/nodes/{name}").json()["metadata"]["uid"]
    body = slice_of(
        name, uid, [Device(0, "H100", 81_920), Device(1, "H100", 81_920)], {0: "GPU-0", 1: "GPU-1"}
    )
    path = "/apis/resource.k8s.io/v1/resourceslices"
    stage.post(path, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **body})
    found = {row.found for row in doctor.found()["gpus"]}
    assert {
        "2 on 1 nodes, given out by gpumax's agents",
        "8 on 1 nodes, given out by nvidia.com/gpu",
    } <= found


def test_the_command_says_so_and_ends_with_its_code(
    prepared: ControlPlane, doctor: Doctor, tmp_path: Path
) -> None:
    """As on one machine: lines for people, or one document; 1 where something fails."""
    env = {"KUBECONFIG": str(prepared.kubeconfig()), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-m", "gpumax.apps.cli.main", "doctor", "--engine", "kubernetes"]
    lines = subprocess.run(words, env=env, capture_output=True, text=True)
    assert lines.returncode == 1
    assert lines.stderr == "gpumax: to be mended first: webhook\n"
    assert "ok    cluster     test (https://127.0.0.1:" in lines.stdout
    document = subprocess.run([*words, "-o", "json"], env=env, capture_output=True, text=True)
    rows = json.loads(document.stdout)["items"]
    assert {"check": "kinds", "state": "ok"}.items() <= next(
        row for row in rows if row["check"] == "kinds"
    ).items()


def bound(stage: Stage, user: str, role: str, *, cluster: bool = False) -> None:
    """The user has the role, in the stage's namespace or everywhere."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    where = "clusterrolebindings" if cluster else f"namespaces/{stage.name}/rolebindings"
    stage.post(
        f"{rbac}/{where}",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user},
            "kind": "ClusterRoleBinding" if cluster else "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    )  # fmt: skip


def test_a_tenant_is_told_of_what_a_tenant_needs(doctor: Doctor, stage: Stage) -> None:
    """Nothing of a scheduler's rights, which nobody expects of them; what they may not look at is one line, and no failure of the cluster."""
    user = f"{stage.name}-tenant"
    bound(stage, user, "admin")
    found: dict[str, list[Check]] = {}

    def state() -> str:
        found.clear()
        found.update(doctor.found(user=user, namespace=stage.name))
        return found["rights"][0].state

    eventually(lambda: state() == "warn", "the role is known")
    assert found["rights"][0].found.startswith(f"in namespace {stage.name} {user} may not create gangs (")
    # As the chart has it.
    rules = [{"apiGroups": ["gpumax.dev"], "resources": ["gangs"], "verbs": ["create"]}]
    labels = {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}
    stage.post(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": stage.name, "labels": labels}, "rules": rules,
        },
    )  # fmt: skip
    eventually(lambda: state() == "ok", "gangs are part of it")
    assert {name for name, rows in found.items() if any(row.state == "fail" for row in rows)} == set()
    own, others = found["rights"]
    assert f"that submitting work and looking at it take in namespace {stage.name}" in own.found
    assert others.state == "warn"
    assert (
        f"not looked at, since {user} may not: kinds, queues, policies, webhook, gpus, leader" in others.found
    )
    assert not {"kinds", "gpus", "leader"} & set(found)


def test_who_may_little_is_told_what_lacks(doctor: Doctor, stage: Stage) -> None:
    """In one line, with what can't be done without it; a scheduler's account that lacks something is one all the same."""
    rows = doctor.found(user="somebody-else", namespace=stage.name)["rights"]
    assert rows[0].state == "fail"
    assert (
        f"in namespace {stage.name} somebody-else may not create, delete, get, list, patch jobs"
        in rows[0].found
    )
    account = f"system:serviceaccount:{NAMESPACE}:gpumax"
    lacking = " ".join(row.found for row in doctor.found(user=account)["rights"] if row.state == "fail")
    for words in ("create pods/binding: nothing starts", "create leases, get leases, patch leases"):
        assert words in lacking


def test_an_administrator_is_told_of_the_schedulers_rights(prepared: ControlPlane, doctor: Doctor) -> None:
    """Not of their own, which are all: an account without roles may do nothing."""
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gpumax"}}
    prepared.api.post(accounts, json=body).raise_for_status()
    try:
        lacking = [row for row in doctor.found()["rights"] if row.state == "fail"]
        assert f"system:serviceaccount:{NAMESPACE}:gpumax may not create pods/binding" in " ".join(
            row.found for row in lacking
        )
    finally:
        prepared.api.delete(f"{accounts}/gpumax")


def test_a_kind_of_another_version_and_one_that_is_missing(prepared: ControlPlane, doctor: Doctor) -> None:
    """Each by its name, with what mends it."""
    path = f"{CRDS}/gangs.gpumax.dev"
    column = "/spec/versions/0/additionalPrinterColumns/0/name"
    old = [{"op": "replace", "path": column, "value": "Least"}]
    prepared.api.patch(path, json=old, headers=JSON_PATCH).raise_for_status()
    try:
        row = doctor.only("kinds")
        assert row.state == "warn"
        assert "differs at spec.versions[0].additionalPrinterColumns[0].name" in row.found
        prepared.api.delete(path)
        eventually(lambda: prepared.api.get(path).status_code == 404, "the kind is gone")
        row = doctor.only("kinds")
        assert (row.state, row.found) == ("fail", "gangs.gpumax.dev is missing")
        assert "helm upgrade" in row.wish
    finally:
        prepared.api.delete(path)
        eventually(lambda: prepared.api.get(path).status_code == 404, "the kind is gone")
        (own,) = [body for body in kinds() if body["metadata"]["name"] == "gangs.gpumax.dev"]
        prepared.api.post(CRDS, json=own).raise_for_status()
        serve(prepared)


def test_a_policy_that_was_taken_away(prepared: ControlPlane, doctor: Doctor) -> None:
    """It says what could be without it."""
    prepared.api.delete(f"{ADMISSION}/validatingadmissionpolicies/gpumax-fence")
    row = doctor.only("policies")
    assert (
        row.found
        == "ValidatingAdmissionPolicy gpumax-fence is missing: a replica that was replaced could still write"
    )


def test_a_webhook_that_does_not_answer(prepared: ControlPlane, doctor: Doctor) -> None:
    """Pods with parts would be refused, so that fails; nothing is left of the try. An authority that ends soon is told, too: that of the tests lives a week."""
    bundle = prepared.authority.certificate.read_bytes()
    way = {"url": "https://127.0.0.1:9/pods", "caBundle": base64.b64encode(bundle).decode()}
    patch = [{"op": "replace", "path": f"/webhooks/{number}/clientConfig", "value": way} for number in (0, 1)]
    prepared.api.patch(HOOKS, json=patch, headers=JSON_PATCH).raise_for_status()
    eventually(
        lambda: [row.state for row in doctor.found()["webhook"]] == ["warn", "fail"], "a try of it fails"
    )
    rows = doctor.found()["webhook"]
    assert "ends at" in rows[0].found
    assert "calling webhook" in rows[1].found
    pods = prepared.api.get("/api/v1/namespaces/default/pods").json()["items"]
    assert not [one for one in pods if one["metadata"]["name"].startswith("gpumax-doctor-")]
    prepared.api.delete(HOOKS)
    assert doctor.only("webhook").found == "there is none"


def test_a_leader_that_is_gone_and_one_whose_clock_is_wrong(
    prepared: ControlPlane, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old lease is watched for as long as a leader takes to renew it."""
    assert doctor.only("leader").found == f"nobody holds the lease {NAMESPACE}/gpumax"
    monkeypatch.setattr(steering, "LOOK_S", 0.01)
    steered(prepared, timedelta(minutes=10))
    row = doctor.only("leader")
    assert (row.state, "hasn't renewed it for 6" in row.found) == ("fail", True), row.found
    steered(prepared, -timedelta(minutes=5))
    row = doctor.only("leader")
    assert (row.state, "its clock is" in row.found) == ("warn", True), row.found


def test_queues_and_nodes_with_faults(prepared: ControlPlane, doctor: Doctor, stage: Stage) -> None:
    """A queue below one that isn't there, a node that is cordoned, one with a GPU that broke, and one whose GPUs nobody gives out."""
    stage.queue("lost", 1, parent="nowhere")
    assert [row.state for row in doctor.found()["queues"]] == ["warn"]
    node = f"/api/v1/nodes/{stage.name}-n1"
    broken = {"status": {"allocatable": {"nvidia.com/gpu": "7"}}}
    prepared.api.patch(f"{node}/status", json=broken, headers=MERGE).raise_for_status()
    prepared.api.patch(node, json={"spec": {"unschedulable": True}}, headers=MERGE).raise_for_status()
    stage.node("n2", 0)
    label = {"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}}
    prepared.api.patch(f"/api/v1/nodes/{stage.name}-n2", json=label, headers=MERGE).raise_for_status()
    told = " ".join(row.found for row in doctor.found()["gpus"] if row.state == "warn")
    for words in ("are cordoned", "have broken GPUs", f"have GPUs that nobody gives out: {stage.name}-n2"):
        assert words in told


def test_no_queue_and_no_gpu(prepared: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails; it is said what to do next."""
    clear(prepared)
    system_namespace(prepared)
    found = Doctor(prepared, monkeypatch).found()
    assert found["queues"][0].found == "there is none, so no pod is placed"
    assert found["policies"][0].state == "warn"


def test_another_scheduler_beside_us(prepared: ControlPlane, doctor: Doctor) -> None:
    """It is named, with how both get along."""
    body = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "workloads.kueue.x-k8s.io"},
        "spec": {
            "group": "kueue.x-k8s.io", "scope": "Namespaced", "names": {"kind": "Workload", "plural": "workloads"},
            "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }  # fmt: skip
    prepared.api.post(CRDS, json=body).raise_for_status()
    try:
        eventually(lambda: prepared.api.get("/apis/kueue.x-k8s.io").status_code == 200, "its group is served")
        assert doctor.only("neighbours").found == "Kueue is installed here, too (kueue.x-k8s.io)"
    finally:
        prepared.api.delete(f"{CRDS}/workloads.kueue.x-k8s.io")
        eventually(lambda: prepared.api.get("/apis/kueue.x-k8s.io").status_code == 404, "its group is gone")


def test_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with what to do, and nothing else is looked at."""
    (tmp_path / "config").write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
            }
        )
    )  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    rows: list[Check] = []
    examine("", "a/b", rows.append)
    assert [(row.name, row.state) for row in rows] == [("cluster", "fail")]
    assert "127.0.0.1:9" in rows[0].found
