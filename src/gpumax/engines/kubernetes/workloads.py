"""Pods of one gang become one workload, with what is wrong told pod by pod."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at, number
from gpumax.engines.kubernetes.grouping.find import Membership, roles_of
from gpumax.engines.kubernetes.grouping.gangs import groups_of, wish_of
from gpumax.engines.kubernetes.grouping.kind import Role, Roles
from gpumax.engines.kubernetes.settings import Around, Settings, read_settings
from gpumax.engines.kubernetes.tasks import TaskRead, read_task
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.views import Document, Labels, Pod
from gpumax.errors import Fault
from gpumax.formats.lines import format_path
from gpumax.formats.shape import show
from gpumax.model.names import natural
from gpumax.model.workload import ACTIVE, Group, Task, Workload

FIRST: Final = frozenset(("head", "leader", "master", "chief", "launcher", "driver"))
"""Roles whose tasks come first where nothing else is said: the others look for them."""
WAITING: Final = frozenset(("pending", "gated"))
NO_LABELS: Final[Labels] = {}

Gangs = Mapping[str, Document]
"""Objects of gangs, by the names of their workloads."""


class Member(NamedTuple):
    """A pod and where it belongs."""

    pod: Pod
    membership: Membership


class WorkloadRead(NamedTuple):
    """A workload, None where there is nothing to decide for; and what is wrong, by the name of the task."""

    workload: Workload | None
    faults: Mapping[str, tuple[Fault, ...]] = {}


def read_workload(members: Sequence[Member], around: Around, gangs: Gangs) -> WorkloadRead:
    """The workload of pods that belong together. Pods with faults are left out, and so is a gang whose makeup has any.

    The first pod that came says what the gang is; pods that say something else of it have a fault.
    """
    ordered = sorted(members, key=_age)
    reads = [(member, read_task(member.pod, agents=around.agents)) for member in ordered]
    alive = [(member, read) for member, read in reads if read.task.state != "failed"]
    if not any(read.task.state not in ("succeeded", "failed") for _, read in alive):
        return WorkloadRead(None)
    faults: dict[str, list[Fault]] = {read.task.name: list(read.faults) for _, read in alive}
    settings = _agreed(alive, around, faults)
    makeup: list[Fault] = []
    first = ordered[0]
    groups, roles = _makeup(first, [member for member, _ in alive], gangs, around, makeup)
    tasks = []
    for member, read in alive:
        own = faults[read.task.name]
        task = _placed(member.pod, read, groups, roles, own)
        own += makeup
        # What runs is there, whatever is wrong with how it was asked for.
        if not own or task.state not in WAITING:
            tasks.append(task)
    told = {name: tuple(own) for name, own in faults.items() if own}
    if not any(task.state not in ("succeeded", "failed") for task in tasks):
        return WorkloadRead(None, told)
    return WorkloadRead(_workload(first, alive, settings, tuple(tasks), groups, gangs, around), told)


def _workload(
    first: Member,
    alive: Sequence[tuple[Member, TaskRead]],
    settings: Settings,
    tasks: tuple[Task, ...],
    groups: tuple[Group, ...],
    gangs: Gangs,
    around: Around,
) -> Workload:
    states = Counter(task.group for task in tasks if task.state == "succeeded")
    # Tasks that are done need nobody beside them any more.
    lowered = tuple(
        replace(group, min=max(group.min - states[group.name], 1))
        if states[group.name] and group.min
        else group
        for group in groups
    )
    topology = settings.topology
    if topology is None and (gang := gangs.get(first.membership.name)):
        topology = wish_of(at(gang, "spec"), around.topologies, "spec", [])
    active = [member.pod for member, read in alive if read.task.state in ACTIVE]
    starts = [since for pod in active if (since := _started_ms(pod)) is not None]
    return Workload(
        name=first.membership.name,
        queue=settings.queue,
        priority=settings.priority,
        preemptible=settings.preemptible,
        submitted_ms=_submitted_ms(first),
        started_ms=min(starts, default=None),
        max_duration_ms=settings.max_duration_ms,
        pool=settings.pool,
        labels=first.pod.metadata.labels or NO_LABELS,
        groups=lowered,
        tasks=tuple(sorted(tasks, key=lambda task: (natural(task.name), task.name))),
        topology=topology,
    )


def _agreed(
    alive: Sequence[tuple[Member, TaskRead]], around: Around, faults: Mapping[str, list[Fault]]
) -> Settings:
    """What the first pod says; a fault for each that says another queue or priority."""
    agreed: Settings | None = None
    first = ""
    for member, read in alive:
        own = faults[read.task.name]
        said = read_settings(member.pod, member.membership, around, own)
        if agreed is None:
            agreed, first = said, read.task.name
            continue
        like = f"as {first} of the same gang has it"
        if said.queue != agreed.queue:
            where = f"metadata.labels.{keys.QUEUE[0]}"
            own.append(Fault(where, None, show(said.queue), f"{agreed.queue}, {like}"))
        if said.priority != agreed.priority:
            where, name = _names_priority(member.pod)
            own.append(Fault(where, None, f"{name}, which is {said.priority}", f"{agreed.priority}, {like}"))
    assert agreed is not None
    return agreed


def _names_priority(pod: Pod) -> tuple[str, str]:
    """Where the pod names its priority, and what stands there."""
    said = keys.said(keys.PRIORITY, pod.metadata.labels or NO_LABELS, pod.metadata.annotations or NO_LABELS)
    if said is not None and not pod.spec.priority_class_name:
        return format_path(("metadata", said[0])), show(said[1])
    return "spec.priorityClassName", show(pod.spec.priority_class_name or None)


def _makeup(
    first: Member, members: Sequence[Member], gangs: Gangs, around: Around, faults: list[Fault]
) -> tuple[tuple[Group, ...], Roles]:
    """The groups, and by which labels pods are in them; no roles where the pods themselves name their group."""
    name = first.membership.name
    if name in gangs:
        return groups_of(gangs[name], around.topologies, faults), ()
    kind = name.split("/")[1]
    if kind == "podgroup":
        wanted = "a PodGroup of that name; its maker may not have made it yet"
        faults.append(Fault("spec.schedulingGroup.podGroupName", None, show(name.split("/", 2)[2]), wanted))
        return (Group("", 1),), ()
    if kind == "gang":
        return (Group("", _said_least(first, faults, needed=True)),), ()
    roles = roles_of(first.membership)
    if len(roles) == 1 and not roles[0].labels:
        least = _said_least(first, faults)
        return (Group("", least or roles[0].min),), ()
    there = {_role(member.pod, roles).name for member in members}
    kept = tuple(role for role in roles if not role.later or role.name in there)
    return tuple(sorted((Group(role.name, role.min) for role in kept), key=lambda group: group.name)), kept


def _said_least(first: Member, faults: list[Fault], *, needed: bool = False) -> int:
    """The minimum that an annotation gives; 0 where none does."""
    places = [first.pod.metadata.annotations or NO_LABELS, first.pod.metadata.labels or NO_LABELS]
    root = first.membership.root
    for part in ("annotations", "labels"):
        found = at(root, "metadata", part)
        if isinstance(found, dict):
            places.append(found)
    said = keys.said(keys.MIN, *places)
    if said is None:
        if needed:
            wanted = f"the annotation {keys.MIN[0]} with the number of tasks that start together, or a Gang of that name"
            faults.append(Fault("metadata.annotations", None, "a gang without a minimum", wanted))
        return 1 if needed else 0
    key, value = said
    path = f"metadata.annotations[{key}]"
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) <= 10_000):
        faults.append(Fault(path, None, show(value), "a whole number, 1 to 10,000"))
        return 1
    size = number(root, "spec", "parallelism", unset=0) if root is not None else 0
    if size and int(value) > size:
        faults.append(Fault(path, None, value, f"at most {size}, the parallelism of {first.membership.name}"))
    return int(value)


def _placed(pod: Pod, read: TaskRead, groups: Sequence[Group], roles: Roles, faults: list[Fault]) -> Task:
    """The task in its group."""
    if roles:
        role = _role(pod, roles)
        first = role.name in FIRST and not read.task.priority
        return replace(read.task, group=role.name, priority=1 if first else read.task.priority)
    names = [group.name for group in groups if group.min]
    said = keys.said(keys.GROUP, pod.metadata.labels or NO_LABELS, pod.metadata.annotations or NO_LABELS)
    name = said[1] if said else names[0] if len(names) == 1 else ""
    if name in names:
        return replace(read.task, group=name) if name else read.task
    where = f"metadata.labels[{said[0]}]" if said else "metadata.labels"
    wanted = f"a group of the gang: {', '.join(names[:8])}" if any(names) else "no group; the gang has none"
    faults.append(Fault(where, None, show(name) if said else f"no {keys.GROUP[0]}", wanted))
    return replace(read.task, group=names[0] if names else "")


def _role(pod: Pod, roles: Roles) -> Role:
    """The first role whose labels the pod has; else the one without labels, else the first."""
    labels = pod.metadata.labels or NO_LABELS
    for role in roles:
        if role.labels and all(labels.get(key) == value for key, value in role.labels.items()):
            return role
    return next((role for role in roles if not role.labels), roles[0])


def _age(member: Member) -> tuple[str, str]:
    return member.pod.metadata.creation_timestamp or "", member.pod.metadata.name


def _submitted_ms(first: Member) -> int:
    """When the gang's maker came; else its first pod."""
    root = first.membership.root
    made = at(root, "metadata", "creationTimestamp") if not first.membership.kind.apart else None
    own = first.pod.metadata.creation_timestamp
    return moment_ms(made if isinstance(made, str) else None) or moment_ms(own) or 0


def _started_ms(pod: Pod) -> int | None:
    """When it got its place."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "True":
            since = moment_ms(condition.last_transition_time)
            if since is not None:
                return since
    return moment_ms(pod.status.start_time) or moment_ms(pod.metadata.creation_timestamp)
