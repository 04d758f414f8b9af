"""Claims to parts of devices: made for one pod, allocated where the scheduler placed it, read by the agent of that node.

A tenant may make or delete claims of its namespace, but not write their status; so what counts is the allocation in the status, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.grants import Amount, Given, Grant, read_grant, written
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.engines.kubernetes.offers import device_name
from gpumax.engines.kubernetes.views import ABSENT, Meta, Part
from gpumax.errors import Refused

SOURCE: Final = "FromClass"
"""Whence the parameters are said to come: those `FromClaim` could be copied from what a tenant wrote."""
FINALIZER: Final = "resource.kubernetes.io/delete-protection"
"""Keeps an allocated claim until nobody uses it; Kubernetes' own controller takes it off."""


class Result(Part, frozen=True, rename="camel", gc=False):
    """One device of an allocation."""

    request: str = ""
    driver: str = ""
    pool: str = ""
    device: str = ""
    share_id: str = msgspec.field(default="", name="shareID")


class Opaque(Part, frozen=True, rename="camel", gc=False):
    """Parameters for one driver."""

    driver: str = ""
    parameters: msgspec.Raw = ABSENT


class Config(Part, frozen=True, rename="camel", gc=False):
    """Parameters, and where they come from."""

    source: str = ""
    opaque: Opaque | None = None


class Devices(Part, frozen=True, rename="camel", gc=False):
    """The devices of an allocation, and what drivers are told of them."""

    results: tuple[Result, ...] | None = ()
    config: tuple[Config, ...] | None = ()


class Allocation(Part, frozen=True, rename="camel", gc=False):
    """What a claim was given."""

    devices: Devices = Devices()


class User(Part, frozen=True, rename="camel", gc=False):
    """Who may use a claim."""

    resource: str = ""
    name: str = ""
    uid: str = ""


class ClaimStatus(Part, frozen=True, rename="camel", gc=False):
    """What became of a claim."""

    allocation: Allocation | None = None
    reserved_for: tuple[User, ...] | None = ()


class Claim(Part, frozen=True, rename="camel", gc=False):
    """A ResourceClaim."""

    metadata: Meta = Meta()
    status: ClaimStatus | None = None


CLAIMS: Final = Kind("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", Claim)


def results_on(claim: Claim, node: str) -> tuple[Result, ...]:
    """The devices of ours that a claim holds on a node."""
    allocation = claim.status.allocation if claim.status is not None else None
    rows = allocation.devices.results if allocation is not None else ()
    return tuple(row for row in rows or () if row.driver == keys.DRIVER and row.pool == node)


def grant_in(claim: Claim) -> Grant | None:
    """What a claim was given by the scheduler; None where that isn't said."""
    allocation = claim.status.allocation if claim.status is not None else None
    for config in (allocation.devices.config or ()) if allocation is not None else ():
        if config.source == SOURCE and config.opaque is not None and config.opaque.driver == keys.DRIVER:
            return read_grant(bytes(config.opaque.parameters))
    return None


async def allocate(api: Api, pod: Mapping[str, str], node: str, given: Given) -> None:
    """Make the claim of a pod say that it is given this, whatever it says now. pod: its namespace, name and uid; it has no node yet."""
    space, name = pod["namespace"], given.claim
    try:
        claim = await api.create(CLAIMS, document(pod, given), space)
    except ApiRefused as error:
        if error.reason != "AlreadyExists":
            raise
        claim = await api.get(CLAIMS, name, space)
    if all(owner.uid != pod["uid"] for owner in claim.metadata.owner_references or ()):
        raise Refused(f"the claim {space}/{name} was made by somebody else; delete it")
    if results_on(claim, node) and grant_in(claim) == given.grant and _reserved(claim, pod["uid"]):
        return
    if claim.status is not None and claim.status.allocation is not None:
        # An earlier place that came to nothing. What is allocated can't be changed, but given back.
        claim = await _write(api, claim, {"allocation": None, "reservedFor": None})
    await _write(api, claim, status(node, pod, given))


async def map_containers(api: Api, pod: Mapping[str, str], given: Given) -> None:
    """Have the kubelet give devices of the claim to containers that ask for a resource (DRAExtendedResource)."""
    status = {"resourceClaimName": given.claim, "requestMappings": given.mappings}
    patch = {"metadata": {"uid": pod["uid"]}, "status": {"extendedResourceClaimStatus": status}}
    found = await api.patch(PODS, pod["name"], patch, pod["namespace"], part="status")
    kept = found.status.extended_resource_claim_status
    if kept is None or kept.resource_claim_name != given.claim:
        raise Refused(
            "the cluster doesn't give out devices of claims for resources (its gate DRAExtendedResource is off)"
        )


async def _write(api: Api, claim: Claim, status: Mapping[str, Any]) -> Claim:
    meta = claim.metadata
    patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
    return await api.patch(CLAIMS, meta.name, patch, meta.namespace, part="status")


def _reserved(claim: Claim, uid: str) -> bool:
    return claim.status is not None and any(user.uid == uid for user in claim.status.reserved_for or ())


def document(pod: Mapping[str, str], given: Given) -> dict[str, Any]:
    """The claim as it is made: it goes with its pod."""
    part = max(given.grant.devices.values(), key=lambda part: (part.milli, part.memory_mib))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"], "controller": True}
    exactly = {
        "deviceClassName": keys.DRIVER,
        "allocationMode": "ExactCount",
        "capacity": {"requests": _capacity(part)},
    }
    requests = [
        {"name": name, "exactly": exactly | {"count": len(indexes)}}
        for name, indexes in given.requests.items()
    ]
    return {
        "apiVersion": CLAIMS.api_version,
        "kind": CLAIMS.name,
        "metadata": {"name": given.claim, "ownerReferences": [owner], "finalizers": [FINALIZER]},
        "spec": {"devices": {"requests": requests}},
    }


def status(node: str, pod: Mapping[str, str], given: Given) -> dict[str, Any]:
    """The allocation. Where the server doesn't know parts of devices it leaves amounts out; the parameters have them in any case."""
    results = [
        {
            "request": request, "driver": keys.DRIVER, "pool": node, "device": device_name(index),
            "shareID": str(uuid.uuid4()), "consumedCapacity": _capacity(given.grant.devices[index]),
        }
        for request, indexes in given.requests.items()
        for index in indexes
    ]  # fmt: skip
    parameters = {"driver": keys.DRIVER, "parameters": msgspec.Raw(written(given.grant).encode())}
    there = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {
        "allocation": {
            "devices": {
                "results": results,
                "config": [{"source": SOURCE, "requests": list(given.requests), "opaque": parameters}],
            },
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [there]}]},
        },
        "reservedFor": [{"resource": "pods", "name": pod["name"], "uid": pod["uid"]}],
    }


def _capacity(part: Amount) -> dict[str, str]:
    found = {"milli": str(part.milli)}
    return found | {"memory": f"{part.memory_mib}Mi"} if part.memory_mib else found
