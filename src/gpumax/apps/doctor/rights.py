"""Whether the scheduler may do all that it does: its service account, where that can be asked about, else whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import Patient
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import Named
from gpumax.engines.kubernetes.rights import LEASE, OWNERS, RIGHTS, Right
from gpumax.engines.kubernetes.views import Meta


class Verdict(msgspec.Struct, frozen=True):
    """What the API server says."""

    allowed: bool = False


class Review(msgspec.Struct, frozen=True):
    """Of a right, as far as its answer is read."""

    metadata: Meta = Meta()
    status: Verdict = Verdict()


_GROUP: Final = "authorization.k8s.io"
OWN: Final = Kind(
    _GROUP, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", Review, namespaced=False
)
OTHERS: Final = Kind(_GROUP, "v1", "subjectaccessreviews", "SubjectAccessReview", Review, namespaced=False)
ACCOUNTS: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount", Named)
ACCOUNT: Final = "gpumax"
"""The one that the chart makes for the scheduler."""


class Subject(NamedTuple):
    """Whose rights are looked at. fields: how a review names them; none for oneself."""

    name: str
    kind: Kind[Review]
    fields: dict[str, Any]


async def rights(patient: Patient) -> AsyncIterator[Check]:
    """All rights on what the cluster has; those that lack together, by what can't be done without them."""
    subject = await _subject(patient)
    wanted = [right for right in (*RIGHTS, LEASE) if right.group in patient.groups]
    asked = [(right, verb) for right in wanted for verb in right.verbs]
    answers = await asyncio.gather(*(_may(patient, subject, right, verb) for right, verb in asked))
    lacking: dict[str, list[tuple[Right, str]]] = {}
    for (right, verb), allowed in zip(asked, answers, strict=True):
        if not allowed:
            lacking.setdefault(right.purpose, []).append((right, verb))
    if not lacking:
        yield Check("rights", "ok", f"{subject.name} has all {len(asked)} rights that the scheduler needs")
    wish = f"have it steer as the service account {patient.space}/{ACCOUNT} with the chart's roles: {patient.upgrade}"
    for purpose, rows in lacking.items():
        words = ", ".join(f"{verb} {right.resource}" for right, verb in rows[:4])
        words += f" and {len(rows) - 4} more" if len(rows) > 4 else ""
        few: Literal["warn", "fail"] = "warn" if all(right in OWNERS for right, _ in rows) else "fail"
        yield Check("rights", few, f"{subject.name} may not {words}: {purpose}", wish)


async def _subject(patient: Patient) -> Subject:
    """The scheduler's account; ourselves where there is none, or where we may not ask about it."""
    name = f"system:serviceaccount:{patient.space}:{ACCOUNT}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{patient.space}", "system:authenticated"]
    account = Subject(name, OTHERS, {"user": name, "groups": groups})
    try:
        await patient.api.get(ACCOUNTS, ACCOUNT, patient.space)
        await _may(patient, account, RIGHTS[0], RIGHTS[0].verbs[0])
    except ApiRefused as error:
        if error.code not in (403, 404):
            raise
        return Subject(patient.user, OWN, {})
    return account


async def _may(patient: Patient, subject: Subject, right: Right, verb: str) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": part, "verb": verb}
    if right is LEASE:
        attributes |= {"namespace": patient.space} | ({} if verb == "create" else {"name": patient.lease})
    kind = subject.kind
    spec = {**subject.fields, "resourceAttributes": attributes}
    body = {"apiVersion": kind.api_version, "kind": kind.name, "spec": spec}
    return (await patient.api.create(kind, body)).status.allowed
