"""What every route works with: the cluster, our namespace in it, and the work that is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar, get_args

from gpumax.apps.kubernetes.refusals import refusal
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View
from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.kinds import NODES, Named
from gpumax.engines.kubernetes.once import look
from gpumax.engines.kubernetes.reviews import OWN_RIGHTS, review
from gpumax.engines.kubernetes.rights import VIEW
from gpumax.engines.kubernetes.telling import GONE
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.unsound import of_unsound_queues
from gpumax.engines.kubernetes.views import NodeObject
from gpumax.engines.kubernetes.work import manifest
from gpumax.engines.kubernetes.work.container import CHECKPOINTS, SECRETS
from gpumax.engines.kubernetes.work.job_sets import JOB_SETS, JobSet, is_ours, jobs_of
from gpumax.engines.kubernetes.work.others import others
from gpumax.engines.kubernetes.work.records import JOB, JOB_SET, Work, first_rank, name_of, set_of, size_of
from gpumax.engines.kubernetes.work.views import (
    CLAIMS,
    EVENTS,
    JOBS,
    KEYS,
    PODS,
    SPACES,
    HappenedEvent,
    Job,
    SeenPod,
)
from gpumax.errors import Denied, NotFound
from gpumax.model.decision import Decision, HoldCode
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec

T = TypeVar("T", bound=View)
RECENT_S: Final = 1.0
PROFILE: Final = "pod-security.kubernetes.io/enforce"
"""The label by which a namespace says which pods it takes."""
UIDS: Final = "openshift.io/sa.scc.uid-range"
"""The annotation by which OpenShift says as whom pods of a namespace run."""
_CODES: Final = frozenset(get_args(HoldCode))


class Seen:
    """The cluster as a scheduler sees it, and what follows from that."""

    def __init__(self, snapshot: Snapshot, decision: Decision) -> None:
        self.snapshot = snapshot
        self.decision = decision


class Site:
    """One namespace of one cluster. where: what to call it; scheduler: whose pods are looked at."""

    def __init__(self, api: Api, scheduler: str) -> None:
        self.api = api
        self.scheduler = scheduler
        self.namespace = api.access.namespace
        self._recent: dict[str, Work] = {}
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self.where = f"cluster {api.access.name}, namespace {self.namespace}"

    def now_ms(self) -> int:
        """The time."""
        return int(time.time() * 1000)

    async def all(self, kind: Kind[T], *, labels: str = "", fields: str = "") -> tuple[T, ...]:
        """All objects of the namespace."""
        return (await self.api.list(kind, self.namespace, labels=labels, fields=fields)).items

    async def works(self) -> list[Work]:
        """All workloads of the namespace, newest first."""
        jobs, pods, events, sets = await asyncio.gather(
            self.all(JOBS), self.all(PODS), self.events(), self.sets()
        )
        return works(jobs, pods, events, self.scheduler, sets or ())

    async def work(self, name: str) -> Work:
        """One workload. NotFound."""
        found = next((work for work in await self.works() if name_of(work.jobs[0]) == name), None)
        if found is None:
            await self.need_namespace()
            raise NotFound(f"no workload named {name!r} in {self.where}")
        return found

    async def recent(self, name: str) -> Work:
        """One workload as it was a moment ago, for many who look again and again. NotFound."""
        async with self._looking:
            if time.monotonic() - self._looked_s > RECENT_S:
                jobs, pods, sets = await asyncio.gather(self.all(JOBS), self.all(PODS), self.sets())
                found = works(jobs, pods, (), self.scheduler, sets or ())
                self._recent = {name_of(work.jobs[0]): work for work in found}
                self._looked_s = time.monotonic()
        if name not in self._recent:
            raise NotFound(f"no workload named {name!r} in {self.where}")
        return self._recent[name]

    async def events(self) -> tuple[HappenedEvent, ...]:
        """What happened in the namespace of late; nothing where that may not be read: it says more, and is never needed."""
        try:
            return await self.all(EVENTS)
        except ApiRefused as error:
            if error.code != 403:
                raise
            return ()

    async def sets(self) -> tuple[JobSet, ...] | None:
        """JobSets of the namespace; None where the cluster has no such kind, or they may not be listed."""
        try:
            return await self.all(JOB_SETS)
        except ApiRefused as error:
            if error.code not in (403, 404):
                raise
            return None

    async def nodes(self) -> tuple[NodeObject, ...]:
        """All nodes; none where they may not be listed."""
        try:
            return (await self.api.list(NODES)).items
        except ApiRefused as error:
            if error.code != 403:
                raise
            return ()

    async def space(self) -> Named | None:
        """Our namespace; None where there is none, or it may not be seen."""
        return await self._maybe(SPACES, self.namespace)

    async def default_queue(self) -> str:
        """The queue that an administrator gave the namespace; empty where there is none, or it may not be seen."""
        space = await self.space()
        if space is None:
            return ""
        said = keys.said(keys.QUEUE, space.metadata.labels or {}, space.metadata.annotations or {})
        return said[1] if said else ""

    async def need_namespace(self) -> None:
        """NotFound where our namespace isn't there: its lists would be empty and nothing else."""
        try:
            await self.api.get(SPACES, self.namespace)
        except ApiRefused as error:
            if error.code == 404:
                raise NotFound(
                    f"cluster {self.api.access.name} has no namespace {self.namespace!r}; "
                    "`--namespace` or GPUMAX_NAMESPACE names another, `kubectl get namespaces` lists them"
                ) from None
            if error.code != 403:
                raise

    async def around(self, specs: Sequence[WorkloadSpec]) -> manifest.Ground:
        """What of the cluster decides how the objects of these look."""
        models = any(ask.model for spec in specs for group in spec.groups for ask in group.request.gpu)
        labels = [node.metadata.labels or {} for node in await self.nodes()] if models else []
        # Secrets are none of our business unless somebody names one.
        secrets = await self._secrets() if any(spec.secrets for spec in specs) else None
        keeps = await self._maybe(CLAIMS, CHECKPOINTS, self.namespace) is not None
        sets = any(spec.retries or len(spec.groups) > 1 for spec in specs) and await self._may_make_sets()
        return manifest.Ground(self.scheduler, labels, keeps, secrets, _confined(await self.space()), sets)

    async def _secrets(self) -> frozenset[str] | None:
        """Names of the secrets that workloads may name; None where that may not be seen."""
        try:
            return frozenset((await self.api.get(KEYS, SECRETS, self.namespace)).data or {})
        except ApiRefused as error:
            if error.code not in (403, 404):
                raise
            return frozenset() if error.code == 404 else None

    async def _may_make_sets(self) -> bool:
        """Whether the cluster has JobSets, and we may make them; who can't ask may not."""
        if await self.sets() is None:
            return False
        wanted = {
            "namespace": self.namespace,
            "verb": "create",
            "group": JOB_SETS.group,
            "resource": JOB_SETS.plural,
        }
        try:
            return (await review(self.api, OWN_RIGHTS, {"resourceAttributes": wanted})).allowed
        except ApiRefused:
            return False

    async def _maybe(self, kind: Kind[T], name: str, namespace: str = "") -> T | None:
        """An object; None where there is none, or it may not be seen."""
        try:
            return await self.api.get(kind, name, namespace)
        except ApiRefused as error:
            if error.code not in (403, 404):
                raise
            return None

    async def seen(self) -> Seen:
        """The whole cluster. Denied, with what would help, where that may not be seen."""
        # Late: to list work takes no policy, and no arrays.
        from gpumax.policy.decide import decide

        try:
            assembly = await look(self.api, self.scheduler)
        except ApiRefused as error:
            if error.code != 403:
                raise
            told = str(refusal(error, self.where))
            raise Denied(
                f"{told}; whoever is to see all of the cluster needs to list nodes, pods and queues of all namespaces: have the chart's role {VIEW} bound to you"
            ) from None
        snapshot = assembly.snapshot(self.now_ms(), Policy())
        decision = await asyncio.to_thread(decide, snapshot)
        return Seen(snapshot, of_unsound_queues(snapshot, decision, assembly.queue_faults))


