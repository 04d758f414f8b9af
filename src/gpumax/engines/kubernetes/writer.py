"""Writes to the cluster: each one once, each only while we steer, and whatever comes of it is told to who asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from gpumax.engines.kubernetes.client.api import STRATEGIC_PATCH, Api
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, OutcomeUnknown
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import PODS, Named
from gpumax.engines.kubernetes.lease import Fence
from gpumax.engines.kubernetes.telling import Told, condition, event
from gpumax.errors import GpumaxError

EVENTS: Final = Kind("events.k8s.io", "v1", "events", "Event", Named)
FENCE: Final = "gpumax-fence"
"""The policy of the API server that refuses writes of another epoch than the lease's."""
ANOTHER: Final = "another replica steers now"
LOOK_S: Final = 1.0
"""How long after an unclear answer it is looked at what became of the write."""
_log: Final = logging.getLogger("gpumax.kubernetes")

Outcome = Literal["done", "refused", "kept"]
"""kept: a disruption budget forbids the eviction now."""


class Target(NamedTuple):
    """A pod that is written to: this very one, whoever has its name later."""

    namespace: str
    name: str
    uid: str

    @property
    def task(self) -> str:
        """As decisions name it."""
        return f"{self.namespace}/{self.name}"


class Writer:
    """All within one event loop. `came` is called with what became of each bind and eviction."""

    def __init__(self, api: Api, fence: Fence, came: Callable[[Target, Outcome, str], None]) -> None:
        self._api = api
        self._fence = fence
        self._came = came
        self._under_way: set[asyncio.Task[None]] = set()
        self.counts = dict.fromkeys(("binds", "evictions", "conditions", "refused", "fenced"), 0)

    def bind(self, target: Target, node: str) -> None:
        """Bind the pod to the node."""
        self._start(self._bind(target, node))

    def evict(self, target: Target, row: Told, grace_s: int | None = None) -> None:
        """Say why, then ask for the pod to go."""
        self._start(self._evict(target, row, grace_s))

    def tell(self, target: Target, row: Told, version: str, *, aloud: bool) -> None:
        """Write the condition to the pod as it was at this version: one that was bound since is not told that it waits. aloud: an event, too."""
        self._start(self._tell(target, row, version, aloud=aloud))

    async def settled(self) -> None:
        """Wait for all writes that are under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def end(self) -> None:
        """Let go of what is under way; whether it was carried out, the cluster itself will say."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _bind(self, target: Target, node: str) -> None:
        if not self._may():
            self._came(target, "refused", ANOTHER)
            return
        self.counts["binds"] += 1
        try:
            await self._api.bind(target.namespace, target.name, target.uid, node)
        except OutcomeUnknown:
            await self._look(target)
        except GpumaxError as error:
            self._refused(target, error)
        else:
            self._came(target, "done", "")

    async def _look(self, target: Target) -> None:
        """What became of a bind that nobody answered clearly. Until that is known, its room counts as taken."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                pod = await self._api.get(PODS, target.name, target.namespace)
            except ApiRefused as error:
                if error.code == 404:
                    self._refused(target, error)
                    return
            except GpumaxError:
                continue
            else:
                if pod.metadata.uid == target.uid and pod.spec.node_name:
                    self._came(target, "done", "")
                else:
                    self._came(target, "refused", "the bind was not carried out")
                return

    async def _evict(self, target: Target, row: Told, grace_s: int | None) -> None:
        if not self._may():
            self._came(target, "refused", ANOTHER)
            return
        self.counts["evictions"] += 1
        await self._tell(target, row, "", aloud=True)
        try:
            await self._api.evict(target.namespace, target.name, target.uid, grace_s=grace_s)
        except ApiRefused as error:
            if error.by_budget:
                self._came(target, "kept", str(error.message))
            elif error.code == 404 or error.reason == "Conflict":
                self._came(target, "done", "")  # it has gone
            else:
                self._refused(target, error)
        except OutcomeUnknown:
            # Asked again by a later decision, if it is still there.
            self._came(target, "refused", "nobody knows whether it was carried out")
        except GpumaxError as error:
            self._refused(target, error)
        else:
            self._came(target, "done", "")

    async def _tell(self, target: Target, row: Told, version: str, *, aloud: bool) -> None:
        """Words that can't be written are no reason to do or not to do anything."""
        if not self._may():
            return
        self.counts["conditions"] += 1
        now = datetime.now(UTC)
        patch = {
            "metadata": {"uid": target.uid} | ({"resourceVersion": version} if version else {}),
            "status": {"conditions": [condition(row, now.strftime("%Y-%m-%dT%H:%M:%SZ"))]},
        }
        try:
            await self._api.patch(
                PODS, target.name, patch, target.namespace, part="status", how=STRATEGIC_PATCH
            )
            if aloud:
                moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                await self._api.create(EVENTS, event(row, target._asdict(), moment), target.namespace)
        except (ApiRefused, NoAnswer, OutcomeUnknown) as error:
            if self._fenced(error):
                return
            _log.log(
                logging.DEBUG if _moved_on(error) else logging.WARNING,
                "%s was not told why: %s",
                target.task,
                error,
            )

    def _refused(self, target: Target, error: GpumaxError) -> None:
        if self._fenced(error):
            self._came(target, "refused", ANOTHER)
            return
        self.counts["refused"] += 1
        _log.warning("%s: %s", target.task, error)
        self._came(target, "refused", str(error))

    def _may(self) -> bool:
        """Asked before each write: a lease may have ended while this one waited."""
        if self._fence.open:
            return True
        self.counts["fenced"] += 1
        return False

    def _fenced(self, error: GpumaxError) -> bool:
        """Whether the API server says that it isn't our epoch. It knows better than our clock, and our next renewal finds out."""
        if not (isinstance(error, ApiRefused) and error.by_policy(FENCE)):
            return False
        if self._fence.open:
            _log.warning("the API server says that another replica steers: %s", error.message)
        self._fence.close()
        self.counts["fenced"] += 1
        return True


def _moved_on(error: GpumaxError) -> bool:
    """Whether the pod has changed or gone meanwhile, so that what was to be told of it isn't so any more."""
    return isinstance(error, ApiRefused) and error.code in (404, 409)
