"""What labels and annotations say of work as a whole: queue, priority, whether it may be evicted, how it stands together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.grouping.find import Membership
from gpumax.engines.kubernetes.views import Labels, Pod
from gpumax.errors import Fault
from gpumax.formats.lines import format_path
from gpumax.formats.scalars import NAME
from gpumax.formats.shape import Bad, Wrongs, show
from gpumax.formats.snapshot_shapes import CLASSES
from gpumax.formats.topology import TOPOLOGY, read_wish
from gpumax.model.snapshot import Topology
from gpumax.model.workload import NON_PREEMPTIBLE_FROM, Preemptible, TopologyWish
from gpumax.units import parse_duration_ms

DEFAULT_QUEUE: Final = "default"
LONGEST: Final = 253
"""The most characters of a value that is read."""
_PREEMPTIBLE: Final[dict[str, Preemptible]] = {
    "true": True, "preemptible": True,
    "false": False, "non-preemptible": False,
    "semi": "semi", "semi-preemptible": "semi",
}  # fmt: skip
NO_LABELS: Final[Labels] = {}
OWN_PLACES: Final = 2
"""Of the places where words stand: the pod's own labels and annotations."""


class Use(NamedTuple):
    """A service account of a namespace, and a queue that its pods ask for."""

    namespace: str
    account: str
    queue: str


class NotAllowed(Fault):
    """Somebody asks for what they have no right to."""


class Around(NamedTuple):
    """What pods refer to. classes: priority classes of the cluster; queues: those that administrators gave to namespaces.

    agents: whether any node has one that gives out parts of devices. may: whether a queue may be used, None where that isn't known yet; unset
    where everybody may use every queue.
    """

    classes: Mapping[str, int] = {}
    topologies: Mapping[str, Topology] = {}
    queues: Mapping[str, str] = {}
    agents: bool = False
    may: Callable[[Use], bool | None] | None = None


class Settings(NamedTuple):
    """Of a pod's workload, as that pod has it."""

    queue: str
    priority: int
    preemptible: Preemptible
    pool: str = ""
    max_duration_ms: int | None = None
    topology: TopologyWish | None = None


def read_settings(pod: Pod, member: Membership, around: Around, faults: list[Fault]) -> Settings:
    """What the pod says of its workload; where it says nothing, its owners, the nearest first, then its namespace."""
    places = tuple(_places(pod, member))
    priority = _priority(pod, member, places, around, faults)
    return Settings(
        queue=_queue(pod, places, around, faults),
        priority=priority,
        preemptible=_preemptible(places, priority, faults),
        pool=_named(keys.POOL, places, faults),
        max_duration_ms=_max_duration(pod, places, faults),
        topology=_topology(places, around, faults),
    )


def check_words(pod: Pod, faults: list[Fault]) -> None:
    """What is wrong with what the pod itself says of its workload, whatever the cluster has."""
    places = (pod.metadata.labels or NO_LABELS, pod.metadata.annotations or NO_LABELS)
    _named(keys.QUEUE, places, faults)
    _named(keys.POOL, places, faults)
    _preemptible(places, 0, faults)
    _max_duration(pod, places, faults)


def _places(pod: Pod, member: Membership) -> Iterator[Mapping[str, str]]:
    yield pod.metadata.labels or NO_LABELS
    yield pod.metadata.annotations or NO_LABELS
    for link in member.chain:
        for part in ("labels", "annotations"):
            found = at(link.document, "metadata", part)
            if isinstance(found, dict):
                yield {str(key): str(value) for key, value in found.items()}


Places = tuple[Mapping[str, str], ...]


def _queue(pod: Pod, places: Places, around: Around, faults: list[Fault]) -> str:
    if around.may is not None:
        # What owners say was checked by nobody, and could be changed while their pods run.
        places = places[:OWN_PLACES]
    space = pod.metadata.namespace
    given = {keys.QUEUE[0]: around.queues[space]} if space in around.queues else NO_LABELS
    queue = _named(keys.QUEUE, (*places, given), faults) or DEFAULT_QUEUE
    # Whoever has a place keeps it when a right is taken away.
    if around.may is not None and not pod.spec.node_name:
        use = Use(space, pod.spec.service_account_name or "default", queue)
        if (may := around.may(use)) is not True:
            said = keys.said(keys.QUEUE, *places)
            doubt = " (not known yet whether it may use this one)" if may is None else ""
            wanted = f"a queue that service account {space}/{use.account} may use{doubt}"
            faults.append(NotAllowed(_path((said or keys.QUEUE)[0]), None, show(queue), wanted))
    return queue


