"""Which kinds a cluster serves, and where."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.decode import NotUnderstood
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import Named, Whole

MOST_GROUPS: Final = 1000


class Resource(msgspec.Struct, frozen=True):
    """One kind of a group: where it is served. Names with a slash are parts of others."""

    name: str
    kind: str
    namespaced: bool = True
    verbs: tuple[str, ...] = ()


class Resources(msgspec.Struct, frozen=True):
    """The kinds of one version of a group."""

    resources: tuple[Resource, ...] = ()


class Discovery:
    """Asks once a version of a group; `forget` where something was installed since."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, tuple[Resource, ...]] = {}

    def forget(self) -> None:
        """Ask again."""
        self._known.clear()

    async def serves(self, kind: Kind[Any]) -> bool:
        """Whether the cluster has this kind, and lets it be watched."""
        return any(
            row.name == kind.plural and "watch" in row.verbs
            for row in await self._resources(kind.api_version)
        )

    async def find(self, api_version: str, kind: str, *, whole: bool) -> Kind[Any] | None:
        """The kind of that name; None where the cluster doesn't have it. whole: read its spec, too."""
        group, _, version = api_version.rpartition("/")
        for row in await self._resources(api_version):
            if row.kind == kind and "/" not in row.name and "watch" in row.verbs:
                view = Whole if whole else Named
                return Kind(group, version, row.name, kind, view, namespaced=row.namespaced)
        return None

    async def _resources(self, api_version: str) -> tuple[Resource, ...]:
        known = self._known.get(api_version)
        if known is None:
            known = await self._ask(api_version)
            if len(self._known) < MOST_GROUPS:
                self._known[api_version] = known
        return known

    async def _ask(self, api_version: str) -> tuple[Resource, ...]:
        # Kind knows how to write a path that leads nowhere else.
        group, _, version = api_version.rpartition("/")
        path = Kind(group, version, "x", "", Named).path().rpartition("/")[0]
        try:
            body = await self._api.read(Request("GET", path))
        except ApiRefused as error:
            if error.code == 404:
                return ()
            raise
        try:
            return msgspec.json.decode(body, type=Resources).resources
        except msgspec.DecodeError:
            raise NotUnderstood(f"{path} lists no kinds") from None
