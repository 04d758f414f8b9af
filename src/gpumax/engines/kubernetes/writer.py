"""Writes to the cluster: each only while we steer, and whatever comes of it is told to who asked.

A write that nobody answered may still come. So it's asked for again until somebody says what is so: a pod is bound once whoever asks how
often, and goes once. Only then is it known what its room is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.claims import allocate, map_containers
from gpumax.engines.kubernetes.client.api import STRATEGIC_PATCH, Api
from gpumax.engines.kubernetes.client.cache import Key
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, OutcomeUnknown, Withheld
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.grants import Given, written
from gpumax.engines.kubernetes.kinds import PODS, Named
from gpumax.engines.kubernetes.lease import Fence
from gpumax.engines.kubernetes.telling import Told, condition, event
from gpumax.engines.kubernetes.views import Pod
from gpumax.errors import GpumaxError

EVENTS: Final = Kind("events.k8s.io", "v1", "events", "Event", Named)
FENCE: Final = "gpumax-fence"
"""The policy of the API server that refuses writes of another epoch than the lease's."""
SPEAKERS: Final = 8
"""How many pods are told something at a time: whoever is bound or evicted never waits behind more of them."""
FEW: Final = 100
"""While no more than so many wait for their turn, each is told as soon as may be."""
ALL_S: Final = 60.0
"""Of more, most are told within so long: many of those who wait in a crowd start before, and need no words."""
SLOWEST: Final = 20
"""Words a second, at least."""
ENOUGH: Final = 8
"""How often a write is asked for that nobody answers clearly: for about half a minute."""
LATEST_S: Final = 60.0
"""An API server ends what it does for one request by then: what hasn't come won't."""
_log: Final = logging.getLogger("gpumax.kubernetes")

Outcome = Literal["done", "refused", "kept", "withheld"]
"""refused: a bind. kept: the pod can't be evicted now, by a budget or for another reason. withheld: another replica steers."""


class Target(NamedTuple):
    """A pod that is written to: this very one, whoever has its name later."""

    namespace: str
    name: str
    uid: str

    @property
    def task(self) -> str:
        """As decisions name it."""
        return f"{self.namespace}/{self.name}"


class Words(NamedTuple):
    """What a pod is to be told. version: it holds for the pod as it was then; empty: whatever has become of it. aloud: as an event, too."""

    target: Target
    row: Told
    version: str
    aloud: bool


