"""Each module of tests finds the control plane as if it was the first: whatever others left goes, and the API server has noticed that."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from controlplane.guards import may, on
from controlplane.plane import ControlPlane
from controlplane.processes import HOST, eventually
from gpumax.apps.scheduler.install import kinds

Document = dict[str, Any]
ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEASES: Final = "/apis/coordination.k8s.io/v1"
OURS: Final = "/apis/gpumax.dev/v1alpha1"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_CONFIG_MAPS: Final = "/api/v1/namespaces/default/configmaps"


def clear(plane: ControlPlane, *, kinds_too: bool = False) -> None:
    """Take away nodes, what of ours belongs to no namespace, and the leases. kinds_too: our kinds of objects as well."""
    named: tuple[str, ...] = (
        f"{ADMISSION}/mutatingwebhookconfigurations",
        f"{ADMISSION}/validatingadmissionpolicybindings",
        f"{ADMISSION}/validatingadmissionpolicies",
        f"{RBAC}/clusterrolebindings",
        f"{RBAC}/clusterroles",
        f"{LEASES}/namespaces/default/leases",
        f"{LEASES}/namespaces/gpumax-system/leases",
    )
    whole = (
        "/api/v1/nodes",
        "/apis/resource.k8s.io/v1/resourceslices",
        f"{OURS}/queues",
        f"{OURS}/topologies",
    )
    paths = [*_of(plane, whole, lambda _: True), *_of(plane, named, _ours)]
    if kinds_too:
        paths += _of(plane, (CRDS,), _ours)
    for path in paths:
        plane.api.delete(path)
    for path in paths:
        eventually(lambda path=path: plane.api.get(path).status_code == 404, f"{path} is gone")  # type: ignore[misc]


def _of(plane: ControlPlane, places: tuple[str, ...], which: Callable[[str], bool]) -> Iterator[str]:
    for place in places:
        answer = plane.api.get(place)
        for row in answer.json()["items"] if answer.status_code == 200 else ():
            if which(row["metadata"]["name"]):
                yield f"{place}/{row['metadata']['name']}"


def _ours(name: str) -> bool:
    return name.startswith("gpumax") or name.endswith(".gpumax.dev")


def heed(plane: ControlPlane) -> None:
    """Wait until the API server goes by the policies, webhooks and rights that there are now, and by none that was taken away.

    It follows each kind in the order in which that changed: when it goes by one that was just made, it does so by all that was done before.
    """
    name = f"heeded-{uuid.uuid4().hex[:8]}"

    def asked() -> int:
        body = {"metadata": {"name": name}}
        return plane.api.post(_CONFIG_MAPS, json=body, params={"dryRun": "All"}).status_code

    for make, code in ((_policy, 422), (_webhook, 500)):
        with _made(plane, name, make(name)):
            eventually(lambda code=code: asked() == code, "the API server has heard of it")  # type: ignore[misc]
    with _made(plane, name, _rights(name)):
        for place in ({}, {"namespace": "default"}):
            what = on(name if place else f"{name}-all", "get", **place)
            eventually(lambda what=what: may(plane, name, what), "the API server has heard of it")  # type: ignore[misc]


@contextmanager
def _made(plane: ControlPlane, name: str, bodies: dict[str, Document]) -> Iterator[None]:
    for path, body in bodies.items():
        plane.api.post(path, json={"metadata": {"name": name}, **body}).raise_for_status()
    try:
        yield
    finally:
        for path in reversed(bodies):
            plane.api.delete(f"{path}/{name}")


_RULE: Final[Document] = {
    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
}  # fmt: skip


def _only(name: str) -> list[Document]:
    return [{"name": "this", "expression": f"object.metadata.name == '{name}'"}]


def _policy(name: str) -> dict[str, Document]:
    spec = {
        "failurePolicy": "Ignore", "matchConstraints": {"resourceRules": [_RULE]}, "matchConditions": _only(name),
        "validations": [{"expression": "false", "message": "heard"}],
    }  # fmt: skip
    return {
        f"{ADMISSION}/validatingadmissionpolicies": {"spec": spec},
        f"{ADMISSION}/validatingadmissionpolicybindings": {
            "spec": {"policyName": name, "validationActions": ["Deny"]}
        },
    }


def _webhook(name: str) -> dict[str, Document]:
    hook = {
        "name": "heard.gpumax.dev", "clientConfig": {"url": f"https://{HOST}:9/"}, "rules": [_RULE],
        "matchConditions": _only(name), "failurePolicy": "Fail", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
    }  # fmt: skip
    return {f"{ADMISSION}/mutatingwebhookconfigurations": {"webhooks": [hook]}}


def _rights(name: str) -> dict[str, Document]:
    group = "rbac.authorization.k8s.io"
    found: dict[str, Document] = {}
    for space, kind, resource in (("", "ClusterRole", f"{name}-all"), ("/namespaces/default", "Role", name)):
        path = f"{RBAC}{space}/{kind.lower()}"
        found[f"{path}s"] = {"rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]}
        found[f"{path}bindings"] = {
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
        }
    return found


def follow_leases(plane: ControlPlane) -> None:
    """Have the API server follow leases for a policy that says nothing, as long as it lives.

    It follows what policies go by for as long as there is one that goes by it; objects of Kubernetes' own kinds it never follows again after that,
    until it is started anew, and goes by what they last were (up to 1.37 at least).
    """
    spec = {
        "failurePolicy": "Ignore", "paramKind": {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"},
        "matchConstraints": {"resourceRules": [_RULE]}, "matchConditions": [{"name": "never", "expression": "false"}],
        "validations": [{"expression": "true"}],
    }  # fmt: skip
    params = {"namespace": "default", "name": "none", "parameterNotFoundAction": "Allow"}
    for plural, body in (
        ("validatingadmissionpolicies", spec),
        (
            "validatingadmissionpolicybindings",
            {"policyName": "leases-are-followed", "validationActions": ["Deny"], "paramRef": params},
        ),
    ):
        made = {"metadata": {"name": "leases-are-followed"}, "spec": body}
        plane.api.post(f"{ADMISSION}/{plural}", json=made).raise_for_status()


def serve(plane: ControlPlane) -> None:
    """Wait until all our kinds of objects are served, and whoever asks what is served is told so."""
    names = {body["spec"]["names"]["plural"] for body in kinds()}

    def told() -> bool:
        answer = plane.api.get(OURS)
        listed = {row["name"] for row in answer.json()["resources"]} if answer.status_code == 200 else set()
        return names <= listed and all(plane.api.get(f"{OURS}/{name}").status_code == 200 for name in names)

    eventually(told, "our kinds are served")
