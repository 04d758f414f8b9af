"""Objects of the API become a snapshot, and stay one: work grows with what changed, not with what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from msgspec.structs import replace

from gpumax.engines.kubernetes.budgets import Budget, Budgets
from gpumax.engines.kubernetes.devices import NOTHING, Shares
from gpumax.engines.kubernetes.grants import Given, recorded
from gpumax.engines.kubernetes.grouping.find import Kinds, Membership, Missing, alone, find
from gpumax.engines.kubernetes.grouping.gangs import native_levels
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.holdings import Holdings
from gpumax.engines.kubernetes.lacking import Lacking
from gpumax.engines.kubernetes.offers import Slice
from gpumax.engines.kubernetes.queues import QueueRead, read_queue
from gpumax.engines.kubernetes.settings import Around, Use
from gpumax.engines.kubernetes.table import Table
from gpumax.engines.kubernetes.tasks import state_of
from gpumax.engines.kubernetes.topologies import read_topology
from gpumax.engines.kubernetes.trees import planted
from gpumax.engines.kubernetes.unseen import Assumed, Unseen
from gpumax.engines.kubernetes.uses import Allowed
from gpumax.engines.kubernetes.views import Document, NodeObject, Owner, Pod
from gpumax.engines.kubernetes.workloads import Member, WorkloadRead, read_workload
from gpumax.errors import Fault
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot, Topology
from gpumax.model.workload import HOLDING, Task, Workload

T = TypeVar("T")
SCHEDULER: Final = "gpumax"
"""The name by which pods ask for us."""


class Assembly:
    """What is known of a cluster, object by object, and the snapshot that it comes to.

    Rows of the snapshot stay the same objects until something about them changes.
    """

    def __init__(
        self, scheduler: str = SCHEDULER, kinds: Kinds = KINDS, allowed: Allowed | None = None
    ) -> None:
        """allowed: who may use which queue; None: everybody every one."""
        self._allowed = allowed
        self._scheduler = scheduler
        self._kinds = kinds
        self._holdings = Holdings()
        self._queues: dict[str, QueueRead] = {}
        self._planted: dict[str, QueueRead] = {}  # as they stand in one tree
        self._trees = Table[Queue]()
        self._topologies: dict[str, Topology] = {}
        self._levels = Table[Topology]()
        self._gangs: dict[str, Document] = {}
        self._classes: dict[str, int] = {}
        self._spaces: dict[str, str] = {}
        self._owners: dict[str, Document | None] = {}
        self._pods: dict[str, Pod] = {}  # ours, by task name
        self._lacking = Lacking()
        self._memberships: dict[str, Membership] = {}
        self._members: dict[str, dict[str, Member]] = {}  # by workload, then task
        self._unseen = Unseen()
        self._budgets = Budgets()
        self._below: dict[str, set[str]] = {}  # by owner: which of our pods stand below it
        self._orphaning: set[str] = set()  # owners that are gone while pods stand below them
        self._reads: dict[str, WorkloadRead] = {}
        self._faulty: dict[str, Mapping[str, tuple[Fault, ...]]] = {}  # by workload, then task
        self._rows = Table[Workload]()
        self._stirred: set[str] = set()  # workloads to be read anew
        self._pending: set[str] = set()  # tasks that wait
        self._may_wait = False
        self.revision = 0
        """Another where anything was read anew."""

    # What is seen

    def see_node(self, name: str, view: NodeObject | None) -> None:
        """A node as it is now; None where it is gone."""
        had = self._holdings.by_agents
        self._holdings.see_node(name, view)
        if had != self._holdings.by_agents:
            self._stir_all()

    def see_slice(self, name: str, view: Slice | None) -> None:
        """A ResourceSlice of our agents as it is now; None where it is gone."""
        had = self._holdings.by_agents
        self._holdings.see_slice(name, view)
        if had != self._holdings.by_agents:
            self._stir_all()

    def see_pod(self, name: str, pod: Pod | None) -> None:
        """A pod as it is now, by `namespace/name`; None where it is gone."""
        if pod is None or pod.spec.scheduler_name != self._scheduler:
            self._forget(name)
            self._holdings.see_stranger(name, pod)
        else:
            self._holdings.see_stranger(name, None)
            self._pods[name] = pod
            if pod.spec.node_name or state_of(pod) not in ("pending", "gated"):
                assumed = self._unseen.assumed.pop(name, None)
                if assumed is not None and recorded(pod):
                    # What was written down counts, whoever wrote it.
                    self._holdings.forget(assumed.node, name)
            if state_of(pod) not in ("bound", "running") and name not in self._unseen.assumed:
                self._unseen.going.discard(name)
            self._place(name, pod)

    def see_owner(self, uid: str, document: Document | None) -> None:
        """An owner as it is now; None: it isn't there, or may not be read."""
        known = uid in self._owners
        if known and self._owners[uid] == document:
            return
        self._owners[uid] = document
        names = list(self._below.get(uid, ()))
        if not known:
            names = self._lacking.of(uid)
        for name in names:
            self._place(name, self._pods[name])

    def forget_owner(self, uid: str) -> None:
        """An owner was deleted. Until the last of its pods has gone, too, what it said of them still holds."""
        if uid in self._below:
            self._orphaning.add(uid)
        else:
            self._owners.pop(uid, None)

    def see_queue(self, name: str, document: Document | None) -> None:
        """A queue's object as it is now; None where it is gone."""
        read = None if document is None else read_queue(document)
        # Its status changes an object every few seconds, and nothing here.
        if read == self._queues.get(name):
            return
        _change(self._queues, name, read)
        before, self._planted = self._planted, planted(self._queues)
        for one in before.keys() | self._planted.keys():
            stands = self._planted.get(one)
            self._trees.put(one, None if stands is None else stands.queue)
        if self._allowed is not None and before.keys() != self._planted.keys():
            self._stir_all()

    def see_gang(self, name: str, document: Document | None) -> None:
        """The object that describes a gang, by the name of its workload, `namespace/gang/name` or `namespace/podgroup/name`."""
        if document == self._gangs.get(name):
            return
        _change(self._gangs, name, document)
        self._stirred.add(name)
        self._may_wait = True
        for key in native_levels(document):
            # A level of the cluster's own groups is any label; where no topology has it, it is one by itself.
            if not any(key in topology.levels for topology in self._topologies.values()):
                self._know(f"label/{key}", Topology(f"label/{key}", (key,)))

    def see_topology(self, name: str, document: Document | None) -> None:
        """A topology's object; None where it is gone."""
        self._know(name, None if document is None else read_topology(document))

    def _know(self, name: str, topology: Topology | None) -> None:
        _change(self._topologies, name, topology)
        self._levels.put(name, topology)
        self._stir_all()

    def see_budget(self, namespace: str, name: str, budget: Budget | None) -> None:
        """A disruption budget as it is now; None where it is gone."""
        if self._budgets.see(namespace, name, budget):
            for task, pod in self._pods.items():
                if pod.metadata.namespace == namespace:
                    self._stir(task)

    def see_class(self, name: str, value: int | None) -> None:
        """A priority class; None where it is gone."""
        _change(self._classes, name, value)
        self._stir_all()

    def see_space(self, name: str, queue: str | None) -> None:
        """The queue of a namespace whose work names none; None where it has none."""
        _change(self._spaces, name, queue)
        self._stir_all()

    def see_use(self, use: Use, *, may: bool) -> None:
        """Whether a service account may use a queue, as the cluster says now."""
        if self._allowed is not None and self._allowed.see(use, may=may):
            self._stir_all()

    # What was decided and isn't seen yet

    def assume(self, task: str, node: str, shares: Shares, at_ms: int = 0) -> None:
        """The task counts as bound there until its pod says where it is, or `doubt`."""
        self._unseen.assumed[task] = Assumed(node, shares, at_ms)
        self._pending.discard(task)
        self._holdings.give(node, task, shares)
        self._stir(task)

    def given(self, task: str, node: str, shares: Shares) -> Given | None:
        """What is written down of this place: parts of devices, and whole ones that our agent gives out. None where there is nothing to write."""
        pod = self._pods.get(task)
        return None if pod is None else self._holdings.grant(pod, node, shares)

    def doubt(self, task: str) -> None:
        """The place will not come true."""
        assumed = self._unseen.assumed.pop(task, None)
        if assumed is not None:
            self._may_wait = True
            self._stir(task)
            self._holdings.moved.add(assumed.node)

    def expect_gone(self, task: str) -> None:
        """The task was told to go: it counts as releasing until its pod is seen so, or `stays`."""
        self._unseen.going.add(task)
        self._stir(task)

    def stays(self, task: str) -> None:
        """The task was not told to go after all."""
        if task in self._unseen.going:
            self._unseen.going.discard(task)
            self._stir(task)

    def shield(self, task: str) -> None:
        """Somebody else keeps the task where it is for now: its workload is not evicted, until `unshield`."""
        self._unseen.shielded.add(task)
        self._stir(task)

    def unshield(self, task: str) -> None:
        """The task may be evicted again."""
        self._unseen.shielded.discard(task)
        self._stir(task)

    def bar(self, task: str) -> None:
        """The task is not placed for now, until `unbar`."""
        self._unseen.barred.add(task)
        self._stir(task)

    def unbar(self, task: str) -> None:
        """The task may be placed again."""
        self._unseen.barred.discard(task)
        self._may_wait = True
        self._stir(task)

    @property
    def pressing(self) -> bool:
        """Whether a task waits for a place, or may do so by what was seen since the last snapshot. Asked from any thread."""
        return self._may_wait or bool(self._pending)

    def pod(self, task: str) -> Pod | None:
        """The pod of one of our tasks; None where it is gone."""
        return self._pods.get(task)

    def workload(self, name: str) -> Workload | None:
        """A workload of the snapshot; None where it is gone."""
        return self._rows.get(name)

    def workload_of(self, task: str) -> Workload | None:
        """The workload of one of our tasks; None where it is gone."""
        membership = self._memberships.get(task)
        return self._rows.get(membership.name) if membership is not None else None

    # What it comes to

    @property
    def missing(self) -> list[tuple[str, Owner]]:
        """Owners without whom it can't be said what some pods are part of, each with the namespace of its pods."""
        return self._lacking.owners

    def misses(self, uid: str) -> bool:
        """Whether pods wait for this owner to be known."""
        return bool(self._lacking.of(uid))

    @property
    def faults(self) -> dict[str, tuple[Fault, ...]]:
        """What is wrong with pods, by the name of the task."""
        self._refresh()
        return {name: own for read in self._faulty.values() for name, own in read.items()}

    @property
    def queue_faults(self) -> dict[str, tuple[Fault, ...]]:
        """What is wrong with objects of queues, by name."""
        return {name: read.faults for name, read in self._planted.items() if read.faults}

    def faults_of(self, workload: str) -> tuple[Fault, ...]:
        """What is wrong with pods of a workload, each fault once."""
        read = self._reads.get(workload)
        return (
            () if read is None else tuple(dict.fromkeys(one for own in read.faults.values() for one in own))
        )

    @property
    def oddities(self) -> tuple[str, ...]:
        """What is odd about nodes, as sentences."""
        return self._holdings.oddities

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """The state of the cluster as it is known, what was assumed included."""
        self._refresh()
        return Snapshot(
            now_ms,
            self._holdings.left.all(),
            self._trees.all(),
            self._rows.all(),
            policy,
            self._levels.all(),
        )

    # How

    def _place(self, name: str, pod: Pod) -> None:
        """Put the pod into its workload."""
        found = find(pod, self._owners, self._kinds)
        before = self._memberships.pop(name, None)
        if before is not None:
            self._leave(name, before)
        self._lacking.put(name, found.owners[0] if isinstance(found, Missing) else None)
        if isinstance(found, Missing):
            if not pod.spec.node_name:
                return
            # It holds its room, whoever made it.
            found = alone(pod)
        self._memberships[name] = found
        for link in found.chain:
            self._below.setdefault(link.owner.uid, set()).add(name)
        self._members.setdefault(found.name, {})[name] = Member(pod, found)
        self._stirred.add(found.name)
        self._may_wait |= state_of(pod) == "pending" and name not in self._unseen.assumed

    def _forget(self, name: str) -> None:
        if self._pods.pop(name, None) is None:
            return
        self._lacking.put(name, None)
        self._unseen.forget(name)
        self.doubt(name)
        before = self._memberships.pop(name, None)
        if before is not None:
            self._leave(name, before)

    def _leave(self, name: str, membership: Membership) -> None:
        for link in membership.chain:
            uid = link.owner.uid
            self._below[uid].discard(name)
            if not self._below[uid]:
                del self._below[uid]
                if uid in self._orphaning:
                    self._orphaning.discard(uid)
                    self._owners.pop(uid, None)
        members = self._members.get(membership.name, {})
        members.pop(name, None)
        if not members:
            self._members.pop(membership.name, None)
        self._stirred.add(membership.name)

    def _stir(self, task: str) -> None:
        membership = self._memberships.get(task)
        if membership is not None:
            self._stirred.add(membership.name)

    def _may(self, use: Use) -> bool | None:
        """Nobody is asked about queues that aren't there: whoever names one is told so."""
        return True if use.queue not in self._planted or self._allowed is None else self._allowed.may(use)

    def _stir_all(self) -> None:
        self._stirred.update(self._members)
        self._may_wait = True

    def _refresh(self) -> None:
        """Read anew what changed, and give out devices where somebody came or went."""
        if not self._stirred and not self._holdings.moved:
            return
        self.revision += 1
        may = None if self._allowed is None else self._may
        around = Around(self._classes, self._topologies, self._spaces, self._holdings.by_agents, may)
        for name in self._stirred:
            self._read(name, around)
        again = set()
        for name in self._holdings.moved:
            again |= self._hand_out(name)
        for name in self._stirred | again:
            self._row(name)
        self._stirred, self._holdings.moved, self._may_wait = set(), set(), False

    def _read(self, name: str, around: Around) -> None:
        before = self._reads.pop(name, None)
        members = self._members.get(name)
        read = WorkloadRead(None)
        if members:
            read = read_workload(tuple(members.values()), around, self._gangs)
            if read.workload is not None:
                read = WorkloadRead(self._with_unseen(read.workload), read.faults)
            self._reads[name] = read
        _change(self._faulty, name, read.faults or None)
        self._holdings.hold(name, _nodes_of(before), _nodes_of(read))

    def _with_unseen(self, workload: Workload) -> Workload:
        """The workload with what we did and haven't seen yet. Nobody goes whom a budget keeps, or of whom it isn't known with whom."""
        names = [task.name for task in workload.tasks]
        stays = any(name in self._lacking or self._budgets.keep(self._pods[name]) for name in names)
        return self._unseen.applied(workload, stays=stays)

    def _hand_out(self, name: str) -> set[str]:
        """Give out the devices of a node. Returns the workloads whose devices changed."""
        tasks = [
            task
            for holder in self._holdings.holders(name)
            for task in _tasks_of(self._reads.get(holder))
            if task.node == name and task.state in HOLDING
        ]
        changed = self._holdings.hand_out(name, tasks, self._recorded)
        return {self._memberships[task].name for task in changed if task in self._memberships}

    def _recorded(self, task: str) -> Shares:
        pod = self._pods.get(task)
        return recorded(pod) if pod is not None else NOTHING

    def _row(self, name: str) -> None:
        """The workload with the devices of its tasks."""
        read = self._reads.get(name)
        if read is None or read.workload is None:
            self._put(name, None)
            return
        tasks = tuple(
            replace(task, devices=shares) if (shares := self._holdings.given(task)) else task
            for task in read.workload.tasks
        )
        self._put(name, replace(read.workload, tasks=tasks))

    def _put(self, name: str, row: Workload | None) -> None:
        for one, change in ((self._rows.get(name), self._pending.discard), (row, self._pending.add)):
            for task in one.tasks if one is not None else ():
                if task.state == "pending":
                    change(task.name)
        self._rows.put(name, row)


def _nodes_of(read: WorkloadRead | None) -> set[str]:
    return {task.node for task in _tasks_of(read) if task.node and task.state in HOLDING}


def _tasks_of(read: WorkloadRead | None) -> Iterable[Task]:
    return read.workload.tasks if read is not None and read.workload is not None else ()


def _change(table: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