def _confined(space: Named | None) -> manifest.Confined | None:
    """How pods of this namespace have to run; None where they may run as they are, as far as can be seen."""
    if space is None or (space.metadata.labels or {}).get(PROFILE) != "restricted":
        return None
    return confined(space)


def confined(space: Named | None) -> manifest.Confined:
    """As whom pods run that may not run as root: OpenShift gives each namespace users of its own."""
    chosen = space is not None and UIDS in (space.metadata.annotations or {})
    return manifest.Confined(None) if chosen else manifest.Confined()


def works(
    jobs: Sequence[Job],
    pods: Sequence[SeenPod],
    events: Sequence[HappenedEvent],
    scheduler: str,
    sets: Sequence[JobSet] = (),
) -> list[Work]:
    """Jobs whose pods ask for this scheduler, those of one workload together, and what others make of such pods; newest first."""
    made = {one.metadata.uid: one for one in sets if is_ours(one)}
    jobs = _of_sets(jobs, made)
    of_job: dict[str, list[SeenPod]] = {}
    for pod in pods:
        of_job.setdefault((pod.metadata.labels or {}).get(JOB, ""), []).append(pod)
    codes = _codes(events)
    gone = _evictions(events)
    failing = {
        row.regarding.name: row.note
        for row in events
        if row.regarding.kind == "Job" and row.reason == "FailedCreate"
    }
    found = []
    for group in _together(jobs, scheduler):
        ordered = tuple(sorted(group, key=lambda job: (first_rank(job), job.metadata.name)))
        names = [job.metadata.name for job in ordered]
        own = tuple(pod for name in names for pod in of_job.get(name, ()))
        times, last_ms, told = max((gone[name] for name in names if name in gone), default=(0, 0, ""))
        # What was told is of the past where all of them are there.
        whole = len(own) >= sum(map(size_of, ordered))
        trouble = "" if whole else next((failing[name] for name in names if name in failing), "")
        owner = set_of(ordered[0])
        kind = JOB_SET if owner else "Job"
        found.append(
            Work(
                ordered,
                own,
                codes,
                times,
                told,
                trouble,
                kind,
                made.get(owner.uid) if owner else None,
                last_ms or None,
            )
        )
    strangers = [pod for pod in of_job.get("", ()) if pod.spec.scheduler_name == scheduler]
    found += [Work((job,), own, codes, kind=kind) for kind, job, own in others(strangers)]
    found.sort(
        key=lambda work: (work.jobs[0].metadata.creation_timestamp or "", work.jobs[0].metadata.name),
        reverse=True,
    )
    return found


