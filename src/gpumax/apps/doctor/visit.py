"""The door: everything is looked at, one thing after the other, and nothing is changed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final

import msgspec

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor import guards, hardware, kinds, rights, steering
from gpumax.apps.doctor.patient import Look, Patient
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.choose import access
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.rights import VIEW
from gpumax.engines.kubernetes.views import Meta
from gpumax.errors import GpumaxError, Refused

OLDEST: Final = (1, 33)
TESTED: Final = (1, 37)
"""The newest version that gpumax was tested on."""
TRIES: Final = 2
LOOKS: Final[tuple[tuple[str, Look], ...]] = (
    ("clock", steering.clock),
    ("rights", rights.rights),
    ("kinds", kinds.kinds),
    ("queues", kinds.queues),
    ("policies", guards.policies),
    ("webhook", guards.webhook),
    ("gpus", hardware.gpus),
    ("shares", hardware.shares),
    ("claims", hardware.claims),
    ("neighbours", hardware.neighbours),
    ("leader", steering.leader),
)


class Oneself(msgspec.Struct, frozen=True, rename="camel"):
    """Who asked."""

    username: str = ""


class Said(msgspec.Struct, frozen=True, rename="camel"):
    """What the API server says of who asks."""

    user_info: Oneself = Oneself()


class Review(msgspec.Struct, frozen=True):
    """A SelfSubjectReview."""

    metadata: Meta = Meta()
    status: Said = Said()


class Group(msgspec.Struct, frozen=True):
    """A group of the API."""

    name: str


class Groups(msgspec.Struct, frozen=True):
    """All of them."""

    groups: tuple[Group, ...] = ()


REVIEWS: Final = Kind(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", Review, namespaced=False
)


def examine(context: str, lease: str, tell: Callable[[Check], object], namespace: str = "") -> None:
    """Look at the cluster of a context. tell: called with each finding as soon as it is there. namespace: in which whoever asks submits work; empty:
    that of the context. Refused for a lease that is none.
    """
    space, _, name = lease.partition("/")
    if not (space and name):
        raise Refused(f"found --lease {lease!r}; wanted NAMESPACE/NAME")
    asyncio.run(_examine(context, namespace, space, name, tell))


async def _examine(
    context: str, namespace: str, space: str, lease: str, tell: Callable[[Check], object]
) -> None:
    try:
        found = access(context)
    except GpumaxError as error:
        tell(
            Check(
                "cluster",
                "fail",
                str(error),
                "name a context by `--engine kubernetes:CONTEXT`, or correct KUBECONFIG",
            )
        )
        return
    if namespace:
        found = msgspec.structs.replace(found, namespace=namespace)
    async with Api(found, tries=TRIES) as api:
        try:
            tell(_version((await api.version()).get("gitVersion", ""), f"{found.name} ({found.server})"))
            patient = await _meet(api, space, lease)
        except GpumaxError as error:
            tell(
                Check(
                    "cluster",
                    "fail",
                    str(error),
                    "correct the context, or ask who runs the cluster; nothing else can be looked at",
                )
            )
            return
        for note in found.notes():
            tell(Check("cluster", "warn", note, "correct the context"))
        denied = [name for name, look in LOOKS if not await _look(name, look, patient, tell)]
        if denied:
            words = f"not looked at, since {patient.user} may not: {', '.join(denied)}"
            wish = (
                "nothing of that is needed to submit work; an administrator of the cluster can look at it, and bind the chart's role "
                f"{VIEW} to whoever is to see nodes, queues and the board"
            )
            tell(Check("rights", "warn", words, wish))


async def _look(name: str, look: Look, patient: Patient, tell: Callable[[Check], object]) -> bool:
    """What can't be looked at hides nothing else. Returns whether we have the right to look."""
    try:
        async for check in look(patient):
            tell(check)
    except ApiRefused as error:
        if error.code == 403:
            return False
        tell(Check(name, "fail", str(error), "see the log of the API server"))
    except GpumaxError as error:
        tell(Check(name, "fail", str(error), "see the log of the API server"))
    return True


def _version(told: str, where: str) -> Check:
    match = re.match(r"v(\d+)\.(\d+)", told)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    found = f"{where}, Kubernetes {told or 'of an unknown version'}"
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST, TESTED))
    if version < OLDEST:
        return Check(
            "cluster", "fail", found, f"upgrade it to {oldest} or newer; gpumax needs what came with that"
        )
    if version > TESTED:
        return Check("cluster", "warn", found, f"look for a newer gpumax; this one was tested up to {newest}")
    return Check("cluster", "ok", found)


async def _meet(api: Api, space: str, lease: str) -> Patient:
    review = await api.create(REVIEWS, {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.name})
    groups = msgspec.json.decode(await api.read(Request("GET", "/apis")), type=Groups)
    own_ms = int(time.time() * 1000)
    behind_s = (api.connection.time.now_ms(own_ms) - own_ms) / 1000
    names = frozenset(group.name for group in groups.groups) | {""}
    return Patient(api, review.status.user_info.username or "nobody", names, space, lease, behind_s)
