"""The API of one cluster: read, watch, write. What may be asked again safely is; what may not is told to the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.connection import ANSWER_S, Connection, Request, Timed
from gpumax.engines.kubernetes.client.decode import NotUnderstood
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.lists import Listed, listed
from gpumax.engines.kubernetes.client.retry import Pauses
from gpumax.engines.kubernetes.client.views import Thing, View
from gpumax.engines.kubernetes.client.watch import Watch

T = TypeVar("T", bound=View)

TRIES: Final = 6
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
MANAGER: Final = "fieldManager"
"""Who writes: the only thing of a request beside its object that the server's policies see of creations and changes alike."""
_PODS: Final = Kind("", "v1", "pods", "Pod", Thing)


class Api:
    """One cluster's API, as whoever `access` says we are. answer_s: how long a write waits for its answer."""

    def __init__(
        self,
        access: Access,
        *,
        agent: str = "gpumax",
        pauses: Pauses | None = None,
        tries: int = TRIES,
        stamp: Callable[[], str] = str,
        answer_s: float = ANSWER_S,
        timed: Timed | None = None,
    ) -> None:
        """stamp: as whom what is written is signed, at the moment at which it is asked for; empty: not at all."""
        self.access = access
        self.connection = Connection(access, agent, timed)
        self.pauses = pauses or Pauses()
        self._tries = tries
        self._stamp = stamp
        self._answer_s = answer_s
        self._may: Callable[[], bool] | None = None

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    def only_while(self, may: Callable[[], bool]) -> Api:
        """The same, over the same connections; its writes are sent only while they may be, else they are Withheld."""
        own = copy(self)
        own._may = may
        return own

    async def version(self) -> Mapping[str, str]:
        """What /version says: `gitVersion`, `major`, `minor` and more."""
        answer = await self.read(Request("GET", "/version"))
        try:
            return msgspec.json.decode(answer, type=dict[str, str])
        except msgspec.DecodeError:
            raise NotUnderstood(f"{self.access.server}/version says no version of Kubernetes") from None

    async def get(self, kind: Kind[T], name: str, namespace: str = "") -> T:
        """One object."""
        return self._one(kind, await self.read(Request("GET", kind.path(namespace, name))))

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listed[T]:
        """All objects as of one moment, in pages as far as it's long; selectors narrow them."""
        return await listed(self.read, kind, namespace, {"labelSelector": labels, "fieldSelector": fields})

    def watch(
        self, kind: Kind[T], namespace: str = "", *, since: str = "", labels: str = "", fields: str = ""
    ) -> Watch[T]:
        """What happens after a version; if none is named, all that is there and then what happens."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        return Watch(self.connection, kind, namespace, since, selectors)

    async def create(self, kind: Kind[T], body: Mapping[str, Any], namespace: str = "") -> T:
        """Create an object; 409 AlreadyExists where it's there. Of OutcomeUnknown a look at its name makes certainty."""
        request = Request("POST", kind.path(namespace), body=msgspec.json.encode(body))
        return self._one(kind, await self.write(request))

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        patch: object,
        namespace: str = "",
        *,
        part: str = "",
        how: str = MERGE_PATCH,
    ) -> T:
        """Change an object, or a part of it as `status`. A version in the patch's metadata makes it hold for that one only."""
        body = msgspec.json.encode(patch)
        request = Request("PATCH", kind.path(namespace, name, part), body=body, content=how)
        return self._one(kind, await self.write(request))

    async def apply(
        self,
        kind: Kind[T],
        name: str,
        body: Mapping[str, Any],
        namespace: str = "",
        *,
        manager: str,
        part: str = "",
    ) -> T:
        """Say how the fields that are ours should be (server-side apply); fields that others took over are taken back."""
        document = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        query = {MANAGER: manager, "force": "true"}
        request = Request(
            "PATCH", kind.path(namespace, name, part), query, msgspec.json.encode(document), APPLY_PATCH
        )
        return self._one(kind, await self.write(request))

    async def delete(
        self,
        kind: Kind[T],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        version: str = "",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object; only this very one if its uid is named, and only as it was at a version."""
        conditions = {name: value for name, value in (("uid", uid), ("resourceVersion", version)) if value}
        body = _delete_options(conditions, grace_s)
        await self.write(Request("DELETE", kind.path(namespace, name), body=msgspec.json.encode(body)))

    async def bind(
        self, namespace: str, name: str, uid: str, node: str, annotations: Mapping[str, str] | None = None
    ) -> None:
        """Bind a pod to a node. 409 where it is bound already, or where another pod has its name now.

        annotations: what the pod gets in the same moment, or doesn't.
        """
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid,
                **({"annotations": annotations} if annotations else {}),
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self.write(
            Request("POST", _PODS.path(namespace, name, "binding"), body=msgspec.json.encode(body))
        )

    async def evict(self, namespace: str, name: str, uid: str, *, grace_s: int | None = None) -> None:
        """Ask for a pod to go. 429 with `by_budget`, at once, where a disruption budget forbids it now."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options({"uid": uid} if uid else {}, grace_s),
        }
        await self.write(
            Request("POST", _PODS.path(namespace, name, "eviction"), body=msgspec.json.encode(body))
        )

    async def read(self, request: Request) -> bytes:
        """Ask, and ask again where nobody answers or the server has too much to do: nothing can come of it."""
        return await self._tried(request, lambda error: error.code == 429 or error.code >= 500)

    async def write(self, request: Request) -> bytes:
        """Send a write. It is sent again only where it is certain that it was not carried out: nothing was sent, or 429."""
        # Signed once: what is sent again later is still of the epoch in which it was decided.
        if (stamp := self._stamp()) and request.method != "DELETE" and MANAGER not in request.query:
            request = replace(request, query={**request.query, MANAGER: stamp})
        own = replace(request, may=self._may, patience_s=min(request.patience_s, self._answer_s))
        return await self._tried(own, lambda error: error.code == 429 and not error.by_budget)

    async def _tried(self, request: Request, again: Callable[[ApiRefused], bool]) -> bytes:
        pauses = self.pauses.fresh()
        for _ in range(self._tries - 1):
            try:
                return await self.connection.ask(request)
            except ApiRefused as error:
                if not again(error):
                    raise
                await pauses.pause(error.retry_after_s)
            except NoAnswer:
                await pauses.pause()
        return await self.connection.ask(request)

    def _one(self, kind: Kind[T], body: bytes) -> T:
        one: T = kind.decoders.one(body)
        return one


def _delete_options(conditions: Mapping[str, str], grace_s: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if conditions:
        options["preconditions"] = dict(conditions)
    if grace_s is not None:
        options["gracePeriodSeconds"] = grace_s
    return options