def _of_sets(jobs: Sequence[Job], made: Mapping[str, JobSet]) -> list[Job]:
    """All Jobs; those of sets that we made as these say, whether they are there now or not."""
    own: dict[str, list[Job]] = {uid: [] for uid in made}
    rest: list[Job] = []
    for job in jobs:
        owner = set_of(job)
        own.get(owner.uid if owner else "", rest).append(job)
    return [*rest, *(job for uid, one in made.items() for job in jobs_of(one, own[uid]))]


def _together(jobs: Sequence[Job], scheduler: str) -> Iterable[list[Job]]:
    """Jobs of this scheduler, those of one workload side by side."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if at(job.spec, "template", "spec", "schedulerName") == scheduler:
            made = set_of(job)
            run = (job.metadata.labels or {}).get(keys.RUN) or (made.uid if made else job.metadata.uid)
            groups.setdefault((name_of(job), run), []).append(job)
    return groups.values()


def _codes(events: Sequence[HappenedEvent]) -> Mapping[str, str]:
    """By pod, the code of the hold that it was told of last."""
    rows = [row for row in events if row.reason in _CODES]
    rows.sort(key=lambda row: row.event_time or row.last_timestamp or "")
    return {row.regarding.name: row.reason for row in rows}


def _evictions(events: Sequence[HappenedEvent]) -> dict[str, tuple[int, int, str]]:
    """By Job, how often work of it was evicted, as far as events are kept, and when and with which words the last time.

    A gang goes as one, so its tasks count once.
    """
    told: dict[tuple[str, str], list[HappenedEvent]] = {}
    for row in events:
        if row.action == "Evict" and row.reason in GONE:
            # Pods of a Job are called JOB-INDEX-xxxxx.
            job, _, index = row.regarding.name.rpartition("-")[0].rpartition("-")
            told.setdefault((job, index), []).append(row)
    most: dict[str, tuple[int, int, str]] = {}
    for (job, _), rows in told.items():
        last = max(rows, key=lambda row: row.event_time or "")
        most[job] = max(most.get(job, (0, 0, "")), (len(rows), moment_ms(last.event_time) or 0, last.note))
    return most
