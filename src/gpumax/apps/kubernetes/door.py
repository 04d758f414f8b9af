"""The one door: the same requests as to the server of one machine, answered by a cluster."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar
from urllib.parse import unquote

from msgspec.structs import replace

from gpumax.apps.kubernetes.act import act, delete
from gpumax.apps.kubernetes.attach import Console, attach
from gpumax.apps.kubernetes.events import list_events, watch
from gpumax.apps.kubernetes.logs import get_log
from gpumax.apps.kubernetes.look import (
    get_board,
    get_why,
    get_workload,
    list_gpus,
    list_nodes,
    list_workloads,
)
from gpumax.apps.kubernetes.queues import delete_queue, get_queue, list_queues, put_queue
from gpumax.apps.kubernetes.refusals import plainly
from gpumax.apps.kubernetes.request import Item, Request
from gpumax.apps.kubernetes.site import Site
from gpumax.apps.kubernetes.stream import Stream, waited_for
from gpumax.apps.kubernetes.submit import submit
from gpumax.engines.kubernetes.assembly import SCHEDULER
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.incluster import from_pod, is_inside
from gpumax.engines.kubernetes.client.kubeconfig import access_from, files_of
from gpumax.errors import GpumaxError, Refused

T = TypeVar("T")
Asked = Callable[[Site, Request], Awaitable[Item]]
Streamed = Callable[[Site, Request], AsyncIterator[bytes]]
_NAMESPACE: Final = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Route(NamedTuple):
    """A method, and a path whose `*` are words that the route leaves open."""

    method: str
    path: re.Pattern[str]


def _route(method: str, path: str) -> Route:
    return Route(method, re.compile(path.replace("*", "([^/]+)")))


ROUTES: Final[dict[Route, Asked]] = {
    _route("GET", "/workloads"): list_workloads,
    _route("POST", "/workloads"): submit,
    _route("GET", "/workloads/*"): get_workload,
    _route("DELETE", "/workloads/*"): delete,
    _route("GET", "/workloads/*/why"): get_why,
    _route("POST", "/workloads/*/(stop|suspend|resume)"): act,
    _route("GET", "/queues"): list_queues,
    _route("GET", "/queues/*"): get_queue,
    _route("PUT", "/queues/*"): put_queue,
    _route("DELETE", "/queues/*"): delete_queue,
    _route("GET", "/nodes"): list_nodes,
    _route("GET", "/gpus"): list_gpus,
    _route("GET", "/board"): get_board,
    _route("GET", "/events"): list_events,
}
STREAMS: Final[dict[Route, Streamed]] = {
    _route("GET", "/workloads/*/tasks/([0-9]{1,6})/log"): get_log,
    _route("GET", "/watch"): watch,
}


class ClusterApi:
    """Requests to one cluster, from any thread. about: which cluster and namespace answer; timeout_s: for an answer, None for no bound."""

    def __init__(self, access: Access, scheduler: str = SCHEDULER, *, timeout_s: float | None = None) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()
        self._site: Site = self._call(_open(access, scheduler))
        self.about = self._site.where

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Item:
        """GET a JSON object."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Item:
        """One request. Lists say which engine answered."""
        answer, request = _find(ROUTES, method, path, query, body)
        with plainly(self.about):
            item = self._call(answer(self._site, request))
        return {**item, "engine": self.engine} if "items" in item else item

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> Stream:
        """An answer that comes piece by piece."""
        answer, request = _find(STREAMS, method, path, query, body)
        return Stream(answer(self._site, request), self._loop, self.about)

    def attach(self, name: str, rank: int, words: Sequence[str], console: Console) -> int:
        """Run a command beside a task, to its exit code."""
        with plainly(self.about):
            return self._call(attach(self._site, name, rank, words, console))

    @property
    def engine(self) -> Item:
        """Who answers."""
        access = self._site.api.access
        return {"name": "kubernetes", "context": access.name, "namespace": access.namespace}

    def close(self) -> None:
        """Let go."""
        with suppress(GpumaxError, OSError):
            self._call(_end(self._site))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Awaitable[T]) -> T:
        return waited_for(_awaited(work), self._loop, self._timeout_s)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _open(access: Access, scheduler: str) -> Site:
    # A person waits for the answer: nobody wants to be told after a minute that the cluster is gone.
    return Site(Api(access, agent="gpumax-cli", tries=2), scheduler)


async def _end(site: Site) -> None:
    """Let go of whoever still listens: a log that is followed, a watch."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await site.api.connection.close()


def _find(
    routes: Mapping[Route, T],
    method: str,
    path: str,
    query: Mapping[str, object] | None,
    body: bytes | Item | list[Item] | None,
) -> tuple[T, Request]:
    given = {name: str(value) for name, value in (query or {}).items() if value is not None and value != ""}
    for route, answer in routes.items():
        match = route.path.fullmatch(path)
        if match is not None and route.method == method:
            return answer, Request(tuple(map(unquote, match.groups())), given, body)
    raise Refused(
        f"a cluster has no server of gpumax to answer that ({method} {path}); `gpumax doctor` looks at a cluster, "
        "and `--engine local` asks the server of this machine"
    )


def access(context: str = "", namespace: str = "") -> Access:
    """The cluster of a context, as its user; of the pod that we are in where none is named; else of the current context."""
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise Refused(
            f"{namespace[:80]!r} can't be the name of a namespace; wanted lower-case letters, digits and `-`, 63 at most"
        )
    found = from_pod() if not context and is_inside() else access_from(files_of(), context)
    return replace(found, namespace=namespace) if namespace else found
