"""What we have the API server keep, applied to a control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httpx

from controlplane.elsewhere import Elsewhere
from controlplane.plane import ControlPlane
from gpumax.engines.kubernetes.guard import NAMESPACE, kind_of, objects

SIGNED: Final = "gpumax/1/a"
"""How the holder of the lease signs, where the fence stands."""
SCHEDULER: Final = f"system:serviceaccount:{NAMESPACE}:gpumax"
LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
TENANTS: Final = "/api/v1/namespaces/tenants/pods"
Document = dict[str, Any]


def system_namespace(plane: ControlPlane) -> None:
    """The namespace that we are installed in."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert plane.api.post("/api/v1/namespaces", json=body).status_code in (201, 409)


def apply(
    plane: ControlPlane, name: str, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body
) -> list[str]:
    """Add the objects of a file, each after a change; their paths."""
    made = []
    for body in objects(name):
        path = kind_of(body).path(body["metadata"].get("namespace", ""))
        answer = plane.api.post(path, json=change(body))
        assert answer.status_code in (201, 409), answer.text
        made.append(f"{path}/{body['metadata']['name']}")
    return made


def may(plane: ControlPlane | Elsewhere, user: str, what: dict[str, Any]) -> bool:
    """Whether the API server would let somebody do something: what was granted a moment ago it may not have heard of yet."""
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], **what},
    }  # fmt: skip
    answer = plane.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    return bool(answer.raise_for_status().json()["status"]["allowed"])


def on(resource: str, verb: str, group: str = "", **more: str) -> dict[str, Any]:
    """To do this to that, as `may` is asked."""
    return {"resourceAttributes": {"group": group, "resource": resource, "verb": verb, **more}}


def tried(
    client: httpx.Client, stamp: str, namespace: str = "default", pod: str = "nobody"
) -> httpx.Response:
    """A bind that would be signed so, to nothing that there is: 404 once the policies let it pass."""
    return bind(client, stamp, namespace, pod, "nowhere", dry=True)


def bind(
    client: httpx.Client, stamp: str, namespace: str, pod: str, node: str, *, dry: bool = False, **meta: Any
) -> httpx.Response:
    """A bind that is signed so."""
    body = {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace, **meta},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }  # fmt: skip
    query = ({"fieldManager": stamp} if stamp else {}) | ({"dryRun": "All"} if dry else {})
    return client.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/binding", json=body, params=query)


def grant(plane: ControlPlane, namespace: str, user: str, resources: list[str]) -> list[str]:
    """A namespace where this user may do anything to these resources of the core; the paths of what was made."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": resources, "verbs": ["*"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
    who = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
    for path, body in (
        ("/api/v1/namespaces", {"metadata": {"name": namespace}}),
        (f"{rbac}/roles", {"metadata": {"name": user}, "rules": rules}),
        (f"{rbac}/rolebindings", {"metadata": {"name": user}, "roleRef": role, "subjects": who}),
    ):
        assert plane.api.post(path, json=body).status_code in (201, 409)
    plane.await_account(namespace)
    return [f"{rbac}/rolebindings/{user}", f"{rbac}/roles/{user}"]


def made_by(
    client: httpx.Client, name: str = "p", *, dry: bool = True, scheduler: str = "gpumax",
    env: Document | None = None, node: str = "", where: str = "tenants", **meta: Any,
) -> httpx.Response:  # fmt: skip
    """What a tenant's pod is answered; it is kept where dry is False."""
    containers = [
        {
            "name": "main",
            "image": "none",
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        }
    ]
    spec = {"schedulerName": scheduler, "containers": containers} | ({"nodeName": node} if node else {})
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}
    path = f"/api/v1/namespaces/{where}/pods"
    return client.post(path, json=body, params={"dryRun": "All"} if dry else {})


def allow(plane: ControlPlane, namespace: str, queue: str, who: Document) -> list[str]:
    """Let somebody use a queue from a namespace; the paths of what was made."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": ["gpumax.dev"], "resources": ["queues"], "resourceNames": [queue], "verbs": ["use"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": queue}
    subject = who if who["kind"] == "ServiceAccount" else {"apiGroup": "rbac.authorization.k8s.io", **who}
    for path, body in (
        (f"{rbac}/roles", {"metadata": {"name": queue}, "rules": [rule]}),
        (f"{rbac}/rolebindings", {"metadata": {"name": queue}, "roleRef": role, "subjects": [subject]}),
    ):
        assert plane.api.post(path, json=body).status_code in (201, 409)
    return [f"{rbac}/roles/{queue}", f"{rbac}/rolebindings/{queue}"]
