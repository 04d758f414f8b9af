"""What a cluster needs before it can be steered: our kinds of objects, what guards decisions, and a first queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import yaml

from gpumax.engines.kubernetes import crds
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.guard import kind_of, objects
from gpumax.engines.kubernetes.kinds import GANGS, QUEUES, TOPOLOGIES, Named
from gpumax.errors import Refused, Unreachable

CRDS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", Named, namespaced=False
)  # fmt: skip
MANAGER: Final = "gpumax"
OWN: Final = (QUEUES, GANGS, TOPOLOGIES)
PATIENCE_S: Final = 30.0
_PAUSE_S: Final = 0.2


def kinds() -> Iterator[dict[str, Any]]:
    """Our kinds of objects, as they are applied."""
    for path in sorted(files(crds).iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            yield yaml.safe_load(path.read_text(encoding="utf-8"))


async def install(access: Access, *, require_use: bool = False) -> list[str]:
    """Add our kinds and what guards decisions, or bring them up to date; make the queue `default` where there is no queue. Returns what was done, as sentences."""
    async with Api(access) as api:
        done = []
        for kind in kinds():
            name = kind["metadata"]["name"]
            await api.apply(CRDS, name, kind, manager=MANAGER)
            done.append(f"kind {name} is there")
        for body in (*objects("decisions"), *objects("only"), *(objects("queues") if require_use else ())):
            await api.apply(kind_of(body), body["metadata"]["name"], body, manager=MANAGER)
        done.append("policies are there that keep what is decided where tenants can't write it")
        await _served(api)
        return done + await _first_queue(api)


async def first_queue(access: Access) -> list[str]:
    """Make the queue `default` where there is no queue. Returns what was done, as sentences."""
    async with Api(access) as api:
        return await _first_queue(api)


async def _first_queue(api: Api) -> list[str]:
    if (await api.list(QUEUES)).items:
        return []
    spec = {"quota": {"gpu": 0, "cpu": 0, "memory": 0}, "weight": {"gpu": 1, "cpu": 1, "memory": 1}}
    body = {
        "apiVersion": QUEUES.api_version,
        "kind": QUEUES.name,
        "metadata": {"name": "default"},
        "spec": spec,
    }
    try:
        await api.create(QUEUES, body)
    except ApiRefused as error:
        if error.code != 409:
            raise
        return []  # another replica was faster
    return ["queue default is there, without a quota: it uses what others leave"]


async def check(access: Access) -> None:
    """Refused where the cluster lacks our kinds; Unreachable where it can't be asked."""
    async with Api(access) as api:
        if not await Discovery(api).serves(QUEUES):
            raise Refused(
                f"cluster {access.name} has no {QUEUES.plural}.{QUEUES.group}; `gpumax up --kubernetes --install` adds our kinds of "
                "objects and a queue `default` (that takes the right to change CustomResourceDefinitions)"
            )


async def _served(api: Api) -> None:
    """Wait until all that was just described is served, and known to be: who steers follows what is served when it begins, and no more later."""
    missing = [QUEUES.plural]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while missing := await _missing(api):
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        raise Unreachable(
            f"{', '.join(missing)} of {QUEUES.group} are not served {PATIENCE_S:g} s after they were added"
        ) from None


async def _missing(api: Api) -> list[str]:
    """Our kinds that can't be listed yet, or of which whoever asks isn't told."""
    known = Discovery(api)
    missing = []
    for kind in OWN:
        try:
            await api.list(kind)
            served = await known.serves(kind)
        except ApiRefused as error:
            if error.code not in (404, 429):
                raise
            served = False
        if not served:
            missing.append(kind.plural)
    return missing
