"""What is true of a cluster at one moment of its audit log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit.amounts import MEMORY_OF_DEVICE, Amounts, Asked, amounts, asked_by, number
from audit.parts import DRIVER, OFFERED, Given, allocated, claim_of, recorded

Entry = Mapping[str, Any]
QUEUE = ("gpumax.dev/queue", "kai.scheduler/queue", "runai/queue")
GANG = ("gpumax.dev/gang", "pod-group-name")
MIN = ("gpumax.dev/min", "kai.scheduler/batch-min-member")


class Gang(NamedTuple):
    """Which gang a pod is of. least: how many run together, where the pod itself says it; 0 where an object does."""

    name: str
    least: int = 0


@dataclass
class Pod:
    """A pod that somebody made. node, since_s: where it holds room, and since when; empty: it holds none.

    claim: to a part of a device; given: which parts of which, as its bind says.
    """

    name: str
    asked: Asked
    queue: str
    gang: Gang | None
    scheduler: str
    grace_s: int
    claim: str = ""
    node: str = ""
    since_s: float = 0.0
    given: Given = field(default_factory=dict)


@dataclass
class Changing:
    """Something that people change: as it is, and as it lately was."""

    unseen_s: float
    now: Amounts = field(default_factory=dict)
    before: list[tuple[float, Amounts]] = field(default_factory=list)  # until when, and what

    def be(self, value: Amounts, at_s: float) -> None:
        """It is this from now on."""
        self.before = [*self.before[-8:], (at_s, self.now)]
        self.now = value

    def lately(self, at_s: float) -> list[Amounts]:
        """All that it may be taken for at a moment."""
        return [self.now, *(old for until_s, old in self.before if at_s - until_s <= self.unseen_s)]


class Cluster:
    """Follows a log. bound: the pod that the last entry bound, None where it bound none."""

    def __init__(self, unseen_s: float) -> None:
        self.unseen_s = unseen_s
        self.pods: dict[str, Pod] = {}  # by uid
        self.names: dict[str, str] = {}  # uid by name
        self.on: dict[str, dict[str, Pod]] = defaultdict(dict)  # those that hold room, by node, then uid
        self.gangs: dict[str, dict[str, Pod]] = defaultdict(dict)  # the same, by gang
        self.stirred: set[str] = set()  # gangs of which somebody came or went by the last entry
        self.rooms: dict[str, Changing] = defaultdict(lambda: Changing(unseen_s))
        self.memories: dict[str, int] = {}  # MiB of each device, by node
        self.limits: dict[str, Changing] = defaultdict(lambda: Changing(unseen_s))
        self.parents: dict[str, str] = {}
        self.least: dict[str, int] = {}  # by gang
        self.done: dict[str, set[str]] = defaultdict(set)  # pods that succeeded, by gang
        self.claims: dict[str, Entry] = {}  # by namespace and name
        self.offered: dict[str, Counter[str]] = defaultdict(Counter)  # by agents: devices by slice, by node
        self.bound: Pod | None = None

    def apply(self, entry: Entry, now_s: float) -> list[str]:
        """Have it happen; what is wrong with it by itself."""
        self.bound, self.stirred = None, set()
        about, verb = entry["objectRef"], entry["verb"]
        part = about.get("subresource", "")
        answer = entry.get("responseObject") or {}
        if about["resource"] == "pods":
            if verb == "create" and part == "binding":
                return self._bind(entry, now_s)
            self._pod(about, verb, part, answer, now_s)
        elif verb == "delete":
            self._deleted(about, now_s)
        elif answer.get("kind") == "Node":
            self._node(answer, now_s)
        elif answer.get("kind") == "Queue":
            spec = _spec(answer)
            self.limits[answer["metadata"]["name"]].be(_limit(spec.get("limit")), now_s)
            self.parents[answer["metadata"]["name"]] = spec.get("parent") or ""
        elif about["resource"] == "resourceclaims":
            self.claims[_name(about)] = answer
        elif answer.get("kind") == "ResourceSlice":
            self._offer(answer)
        elif answer.get("kind") in ("Gang", "Job"):
            self._least(answer)
        return []

    def holding(self, at_s: float, by: str, *, node: str = "", queue: str = "") -> list[Pod]:
        """Pods that hold room on a node or of a queue, as whoever schedules with this name has to know it."""
        rows = [self.on[node]] if node else list(self.on.values())
        return [
            pod
            for row in rows
            for pod in row.values()
            if (pod.scheduler == by or at_s - pod.since_s > self.unseen_s)
            and (not queue or queue in self.above(pod.queue))
        ]

    def rooms_of(self, node: str, at_s: float) -> list[Amounts]:
        """What there may be on a node, devices of its agent included."""
        offered = 1000 * self.offered[node].total()
        return [{**room, "gpu": room.get("gpu", 0) + offered} for room in self.rooms[node].lately(at_s)]

    def above(self, queue: str) -> list[str]:
        """The queue and those that it is part of."""
        found = [queue]
        while (queue := self.parents.get(queue, "")) and queue not in found:
            found.append(queue)
        return found

    def _bind(self, entry: Entry, now_s: float) -> list[str]:
        name, asked = _name(entry["objectRef"]), entry["requestObject"]
        uid = (asked.get("metadata") or {}).get("uid") or self.names.get(name, "")
        pod, node = self.pods.get(uid), asked["target"]["name"]
        if pod is None:
            return [f"{name} was bound, and nobody made it"]
        if pod.node:
            return [f"{name} was bound to {node} while it was on {pod.node}"]
        pod.node, pod.since_s, self.bound = node, now_s, pod
        pod.given = recorded(asked)
        self._hold(uid, pod)
        if not pod.claim:
            return []
        found = allocated(self.claims.get(f"{entry['objectRef']['namespace']}/{pod.claim}", {}), node)
        return (
            [] if found == pod.given else [f"{name} was bound with {pod.given}, and its claim says {found}"]
        )

    def _hold(self, uid: str, pod: Pod) -> None:
        self.on[pod.node][uid] = pod
        if pod.gang is not None:
            self.gangs[pod.gang.name][uid] = pod
            self.stirred.add(pod.gang.name)

    def _pod(self, about: Entry, verb: str, part: str, answer: Entry, now_s: float) -> None:
        uid = self.names.get(_name(about), "")
        status = answer.get("status") if answer.get("kind") == "Pod" else None
        by_claim = (status or {}).get("extendedResourceClaimStatus")
        if by_claim and uid in self.pods:
            # Whole devices that an agent gives out.
            self.pods[uid].claim = by_claim["resourceClaimName"]
        if verb == "create" and not part and answer.get("kind") == "Pod":
            self._add(answer, now_s)
        elif verb == "create" and part == "eviction":
            if uid in self.pods and not self.pods[uid].grace_s:
                self._end(uid)
        elif verb == "deletecollection":
            for one in answer.get("items") or ():
                row = self.pods.get(one["metadata"]["uid"])
                if row is not None and not (row.node and row.grace_s):
                    self._end(one["metadata"]["uid"])
        elif verb == "delete" and not part:
            self._gone((answer.get("metadata") if answer.get("kind") == "Pod" else None) or {"uid": uid})
        elif answer.get("kind") == "Pod" and (answer.get("status") or {}).get("phase") in (
            "Succeeded",
            "Failed",
        ):
            self._end(answer["metadata"]["uid"], well=answer["status"]["phase"] == "Succeeded")

    def _add(self, pod: Entry, now_s: float) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        name = f"{meta['namespace']}/{meta['name']}"
        self.names[name] = meta["uid"]
        made = Pod(
            name, asked_by(pod), _said(meta, QUEUE), gang_of(pod), spec.get("schedulerName", ""),
            spec.get("terminationGracePeriodSeconds", 30), claim_of(pod), spec.get("nodeName", ""), now_s,
        )  # fmt: skip
        self.pods[meta["uid"]] = made
        if made.node:
            self._hold(meta["uid"], made)

    def _gone(self, meta: Entry) -> None:
        """With a grace that is not over yet it holds its room; what is gone at once has none."""
        if not meta.get("deletionGracePeriodSeconds"):
            self._end(meta.get("uid", ""))

    def _end(self, uid: str, *, well: bool = False) -> None:
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        if self.names.get(pod.name) == uid:
            del self.names[pod.name]
        self.on[pod.node].pop(uid, None)
        if pod.gang is not None:
            self.gangs[pod.gang.name].pop(uid, None)
            self.stirred.add(pod.gang.name)
            if well:
                self.done[pod.gang.name].add(uid)

    def _node(self, node: Entry, now_s: float) -> None:
        name, status = node["metadata"]["name"], node.get("status") or {}
        if status.get("allocatable"):
            self.rooms[name].be(amounts(status["allocatable"]), now_s)
        if memory := (node["metadata"].get("labels") or {}).get(MEMORY_OF_DEVICE, ""):
            self.memories[name] = int(memory)
        if offered := (node["metadata"].get("annotations") or {}).get(OFFERED):
            # By an agent in a cluster without claims.
            devices = json.loads(offered)
            self.offered[name] = Counter({OFFERED: len(devices)})
            self.memories[name] = devices[0].get("memory_mib", 0) if devices else 0

    def _offer(self, part: Entry) -> None:
        spec = part["spec"]
        if spec.get("driver") == DRIVER and spec.get("nodeName"):
            devices = spec.get("devices") or ()
            self.offered[spec["nodeName"]][part["metadata"]["name"]] = len(devices)
            memory = devices[0].get("capacity", {}).get("memory", {}).get("value") if devices else None
            self.memories[spec["nodeName"]] = int(number(memory) / 1024**2) if memory else 0

    def _deleted(self, about: Entry, now_s: float) -> None:
        name = about.get("name", "")
        if about["resource"] == "nodes":
            self.rooms[name].be({}, now_s)
        elif about["resource"] == "queues":
            self.limits[name].be({}, now_s)
            self.parents.pop(name, None)

    def _least(self, thing: Entry) -> None:
        """How many run together: of a Gang, and of a Job all of whose indexes run at once."""
        meta, spec = thing["metadata"], _spec(thing)
        name = f"{meta['namespace']}/{thing['kind'].lower()}/{meta['name']}"
        if thing["kind"] == "Gang":
            rows = spec.get("groups") or [spec]
            least = [row.get("min") for row in rows if isinstance(row, dict)]
            self.least[name] = sum(one for one in least if isinstance(one, int))
        elif spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism"):
            said = _said(meta, MIN)
            self.least[name] = int(said) if said.isdigit() else spec["parallelism"]


def gang_of(pod: Entry) -> Gang | None:
    """By label, or by the Job that made it."""
    meta = pod["metadata"]
    label, least = _said(meta, GANG), _said(meta, MIN)
    if label:
        return Gang(f"{meta['namespace']}/gang/{label}", int(least) if least.isdigit() else 0)
    for owner in meta.get("ownerReferences") or ():
        if owner["kind"] == "Job":
            return Gang(f"{meta['namespace']}/job/{owner['name']}", int(least) if least.isdigit() else 0)
    return None


def _said(meta: Entry, names: tuple[str, ...]) -> str:
    places = [meta.get("labels") or {}, meta.get("annotations") or {}]
    return next((place[name] for place in places for name in names if name in place), "")


def _spec(thing: Entry) -> Entry:
    """Empty where somebody wrote something else than an object there."""
    found = thing.get("spec")
    return found if isinstance(found, dict) else {}


def _limit(written: Entry | None) -> Amounts:
    try:
        return amounts(written)
    except ValueError:
        return {}  # nonsense is no limit that anybody could keep


def _name(about: Entry) -> str:
    return f"{about.get('namespace', '')}/{about.get('name', '')}"