def _named(names: keys.Keys, places: Places, faults: list[Fault]) -> str:
    """A value that is a name; empty where none is said."""
    said = keys.said(names, *places)
    if said is None:
        return ""
    try:
        return NAME.read(said[1])
    except Bad as bad:
        faults += [Fault(_path(said[0]), None, wrong.found, wrong.wanted) for wrong in bad.wrongs]
        return ""


def _priority(pod: Pod, member: Membership, places: Places, around: Around, faults: list[Fault]) -> int:
    """Of the class that the pod runs under; else of the class that a label names; else what is usual for the kind."""
    spec = pod.spec
    said = keys.said(keys.PRIORITY, *places)
    if spec.priority_class_name and spec.priority is not None:
        return spec.priority
    name = said[1] if said else spec.priority_class_name or member.kind.priority
    found = around.classes.get(name, CLASSES.get(name))
    if found is not None:
        return found
    where = _path(said[0]) if said else "spec.priorityClassName"
    known = sorted({*around.classes, *CLASSES})
    faults.append(Fault(where, None, show(name), f"a priority class: {', '.join(known[:12])}"))
    return CLASSES["train"]


def _preemptible(places: Places, priority: int, faults: list[Fault]) -> Preemptible:
    said = keys.said(keys.PREEMPTIBLE, *places)
    if said is not None:
        if said[1].lower() in _PREEMPTIBLE:
            return _PREEMPTIBLE[said[1].lower()]
        faults.append(Fault(_path(said[0]), None, show(said[1]), "true, false or semi"))
    return priority < NON_PREEMPTIBLE_FROM


def _max_duration(pod: Pod, places: Places, faults: list[Fault]) -> int | None:
    said = keys.said(keys.MAX_DURATION, *places)
    if said is not None:
        try:
            if len(said[1]) <= LONGEST and (duration_ms := parse_duration_ms(said[1])) > 0:
                return duration_ms
        except ValueError:
            pass
        faults.append(Fault(_path(said[0]), None, show(said[1]), "a duration like 90s, 10m, 2h30m or 7d"))
    seconds = pod.spec.active_deadline_seconds
    return seconds * 1000 if seconds else None


def _topology(places: Places, around: Around, faults: list[Fault]) -> TopologyWish | None:
    """How the whole gang stands together. Levels are the labels of nodes."""
    where: dict[str, str] = {}
    row: dict[str, Any] = {}
    segments: dict[str, Any] = {}
    for field, names, into in (
        ("name", keys.TOPOLOGY, row),
        ("required", keys.TOPOLOGY_REQUIRED, row),
        ("preferred", keys.TOPOLOGY_PREFERRED, row),
        ("size", keys.SEGMENT_SIZE, segments),
        ("required", keys.SEGMENT_REQUIRED, segments),
        ("preferred", keys.SEGMENT_PREFERRED, segments),
    ):
        said = keys.said(names, *places)
        if said is not None:
            where[f"segments.{field}" if into is segments else field] = said[0]
            value = said[1]
            into[field] = (
                int(value)
                if field == "size" and value.isascii() and value.isdigit() and len(value) < 7
                else value
            )
    if segments:
        row["segments"] = segments
    if not row:
        return None
    wrongs = Wrongs()
    try:
        wish = read_wish(TOPOLOGY.read(row), around.topologies, wrongs)
        wrongs.check()
    except Bad as bad:
        for wrong in bad.wrongs:
            field = ".".join(str(key) for key in wrong.path)
            path = _path(where.get(field, next(iter(where.values()))))
            faults.append(Fault(path, None, wrong.found, wrong.wanted))
        return None
    return wish


def _path(key: str) -> str:
    """Where a label or an annotation stands; which of the two, its reader knows."""
    return format_path(("metadata", key))
