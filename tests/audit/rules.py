"""What must hold at every moment of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from audit.amounts import fits
from audit.cluster import Cluster, Pod

LEASE_S = 15
UNITS = {"gpu": (1000, "GPUs"), "cpu": (1000, "cores"), "memory": (1 << 30, "GiB of memory")}


def over_full(cluster: Cluster, bound: Pod, now_s: float) -> Iterator[str]:
    """By that bind: of any resource of the node, or of its devices, as no way to give them out would do."""
    there = cluster.holding(now_s, bound.scheduler, node=bound.node)
    held = _sum(cluster, there)
    rooms = cluster.rooms_of(bound.node, now_s)
    for kind, amount in held.items():
        most = max(room.get(kind, 0) for room in rooms)
        if amount > most:
            yield f"node {bound.node} holds {_words(kind, amount, most)} with {bound.name}"
    parts: Counter[str] = Counter()
    for pod in there:
        parts.update({index: part["milli"] for index, part in pod.given.items()})
    for index, milli in parts.items():
        if milli > 1000:
            yield f"device {index} of node {bound.node} holds {milli} of 1000 thousandths with {bound.name}"
    devices = max(room.get("gpu", 0) for room in rooms) // 1000
    memory = cluster.memories.get(bound.node, 0)
    if held["gpu"] <= devices * 1000 and not fits(devices, memory, (pod.asked for pod in there)):
        yield f"a device of node {bound.node} is over-full with {bound.name}: parts of {len(there)} pods don't fit its {devices}"


def over_limit(cluster: Cluster, bound: Pod, now_s: float) -> Iterator[str]:
    """By that bind: of its queue, or of one above."""
    own = _sum(cluster, [bound])
    for queue in cluster.above(bound.queue):
        lately = cluster.limits[queue].lately(now_s)
        kinds = sorted({kind for limit in lately for kind in limit})
        held = _sum(cluster, cluster.holding(now_s, bound.scheduler, queue=queue)) if kinds else Counter()
        for kind in kinds:
            limits = [limit.get(kind) for limit in lately]
            most = None if None in limits else max(limit for limit in limits if limit is not None)
            if most is not None and own[kind] and held[kind] > most:
                yield f"queue {queue} holds {_words(kind, held[kind], most)} by its limit with {bound.name}"


def _sum(cluster: Cluster, pods: list[Pod]) -> Counter[str]:
    total: Counter[str] = Counter()
    for pod in pods:
        total.update(pod.asked.all(cluster.memories.get(pod.node, 0)))
    return total


def _words(kind: str, amount: int, most: int) -> str:
    unit, name = UNITS[kind]
    return f"{amount / unit:g} {name} of {most / unit:g}"


class Gangs:
    """For how long each gang has been in parts."""

    def __init__(self, together_s: float, deadline_s: float) -> None:
        self._together_s = together_s
        self._deadline_s = deadline_s
        self._since: dict[str, float] = {}
        self._whole: set[str] = set()

    def look(self, cluster: Cluster, now_s: float) -> list[str]:
        """Those that have been so for too long; each is told once."""
        found = []
        for name in sorted({*self._since, *cluster.stirred}):
            there = cluster.gangs[name].values()
            said = max((pod.gang.least for pod in there if pod.gang is not None), default=0)
            least = (said or cluster.least.get(name, 0)) - len(cluster.done[name])
            if not there:
                self._since.pop(name, None)
                self._whole.discard(name)
            elif len(there) >= least:
                self._since.pop(name, None)
                self._whole.add(name)
            else:
                most_s = self._deadline_s if name in self._whole else self._together_s
                began_s = self._since.setdefault(name, now_s)
                if now_s - began_s > most_s:
                    found.append(f"gang {name} has {len(there)} of {least} for {now_s - began_s:.0f} s")
                    self._since[name] = float("inf")
        return found


class Leader:
    """Who holds a lease, `namespace/name`, by who wrote it last. Users that never wrote it aren't judged."""

    def __init__(self, lease: str) -> None:
        self._lease = lease
        self._holder = ""
        self._renewed_s = 0.0
        self._replicas: set[str] = set()

    def look(self, entry: Mapping[str, Any], now_s: float) -> list[str]:
        """A write by a replica that didn't steer."""
        about, user = entry["objectRef"], entry["user"].get("username", "")
        space, _, name = self._lease.partition("/")
        # What is created is named in its body alone.
        if (
            about["resource"] == "leases"
            and about.get("namespace") == space
            and about.get("name", name) == name
        ):
            self._holder, self._renewed_s = user, now_s
            self._replicas.add(user)
        elif about["resource"] == "pods" and user in self._replicas:
            what = f"{user} wrote to {about.get('namespace')}/{about.get('name')}"
            if user != self._holder:
                return [f"{what} while {self._holder} held the lease"]
            if now_s - self._renewed_s > LEASE_S:
                return [f"{what} {now_s - self._renewed_s:.0f} s after it renewed the lease"]
        return []
