"""The chart on a real cluster: what it makes is taken by the API server, and it is installed, upgraded and taken away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.helm import CHART, Document, Helm
from controlplane.installation import ACCOUNT, SPACE, webhook_of, webhooks_own
from controlplane.leftovers import CRDS
from controlplane.plane import ControlPlane
from controlplane.stage import QUEUES
from controlplane.test_chart import VALUES, pods, values_file


@pytest.mark.parametrize("name", VALUES)
def test_a_real_api_server_takes_every_object(
    bare: ControlPlane, helm: Helm, name: str, tmp_path: Path
) -> None:
    """Each object, field by field; pods pass the strictest profile of pod security, that of the deployment among them."""
    space = f"dry-{name}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    bare.api.post(
        "/api/v1/namespaces",
        json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}},
    )
    bare.await_account(space)
    objects = helm.objects("-f", values_file(name, tmp_path), namespace=space)
    # A pod is refused where its account isn't there; a monitor, where nobody installed its operator.
    for one in objects:
        if one["kind"] == "ServiceAccount":
            assert bare.api.post(path_of(bare, one), json=one).status_code == 201
    # Agents mount folders of their node, which no profile but `privileged` allows.
    for spec in pods([one for one in objects if one["kind"] != "DaemonSet"]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "as-pod", "namespace": space},
            "spec": spec,
        }
        objects.append(pod | {"spec": {**spec, "serviceAccountName": "default"}})
    faults = [
        (one["kind"], answer.text)
        for one in objects
        if one["kind"] not in ("ServiceMonitor", "ServiceAccount")
        and (answer := dry(bare, one)).status_code not in (200, 201)
    ]
    bare.api.delete(f"/api/v1/namespaces/{space}")
    assert faults == []


def dry(bare: ControlPlane, one: Document) -> Any:
    """What the API server says of an object, without keeping it. One that is there is changed."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    path = path_of(bare, one)
    answer = bare.api.post(path, params=query, json=one)
    if answer.status_code != 409:
        return answer
    body = yaml.safe_dump(one)
    return bare.api.patch(
        f"{path}/{one['metadata']['name']}",
        params={**query, "fieldManager": "test", "force": "true"},
        content=body,
        headers={"Content-Type": "application/apply-patch+yaml"},
    )


def path_of(bare: ControlPlane, one: Document) -> str:
    """Where such objects are made."""
    version = one["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    (row,) = [
        row
        for row in bare.api.get(root).json()["resources"]
        if row["kind"] == one["kind"] and "/" not in row["name"]
    ]
    space = f"/namespaces/{one['metadata']['namespace']}" if row["namespaced"] else ""
    return f"{root}{space}/{row['name']}"


def test_what_it_may_not_is_refused(bare: ControlPlane, installed: list[Document]) -> None:
    """Asked of the API server itself, as that account."""
    for group, resource, verb in (
        ("", "secrets", "get"), ("", "pods", "create"), ("", "pods", "delete"), ("", "nodes", "patch"),
        ("gpumax.dev", "queues", "delete"), ("rbac.authorization.k8s.io", "clusterroles", "create"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
    ):  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": ACCOUNT, "groups": ["system:authenticated"],
                     "resourceAttributes": {"group": group, "resource": resource, "verb": verb}},
        }  # fmt: skip
        answer = bare.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
        assert answer.json()["status"]["allowed"] is False, (group, resource, verb)


def test_an_upgrade_changes_our_kinds(
    bare: ControlPlane, helm: Helm, installed: list[Document], tmp_path: Path
) -> None:
    """A newer chart with another field of a queue: the API server knows the field after `helm upgrade`.

    What the webhook wrote meanwhile, its certificates and whom to trust, stays.
    """
    with webhook_of(bare, installed, tmp_path):
        before = webhooks_own(bare)
    assert all(before), before
    newer = tmp_path / "gpumax"
    shutil.copytree(CHART, newer)
    path = newer / "files" / "crds" / "queues.yaml"
    body = yaml.safe_load(path.read_text())
    spec = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["tomorrow"] = {"type": "string"}
    path.write_text(yaml.safe_dump(body))
    helm.run("upgrade", "gpumax", str(newer), "-n", SPACE)
    try:
        known = bare.api.get(f"{CRDS}/queues.gpumax.dev").json()
        schema = known["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert "tomorrow" in schema["properties"]["spec"]["properties"]
        assert webhooks_own(bare) == before
    finally:
        helm.run("rollback", "gpumax", "-n", SPACE)


def test_queues_stay_when_the_chart_goes_and_it_can_come_back(
    bare: ControlPlane, helm: Helm, installed: list[Document]
) -> None:
    """`helm uninstall` takes the scheduler and its rights, and no queue."""
    queue = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": "stays"},
        "spec": {"quota": {"gpu": 1}},
    }
    assert bare.api.post(QUEUES, json=queue).status_code == 201
    helm.run("uninstall", "gpumax", "-n", SPACE)
    assert bare.api.get(f"{QUEUES}/stays").status_code == 200
    assert bare.api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/gpumax").status_code == 404
    assert bare.api.get(f"/apis/apps/v1/namespaces/{SPACE}/deployments/gpumax").status_code == 404
    helm.run("install", "gpumax", str(CHART), "-n", SPACE)
    bare.api.delete(f"{QUEUES}/stays")


def test_kinds_that_somebody_else_added_are_taken_over(
    bare: ControlPlane, helm: Helm, installed: list[Document]
) -> None:
    """As `gpumax up --kubernetes --install` adds them: not silently, but with the option that Helm names."""
    helm.run("uninstall", "gpumax", "-n", SPACE)
    path = f"{CRDS}/queues.gpumax.dev"
    nobodys = {"metadata": {"annotations": None, "labels": None}}
    headers = {"Content-Type": "application/merge-patch+json"}
    bare.api.patch(path, json=nobodys, headers=headers).raise_for_status()
    assert "queues.gpumax.dev" in helm.refuses("install", "gpumax", str(CHART), "-n", SPACE)
    said = helm.run("install", "gpumax", str(CHART), "-n", SPACE, "--take-ownership")
    assert "helm test gpumax -n gpumax-system" in said
    assert "kubectl apply" in said
