"""What we have the API server keep, applied to a control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlplane.elsewhere import Elsewhere
from controlplane.plane import ControlPlane
from gpumax.engines.kubernetes.guard import NAMESPACE, kind_of, objects


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