class Writer:
    """All within one event loop. `came` is called with what became of each bind and eviction."""

    def __init__(self, api: Api, fence: Fence, came: Callable[[Target, Outcome, str], None]) -> None:
        self._api = api.only_while(lambda: fence.open)
        self._fence = fence
        self._came = came
        self._under_way: set[asyncio.Task[None]] = set()
        self._words: dict[str, dict[str, Words]] = {}  # by namespace, then task
        self._speaking = 0
        self._ending = False
        self.counts = dict.fromkeys(
            ("claims", "binds", "evictions", "conditions", "refused", "fenced", "kept", "statuses"), 0
        )
        self.evicted: Counter[str] = Counter()  # evictions by cause

    def bind(self, target: Target, node: str, given: Given | None = None) -> None:
        """Bind the pod to the node, after what it was given of its devices is written into its claim. Nobody tells it any more that it waits."""
        self._hush(target)
        stamped = self._in_this_epoch()
        self._start(self._surely(target, lambda: self._bind(stamped, target, node, given)))

    def evict(self, target: Target, row: Told, grace_s: int | None = None) -> None:
        """Say why, then ask for the pod to go."""
        stamped = self._in_this_epoch()
        self._start(self._surely(target, lambda: self._evict(stamped, target, row, grace_s)))

    def tell(self, target: Target, row: Told, version: str, *, aloud: bool) -> None:
        """Write the condition to the pod as it was at this version: one that was bound since is not told that it waits. aloud: an event, too.

        The last words count where others still wait for their turn.
        """
        self._words.setdefault(target.namespace, {})[target.task] = Words(target, row, version, aloud)
        if self._speaking < SPEAKERS:
            self._speaking += 1
            self._start(self._speak())

    def _hush(self, target: Target) -> None:
        own = self._words.get(target.namespace, {})
        own.pop(target.task, None)
        if not own:
            self._words.pop(target.namespace, None)

    async def note(self, kind: Kind[Any], key: Key, uid: str, status: Mapping[str, Any]) -> None:
        """Write the status of one of our own objects. What can't be told now is told later."""
        self.counts["statuses"] += 1
        patch = {"metadata": {"uid": uid}, "status": status}
        try:
            await self._api.patch(kind, key[1], patch, key[0], part="status")
        except Withheld:
            self.counts["fenced"] += 1
        except GpumaxError as error:
            with suppress(Withheld):
                self._heed(error)
                level = logging.DEBUG if _moved_on(error) else logging.WARNING
                _log.log(level, "the status of %s %s was not written: %s", kind.name, key[1], error)

    async def settled(self) -> None:
        """Wait for all writes that are under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def end(self) -> None:
        """Let go of what is under way, and take up nothing any more; whether it was carried out, the cluster itself will say."""
        self._ending = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if self._ending:  # a decision that came while we end
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _in_this_epoch(self) -> Api:
        """For what was decided now: in a later epoch it isn't ours any more, though we may steer again."""
        stamp = self._fence.stamp
        return self._api.only_while(lambda: self._fence.open and self._fence.stamp == stamp)

    async def _surely(
        self, target: Target, work: Callable[[], Coroutine[None, None, tuple[Outcome, str]]]
    ) -> None:
        """Whatever happens, who asked is told."""
        try:
            outcome, why = await work()
        except Withheld as error:
            self.counts["fenced"] += 1
            outcome, why = "withheld", str(error)
        if outcome in ("refused", "kept"):
            self.counts[outcome] += 1
        self._came(target, outcome, why)

    async def _bind(self, api: Api, target: Target, node: str, given: Given | None) -> tuple[Outcome, str]:
        if given is not None and given.claim and (why := await self._claim(api, target, node, given)):
            return "refused", why
        self.counts["binds"] += 1
        record = {keys.GIVEN: written(given.grant)} if given is not None else None
        error = await self._ask(
            target, lambda: api.bind(target.namespace, target.name, target.uid, node, record)
        )
        if error is None:
            return "done", ""
        # A conflict may be our own bind that came late, or somebody else's: then the pod has its room already.
        pod = await self._seen(target) if _unclear(error) else None
        return ("done", "") if pod is not None and pod.spec.node_name else ("refused", str(error))

    async def _ask(
        self, target: Target, write: Callable[[], Coroutine[None, None, None]]
    ) -> GpumaxError | None:
        """Ask for a write until somebody says what is so; what was said, None where it was done. Where nobody ever does, wait until none can come late."""
        pauses = self._api.pauses.fresh()
        for tries in range(1, ENOUGH + 1):
            try:
                await write()
                return None
            except OutcomeUnknown as error:
                _log.info("%s: %s", target.task, error)
                unknown = error
                await pauses.pause(LATEST_S if tries == ENOUGH else None)
            except GpumaxError as error:
                self._heed(error)
                return error
        return unknown

    async def _claim(self, api: Api, target: Target, node: str, given: Given) -> str:
        """Have the pod's claim say what it was given. Why that can't be; empty where it is so."""
        self.counts["claims"] += 1

        async def write() -> None:
            await allocate(api, target._asdict(), node, given)
            if given.mapped:
                await map_containers(api, target._asdict(), given)

        error = await self._ask(target, write)
        return "" if error is None else f"its claim {given.claim} can't be written: {error}"

    async def _evict(self, api: Api, target: Target, row: Told, grace_s: int | None) -> tuple[Outcome, str]:
        self.counts["evictions"] += 1
        self.evicted[row.code] += 1
        await self._tell(Words(target, row, "", True))
        error = await self._ask(
            target, lambda: api.evict(target.namespace, target.name, target.uid, grace_s=grace_s)
        )
        if error is None:
            return "done", ""
        pod = await self._seen(target) if _unclear(error) else None
        goes = _unclear(error) and (pod is None or pod.metadata.deletion_timestamp is not None)
        return ("done", "") if goes else ("kept", str(error))

    async def _seen(self, target: Target) -> Pod | None:
        """The pod as it is, None where it has gone. Until somebody says so, its room counts as taken."""
        pauses = self._api.pauses.fresh()
        while True:
            try:
                pod = await self._api.get(PODS, target.name, target.namespace)
            except GpumaxError as error:
                if isinstance(error, ApiRefused) and error.code == 404:
                    return None
                await pauses.pause()
            else:
                return pod if pod.metadata.uid == target.uid else None

    async def _speak(self) -> None:
        """Tell whoever is to be told, each namespace in its turn, so that nobody waits for the thousands of another."""
        try:
            while self._words:
                space = next(iter(self._words))
                own = self._words.pop(space)
                words = own.pop(next(iter(own)))
                if own:
                    self._words[space] = own
                await self._tell(words)
                await asyncio.sleep(breath_s(sum(map(len, self._words.values()))))
        except Withheld:
            self.counts["fenced"] += 1
            self._words.clear()
        finally:
            self._speaking -= 1

    async def _tell(self, words: Words) -> None:
        """Words that can't be written are no reason to do or not to do anything."""
        target, row, version, aloud = words
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
            self._heed(error)
            _log.log(
                logging.DEBUG if _moved_on(error) else logging.WARNING,
                "%s was not told why: %s",
                target.task,
                error,
            )

    def _heed(self, error: GpumaxError) -> None:
        """Withheld, too, where the API server says that it isn't our epoch: it knows better than our clock, and our next renewal finds out."""
        if isinstance(error, ApiRefused) and error.by_policy(FENCE):
            if self._fence.open:
                _log.warning("the API server says that another replica steers: %s", error.message)
            self._fence.close()
            raise Withheld(str(error))
        if isinstance(error, Withheld):
            raise error


def breath_s(waiting: int) -> float:
    """For how long whoever told one pod something waits before the next is told, while so many wait for their turn."""
    return SPEAKERS / max(SLOWEST, waiting / ALL_S) if waiting > FEW else 0.0


def _unclear(error: GpumaxError) -> bool:
    """Whether only the pod itself says what became of a write."""
    return isinstance(error, OutcomeUnknown) or _moved_on(error)


def _moved_on(error: GpumaxError) -> bool:
    """Whether the pod may have changed or gone meanwhile, so that what was meant for it isn't so any more."""
    return isinstance(error, ApiRefused) and error.code in (404, 409)
