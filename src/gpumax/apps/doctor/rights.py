"""Whether whoever asks may do all that the scheduler does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import Patient
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.rights import LEASE, OWNERS, RIGHTS, Right
from gpumax.engines.kubernetes.views import Meta


class Verdict(msgspec.Struct, frozen=True):
    """What the API server says."""

    allowed: bool = False


class Review(msgspec.Struct, frozen=True):
    """A SelfSubjectAccessReview, as far as its answer is read."""

    metadata: Meta = Meta()
    status: Verdict = Verdict()


REVIEWS: Final = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", Review, namespaced=False
)  # fmt: skip


ACCOUNT: Final = "gpumax"
"""The one that the chart makes for the scheduler."""


async def rights(patient: Patient) -> AsyncIterator[Check]:
    """All rights on what the cluster has; those that lack together, by what can't be done without them."""
    wanted = [right for right in (*RIGHTS, LEASE) if right.group in patient.groups]
    asked = [(right, verb) for right in wanted for verb in right.verbs]
    answers = await asyncio.gather(*(_may(patient, right, verb) for right, verb in asked))
    lacking: dict[str, list[tuple[Right, str]]] = {}
    for (right, verb), allowed in zip(asked, answers, strict=True):
        if not allowed:
            lacking.setdefault(right.purpose, []).append((right, verb))
    if not lacking:
        yield Check("rights", "ok", f"{patient.user} has all {len(asked)} rights that the scheduler needs")
    wish = f"steer as the service account {patient.space}/{ACCOUNT}, or have the chart's roles granted: {patient.upgrade}"
    for purpose, rows in lacking.items():
        words = ", ".join(f"{verb} {right.resource}" for right, verb in rows[:4])
        words += f" and {len(rows) - 4} more" if len(rows) > 4 else ""
        state = "warn" if all(right in OWNERS for right, _ in rows) else "fail"
        yield Check("rights", state, f"{patient.user} may not {words}: {purpose}", wish)  # type: ignore[arg-type]


async def _may(patient: Patient, right: Right, verb: str) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": part, "verb": verb}
    if right is LEASE:
        attributes |= {"namespace": patient.space} | ({} if verb == "create" else {"name": patient.lease})
    body = {
        "apiVersion": REVIEWS.api_version,
        "kind": REVIEWS.name,
        "spec": {"resourceAttributes": attributes},
    }
    return (await patient.api.create(REVIEWS, body)).status.allowed
