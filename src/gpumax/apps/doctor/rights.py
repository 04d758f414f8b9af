"""Whether the scheduler may do all that it does: its service account, where that can be asked about, else whoever asks; of a tenant, what a tenant needs."""

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
from gpumax.engines.kubernetes.rights import BIND, COMFORTS, LEASE, OWNERS, RIGHTS, SUBMITTING, Right
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
    if await _is_tenant(patient, subject):
        async for check in _tenant(patient, subject):
            yield check
        return
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


async def _is_tenant(patient: Patient, subject: Subject) -> bool:
    """Whether somebody asks of himself who is no scheduler and could be none. The scheduler's own account is one, whatever it lacks."""
    return (
        subject.kind is OWN
        and patient.user != _name(patient)
        and not await _may(patient, subject, BIND, BIND.verbs[0])
    )


async def _tenant(patient: Patient, subject: Subject) -> AsyncIterator[Check]:
    """What a tenant needs in the namespace of the context."""
    space = patient.api.access.namespace
    wanted = [right for right in (*SUBMITTING, *COMFORTS) if right.group in patient.groups]
    asked = [(right, verb) for right in wanted for verb in right.verbs]
    answers = await asyncio.gather(*(_may(patient, subject, right, verb, space) for right, verb in asked))
    lacking: dict[Right, list[str]] = {}
    for (right, verb), allowed in zip(asked, answers, strict=True):
        if not allowed:
            lacking.setdefault(right, []).append(verb)
    if not lacking:
        yield Check(
            "rights",
            "ok",
            f"{subject.name} has all {len(asked)} rights that submitting work and looking at it take in namespace {space}",
        )
        return
    wish = f"have the role `edit` bound to you in namespace {space} (the chart's rbac.aggregate adds gangs to it), or name another by --namespace"
    vital = [right for right in lacking if right in SUBMITTING]
    words = "; ".join(
        f"{', '.join(verbs)} {right.resource} ({right.purpose})" for right, verbs in lacking.items()
    )
    yield Check(
        "rights", "fail" if vital else "warn", f"in namespace {space} {subject.name} may not {words}", wish
    )


def _name(patient: Patient) -> str:
    """Of the scheduler's account."""
    return f"system:serviceaccount:{patient.space}:{ACCOUNT}"


async def _subject(patient: Patient) -> Subject:
    """The scheduler's account; ourselves where there is none, or where we may not ask about it."""
    name = _name(patient)
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


async def _may(patient: Patient, subject: Subject, right: Right, verb: str, namespace: str = "") -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": part, "verb": verb}
    if namespace:
        attributes["namespace"] = namespace
    if right is LEASE:
        attributes |= {"namespace": patient.space} | ({} if verb == "create" else {"name": patient.lease})
    kind = subject.kind
    spec = {**subject.fields, "resourceAttributes": attributes}
    body = {"apiVersion": kind.api_version, "kind": kind.name, "spec": spec}
    return (await patient.api.create(kind, body)).status.allowed
