"""A cluster of Kubernetes as the loop sees it: the port `Cluster`."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from gpumax.engines.kubernetes import acts
from gpumax.engines.kubernetes.acts import Act
from gpumax.engines.kubernetes.assembly import SCHEDULER, Assembly
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.connection import ANSWER_S, Timed
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.elect import stand
from gpumax.engines.kubernetes.feed import Feed
from gpumax.engines.kubernetes.freshness import ages_s, left_out, old, unknown
from gpumax.engines.kubernetes.grouping.find import Kinds
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.kinds import ALWAYS, GANGS, NATIVE_GROUPS, OFTEN, OPTIONAL, OURS, QUEUES
from gpumax.engines.kubernetes.lease import Always, Candidate, Fence, labels_of
from gpumax.engines.kubernetes.others import LookOut
from gpumax.engines.kubernetes.owners import Owners
from gpumax.engines.kubernetes.refusals import Refusals
from gpumax.engines.kubernetes.settings import Use
from gpumax.engines.kubernetes.status import Keeper, Shown
from gpumax.engines.kubernetes.telling import TARGET, Told, invalid, told
from gpumax.engines.kubernetes.unsound import of_unsound_queues
from gpumax.engines.kubernetes.uses import Allowed, Uses
from gpumax.engines.kubernetes.writer import Outcome, Target, Writer
from gpumax.errors import Stale
from gpumax.model.decision import Decision, Eviction, Place
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import Workload

T = TypeVar("T")
Row = TypeVar("Row", Place, Eviction)
SHIELD_S: Final = 30.0
"""For how long nobody asks again for a pod that can't be evicted, by a disruption budget or for another reason."""
TELL_S: Final = 1.0
"""What holds for less long than this isn't told: a gang whose pods are just being made, or who starts at once."""
SAME_S: Final = 30.0
"""How often at most a pod is told the same thing in other words."""
TLS_END_S: Final = 0.25
_log: Final = logging.getLogger("gpumax.kubernetes")


