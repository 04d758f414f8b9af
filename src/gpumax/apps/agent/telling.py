"""What an agent tells of containers and their parts: events on the node, and on the pod where it's known which that is."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, NamedTuple

from gpumax.apps.agent.parts import Origin
from gpumax.apps.agent.pods import Pods
from gpumax.broker.status import Status, Unfenced
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.engines.kubernetes.telling import UNFENCED, UNFENCED_GOES, short
from gpumax.engines.kubernetes.writer import EVENTS
from gpumax.errors import GpumaxError
from gpumax.units import MIB

NO_HOST_MEMORY: Final = "NoHostMemory"
"""The reason of the event where memory of a part can't be moved."""
NODES_SPACE: Final = "default"
"""Where Kubernetes keeps events of what is in no namespace."""
MOST_A_MINUTE: Final = 20
"""Events: whoever begins processes by the thousand gets no more of them. The log has all."""
AGAIN_S: Final = 60.0
"""After so long a pod that is still there is deleted once more."""
UNTOLD_S: Final = 5.0
"""So long after the API server couldn't be told of something it is told again."""
_log: Final = logging.getLogger("gpumax.agent")


class _Beyond(NamedTuple):
    """A process that got around its part, or has none, on one device."""

    uuid: str
    what: Unfenced

    @property
    def words(self) -> str:
        """In a sentence."""
        what = self.what
        return (
            f"process {what.pid} is unfenced: it uses {what.bytes // MIB} MiB of {self.uuid}, and {what.why}"
        )


class Teller:
    """notes: parts whose memory can't be moved, and why; from any thread. evict: whether a pod with a part of which a process got around it is deleted."""

    def __init__(
        self,
        api: Api,
        node: str,
        pods: Pods,
        notes: deque[tuple[str, str]],
        *,
        evict: bool = False,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._node = node
        self._pods = pods
        self._notes = notes
        self._evict = evict
        self._now_s = now_s
        self._told: set[tuple[str, int]] = set()
        self._tried: dict[str, float] = {}  # to evict, by the uid of the pod
        self._times: deque[float] = deque(maxlen=MOST_A_MINUTE)
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_A_MINUTE)
        self._next_s = 0.0

    @property
    def waiting(self) -> bool:
        """Whether there is a note that nobody was told of yet, or an event that couldn't be written."""
        return bool(self._notes) or self._late()

    async def look(self, status: Status | None) -> None:
        """At what the broker says now: each process is told of once, as long as it's there. What couldn't be written is tried again first."""
        await self._catch_up()
        while self._notes:
            part, text = self._notes.popleft()
            if (origin := self._pods.of_part(part)) is not None:
                await self._say(origin, NO_HOST_MEMORY, "Share", text)
        before, self._told = self._told, set()
        for each in _beyond(status):
            origin, place = self._pods.of_process(each.what.pid), (each.uuid, each.what.pid)
            self._told.add(place)
            if place not in before:
                await self._tell(each, origin)
            if self._evict and origin is not None:
                await self._delete(each, origin)

    async def _tell(self, each: _Beyond, origin: Origin | None) -> None:
        where = f"; it's in pod {origin.namespace}/{origin.pod}" if origin is not None else ""
        if origin is None and (uid := self._pods.uid_of_process(each.what.pid)):
            where = f"; it's in the pod with uid {uid}, which has no part here"
        await self._say(None, UNFENCED, "Watch", each.words + where)
        if origin is not None:
            await self._say(origin, UNFENCED, "Watch", each.words)

    async def _delete(self, each: _Beyond, origin: Origin) -> None:
        """No eviction by the API: budgets of disruption are for those who don't take what isn't theirs, and a Job would begin it again as if nothing had been."""
        now_s = self._now_s()
        self._tried = {uid: at_s for uid, at_s in self._tried.items() if now_s - at_s < AGAIN_S}
        if origin.pod_uid in self._tried:
            return
        self._tried[origin.pod_uid] = now_s
        name = f"{origin.namespace}/{origin.pod}"
        try:
            await self._api.delete(PODS, origin.pod, origin.namespace, uid=origin.pod_uid)
        except GpumaxError as error:
            if not (isinstance(error, ApiRefused) and error.code in (404, 409)):  # it has gone by itself
                _log.warning("pod %s can't be evicted: %s", name, error)
            return
        _log.warning("pod %s is evicted (unfenced): %s", name, each.words)
        await self._say(origin, UNFENCED_GOES, "Evict", f"evicted (unfenced): {each.words}")

    async def _say(self, origin: Origin | None, reason: str, action: str, text: str) -> None:
        """origin: None: of the node."""
        now_s = self._now_s()
        if len(self._times) == MOST_A_MINUTE and now_s - self._times[0] < 60:
            return
        self._times.append(now_s)
        body = event(self._node, origin, reason, action, text)
        if not await self._write(body):
            self._unwritten.append(body)

    def _late(self) -> bool:
        return bool(self._unwritten) and self._now_s() >= self._next_s

    async def _catch_up(self) -> None:
        """What couldn't be written, in its order, as far as that goes now."""
        while self._late() and await self._write(self._unwritten[0]):
            self._unwritten.popleft()

    async def _write(self, body: dict[str, Any]) -> bool:
        """Whether there is no more to do about an event: it's written, or refused for good."""
        try:
            await self._api.create(EVENTS, body, body["metadata"]["namespace"])
        except GpumaxError as error:
            later = not isinstance(error, ApiRefused) or error.code == 429 or error.code >= 500
            if later:
                self._next_s = self._now_s() + UNTOLD_S
            if not (later and body in self._unwritten):  # said once
                _log.warning(
                    "node %s: nobody was told%s that %s: %s", self._node, " yet" * later, body["note"], error
                )
            return not later
        return True


def _beyond(status: Status | None) -> Iterator[_Beyond]:
    for device in status.devices if status is not None else ():
        for each in device.unfenced:
            yield _Beyond(device.uuid, each)


def event(node: str, origin: Origin | None, reason: str, action: str, text: str) -> dict[str, Any]:
    """As an object of events.k8s.io/v1, of a pod or of the node. `kubectl describe node` looks for a node's name as its uid, as kubelets write it."""
    if origin is None:
        space, about = NODES_SPACE, {"kind": "Node", "name": node, "uid": node}
    else:
        space = origin.namespace
        about = {"kind": "Pod", "namespace": space, "name": origin.pod, "uid": origin.pod_uid}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about['name'][:50].rstrip('-.')}-", "namespace": space},
        "regarding": {"apiVersion": "v1", **about},
        "type": "Warning",
        "reason": reason,
        "action": action,
        "note": short(text),
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{keys.OWN}/agent",
        "reportingInstance": f"{keys.OWN}/agent on {node}"[:128],
    }