class KubernetesCluster:
    """Speaks to the API from a thread of its own; calls come from the thread of the loop."""

    name = "kubernetes"

    def __init__(
        self,
        access: Access,
        wake: Callable[[], object],
        *,
        scheduler: str = SCHEDULER,
        kinds: Kinds = KINDS,
        fence: Fence | None = None,
        answer_s: float = ANSWER_S,
        timed: Timed | None = None,
        require_use: bool = False,
    ) -> None:
        """require_use: pods go only to queues that their service account may use. answer_s: how long a write waits for its answer before its outcome counts as unknown. timed: told of each request to the API server
        that was answered, or wasn't; in the thread that speaks to it.
        """
        self._access = access
        self._scheduler = scheduler
        self._answer_s = answer_s
        self._timed = timed
        self._wake = wake
        self._fence = fence or Always()
        self._allowed = Allowed() if require_use else None
        self._assembly = Assembly(scheduler, kinds, self._allowed)
        self._lock = threading.RLock()
        self._saying: dict[str, Told] = {}  # by the last decision
        self._told: dict[str, tuple[Told, float]] = {}
        self._flushing = False
        self._revision = 0  # of the assembly, when pods were told last
        self._shown: tuple[int, Snapshot, Decision] | None = None  # what was carried out last, and its number
        self._seen_in = ""  # the epoch of the last snapshot
        self._shielded: dict[str, float] = {}  # tasks that can't be evicted, until when
        self._refusals = Refusals()
        self._acts: dict[str, Act] = {}  # under way, by task
        self._loop = asyncio.new_event_loop()
        self._informers: dict[Kind[Any], Informer[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes", daemon=True)
        self._thread.start()
        self._api: Api = self._call(self._open())
        self._writer = Writer(self._api, self._fence, self._came)
        self._feed = Feed(self._assembly, self._lock, self._changed)
        self._uses = Uses(self._api, self._wanted_uses, self._found_use) if self._allowed else None
        self._owners = Owners(self._api, kinds, self._feed, self._follow_owner)

    # What the loop asks

    def start(self, patience_s: float = 120.0) -> None:
        """Follow everything, and wait until all that is there is known. Unreachable or Refused where it can't be."""
        self._call(self._begin(patience_s), patience_s + 10)

    @property
    def ours(self) -> bool:
        """Whether our lease holds."""
        return self._fence.open

    @property
    def pressing(self) -> bool:
        """Whether a pod waits for a place."""
        return self._assembly.pressing

    def stand(self, namespace: str, name: str, candidate: Candidate) -> None:
        """Stand for leader by a lease, from now on."""
        fence, labels = self._fence, labels_of(self._scheduler)

        def begin() -> None:
            self._keep(stand(self._api, namespace, name, candidate, fence, self._begins_to_steer, labels))

        self._loop.call_soon_threadsafe(begin)

    def look_out(self) -> None:
        """Warn, from now on, where somebody else schedules the same pods: for who steers without a lease."""
        out = LookOut(self._api, self._scheduler)
        self._loop.call_soon_threadsafe(lambda: self._keep(out.run()))

    @property
    def others(self) -> str:
        """Who steers where we don't, in words that name nobody."""
        other = self._fence.other
        return (
            f"another replica steers, epoch {other.lease_transitions or 0}"
            if other
            else "no replica steers now"
        )

    def _begins_to_steer(self) -> None:
        with self._lock:
            self._told.clear()
        self._wake()

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """See `Cluster`. Stale before all is known, and while what is known may be old."""
        for words in unknown(list(self._informers.values())):
            raise Stale(words)
        with self._lock:
            self._lift()
            self._seen_in = self._fence.stamp
            snapshot = self._assembly.snapshot(self._api.connection.time.now_ms(now_ms), policy)
            if self._uses is not None and self._wanted_uses(again=False):
                self._loop.call_soon_threadsafe(self._uses.wake)
            if self._shown is not None and self._fence.open and self._assembly.revision != self._revision:
                # A pod that is written wrongly is in no snapshot, and so no reason to decide.
                self._tell_soon()
            return snapshot

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """See `Cluster`. A replica that doesn't steer does nothing, nor one that steers again and decided on what it saw in an earlier epoch."""
        if not self._fence.open or self._fence.stamp != self._seen_in:
            return
        work: list[Callable[[], object]] = []
        with self._lock:
            see = self._assembly
            decision = of_unsound_queues(snapshot, decision, see.queue_faults)
            # Who is bound doesn't wait until words are found for the thousands who are not.
            rows = self._words(snapshot, decision) if decision.evictions else {}
            for place in decision.places:
                if not place.after and (target := self._target(place.task)):
                    given = self._assembly.given(place.task, place.node, place.devices)
                    self._note(place.task, acts.bind, place)
                    self._assembly.assume(place.task, place.node, place.devices, snapshot.now_ms)
                    work.append(partial(self._writer.bind, target, place.node, given))
            for row in decision.evictions:
                if target := self._target(row.task):
                    self._note(row.task, acts.evict, row)
                    self._assembly.expect_gone(row.task)
                    work.append(lambda target=target, row=rows[row.task]: self._writer.evict(target, row))  # type: ignore[misc]
        self._loop.call_soon_threadsafe(lambda: [each() for each in work])
        rows = rows or self._words(snapshot, decision)
        with self._lock:
            self._saying = {task: row for task, row in rows.items() if row.condition != TARGET}
            self._tell_soon()
        # After the binds and evictions that came of it, in the order of the queue of the other thread.
        self._loop.call_soon_threadsafe(self._show, snapshot, decision)

    @property
    def oddities(self) -> tuple[str, ...]:
        """What is odd about the cluster's objects, as sentences."""
        with self._lock:
            queues = (
                f"queue {name}: {fault}" for name, own in self._assembly.queue_faults.items() for fault in own
            )
            return (*self._assembly.oddities, *queues)

    @property
    def counts(self) -> dict[str, int]:
        """Writes since the start, by what they were."""
        return dict(self._writer.counts)

    def notes(self) -> tuple[str, ...]:
        """What a user should know of this cluster."""
        troubles = (f"{one.kind.plural}: {one.trouble}" for one in self._informers.values() if one.trouble)
        return (*self._access.notes(), *troubles)

    @property
    def evicted(self) -> dict[str, int]:
        """Evictions that were asked for since the start, by cause."""
        return dict(self._writer.evicted)

    @property
    def invalid(self) -> int:
        """How many pods are written wrongly."""
        with self._lock:
            return len(self._assembly.faults)

    @property
    def ages_s(self) -> dict[str, float]:
        """For how long nothing was heard of what is followed, in seconds, by kind."""
        return ages_s(list(self._informers.values()))

    def unready(self) -> tuple[str, ...]:
        """What keeps it from steering, or from taking over, as sentences."""
        begins = () if self._informers else ("nothing was looked at yet",)
        lease = (self._fence.trouble,) if self._fence.trouble else ()
        return (*begins, *old(list(self._informers.values())), *lease)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What isn't looked at though the cluster has it, as sentences."""
        return tuple(left_out(list(self._informers.values())))

    def answers(self, patience_s: float) -> bool:
        """Whether its thread still does its work."""
        if self._loop.is_closed():
            return False
        try:
            return self._call(asyncio.sleep(0, True), patience_s)
        except TimeoutError:
            return False

    def settle(self, patience_s: float = 30.0) -> None:
        """Wait for all writes that are under way."""
        self._call(self._writer.settled(), patience_s)

    def close(self) -> None:
        """Let go. Pods run on."""
        if self._loop.is_closed():
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # How

    def _call(self, work: Coroutine[Any, Any, T], patience_s: float = 30.0) -> T:
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(patience_s)
        except BaseException:
            asked.cancel()  # nobody waits for it any more
            raise

    async def _open(self) -> Api:
        return Api(self._access, stamp=lambda: self._fence.stamp, answer_s=self._answer_s, timed=self._timed)

    async def _begin(self, patience_s: float) -> None:
        wanted = [*ALWAYS]
        native = False
        discovery = Discovery(self._api)
        for kind in OFTEN:
            if await discovery.serves(kind) and not (kind in NATIVE_GROUPS and native):
                wanted.append(kind)
                native |= kind in NATIVE_GROUPS
        for kind in wanted:
            self._follow(kind, self._feed.handler(kind))
        self._keep(self._owners.run())
        if self._uses is not None:
            self._keep(self._uses.run())
        told = {kind: self._informers[kind] for kind in (QUEUES, GANGS) if kind in self._informers}
        self._keep(Keeper(told, self._shows, self._writer.note).run())
        await self._known(patience_s)
        for words in left_out(self._informers.values()):
            _log.warning("%s; it is asked for again, and known as soon as that is granted", words)

    async def _known(self, patience_s: float) -> None:
        """Wait until all is known without which nothing can be decided."""
        followed = list(self._informers.values())
        try:
            async with asyncio.timeout(patience_s):
                for informer in followed:
                    await (informer.settled() if informer.kind in OPTIONAL else informer.reached("0"))
        except TimeoutError:
            words = "; ".join(unknown(followed))
            wish = (
                " (`gpumax doctor --engine kubernetes` says which rights lack)"
                if any(one.denied for one in followed)
                else ""
            )
            raise Stale(f"not all is known after {patience_s:g} s: {words}{wish}") from None

    def _follow(self, kind: Kind[Any], handler: Callable[[Change[Any]], None]) -> None:
        """A kind without which nothing can be decided."""
        self._informers[kind] = self._follow_owner(kind, handler)

    def _follow_owner(self, kind: Kind[Any], handler: Callable[[Change[Any]], None]) -> Informer[Any]:
        informer: Informer[Any] = Informer(self._api, kind, fields=OURS.get(kind, ""))
        informer.cache.on_change(handler)
        self._keep(informer.run())
        return informer

    def _keep(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("following the cluster failed: %s", error, exc_info=error)

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, self._writer.end(), return_exceptions=True)
        await self._api.connection.close()
        # The ends of TLS connections are told to nobody; its makers advise to give them this long.
        await asyncio.sleep(TLS_END_S)

    def _changed(self) -> None:
        """Something was seen."""
        self._owners.wake()
        self._wake()

    def _wanted_uses(self, again: bool) -> list[Use]:
        with self._lock:
            return self._allowed.wanted(again=again) if self._allowed is not None else []

    def _found_use(self, use: Use, may: bool) -> None:
        with self._lock:
            self._assembly.see_use(use, may=may)
        self._wake()

    def _target(self, task: str) -> Target | None:
        pod = self._assembly.pod(task)
        if pod is None:
            return None
        return Target(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)

    def _words(self, snapshot: Snapshot, decision: Decision) -> dict[str, Told]:
        """What pods are told, by task. While words are found for thousands, what happens is seen."""
        with self._lock:
            faults, refused = self._assembly.faults, self._refusals.told()
        return told(snapshot, decision, faults, self._assembly.workload) | refused

    def _note(self, task: str, make: Callable[[Row, Workload], Act], row: Row) -> None:
        """Remember what is done to a task, for the log."""
        if (workload := self._assembly.workload_of(task)) is not None:
            self._acts[task] = make(row, workload)

    def _tell_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon_threadsafe(self._loop.call_later, TELL_S, self._tell)

    def _tell(self) -> None:
        """Write what pods are told, where that is new; other words for the same once in a while."""
        now_s = monotonic()
        with self._lock:
            self._flushing = False
            wrong = {task: invalid(task, own) for task, own in self._assembly.faults.items()}
            self._saying, self._revision = self._saying | wrong, self._assembly.revision
            for task, row in self._saying.items():
                before, since_s = self._told.get(task, (None, 0.0))
                same = before is not None and (before.reason, before.code) == (row.reason, row.code)
                if before == row or (same and now_s - since_s < SAME_S):
                    continue
                pod = self._assembly.pod(task)
                if pod is not None and not pod.spec.node_name:
                    self._told[task] = row, now_s
                    target = Target(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
                    self._writer.tell(target, row, pod.metadata.resource_version, aloud=not same)
            self._told = {task: own for task, own in self._told.items() if task in self._saying}

    def _show(self, snapshot: Snapshot, decision: Decision) -> None:
        self._shown = (self._shown[0] + 1 if self._shown is not None else 1), snapshot, decision

    def _shows(self) -> Shown | None:
        """What our own objects are told."""
        if self._shown is None or not self._fence.open:
            return None
        with self._lock:
            see = self._assembly
            number, snapshot, decision = self._shown
            return Shown((number, see.revision), snapshot, decision, see.queue_faults, see.faults_of)

    def _came(self, target: Target, outcome: Outcome, why: str) -> None:
        """A write was answered."""
        with self._lock:
            if act := self._acts.pop(target.task, None):
                acts.log(_log, act, outcome, why)
            if outcome == "done":
                self._refusals.forgive(target.task)
                return
            self._told.pop(target.task, None)  # that it waits may not have been told after all
            self._assembly.doubt(target.task)
            self._assembly.stays(target.task)
            if outcome == "kept":
                self._shielded[target.task] = monotonic() + SHIELD_S
                self._assembly.shield(target.task)
            elif outcome == "refused":
                self._assembly.bar(target.task)
                self._loop.call_later(self._refusals.refuse(target.task, why), self._wake)
        self._wake()

    def _lift(self) -> None:
        """Whoever was kept or refused for a time, and that is over."""
        for task in self._refusals.due(self._assembly.pod):
            self._assembly.unbar(task)
        now_s = monotonic()
        for task in [task for task, until_s in self._shielded.items() if until_s <= now_s]:
            del self._shielded[task]
            self._assembly.unshield(task)
