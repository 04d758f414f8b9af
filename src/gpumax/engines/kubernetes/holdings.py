"""Nodes as they are seen, which of their devices our tasks hold, and what is left of each for us."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.agents import Agents
from gpumax.engines.kubernetes.devices import NOTHING, Shares, hand_out
from gpumax.engines.kubernetes.foreign import without
from gpumax.engines.kubernetes.grants import Given, claim_name, grant_of
from gpumax.engines.kubernetes.nodes import NodeRead, read_node
from gpumax.engines.kubernetes.offers import Slice
from gpumax.engines.kubernetes.requests import by_resource, read_request
from gpumax.engines.kubernetes.strangers import Strangers
from gpumax.engines.kubernetes.table import Table
from gpumax.engines.kubernetes.views import NodeObject, Pod
from gpumax.model.node import Node
from gpumax.model.workload import Task


class Holdings:
    """Node by node. moved: nodes to be looked at anew; left: what is left of each for us."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRead] = {}
        self._agents = Agents()
        self._strangers = Strangers()
        self._given: dict[str, dict[str, Shares]] = {}  # by node, then task
        self._holders: dict[str, set[str]] = {}  # workloads that hold room, by node
        self.left = Table[Node]()
        self.moved: set[str] = set()

    @property
    def by_agents(self) -> bool:
        """Whether any node has an agent that gives out its devices."""
        return self._agents.there

    @property
    def oddities(self) -> tuple[str, ...]:
        """What is odd about nodes, as sentences."""
        shared = (self._agents.oddity(read.node) for read in self._nodes.values())
        return (*(line for read in self._nodes.values() for line in read.oddities), *filter(None, shared))

    def see_node(self, name: str, view: NodeObject | None) -> None:
        """A node as it is now; None where it is gone."""
        offers = self._agents.see_node(name, view)
        if view is None:
            self._nodes.pop(name, None)
        else:
            read = read_node(view)
            # Its heartbeat changes an object every few seconds, and nothing here.
            if read == self._nodes.get(name) and not offers:
                return
            self._nodes[name] = read
        self.moved.add(name)

    def see_slice(self, name: str, view: Slice | None) -> None:
        """A ResourceSlice of our agents as it is now; None where it is gone."""
        self.moved |= self._agents.see_slice(name, view)

    def see_stranger(self, name: str, pod: Pod | None) -> None:
        """A pod that another scheduler places as it is now; None where it is gone, or is ours."""
        self.moved |= self._strangers.see(name, pod)

    def give(self, node: str, task: str, shares: Shares) -> None:
        """The task has these devices from now on."""
        self._given.setdefault(node, {})[task] = shares
        self.moved.add(node)

    def forget(self, node: str, task: str) -> None:
        """What was given is not to be kept: what its pod says counts."""
        self._given.get(node, {}).pop(task, None)

    def given(self, task: Task) -> Shares:
        """The devices of a task."""
        return self._given.get(task.node, {}).get(task.name, NOTHING) if task.node else NOTHING

    def grant(self, pod: Pod, node: str, shares: Shares) -> Given | None:
        """What is written down of this place: parts of devices, and whole ones that our agent gives out. None where there is nothing to write."""
        read = self._nodes.get(node)
        if read is None:
            return None
        asked = read_request(pod, [])
        devices = self._agents.applied(read.node).devices
        if not asked.part and not (asked.request.gpu and self._agents.whole(node)):
            return None
        grant = grant_of(asked.request, shares, devices, swap=asked.swap, strict=asked.strict)
        if asked.part:
            return Given(grant, claim_name(pod))
        return Given(grant, f"{keys.CLAIM}-{pod.metadata.uid}", by_resource(pod, asked.vendor))

    def hold(self, workload: str, before: set[str], after: set[str]) -> None:
        """On which nodes a workload held room, and holds it now."""
        for node in before - after:
            self._holders[node].discard(workload)
        for node in after:
            self._holders.setdefault(node, set()).add(workload)
        self.moved |= before | after

    def holders(self, node: str) -> list[str]:
        """The workloads that hold room on a node, in the order of their names."""
        return sorted(self._holders.get(node, ()))

    def hand_out(self, name: str, tasks: Iterable[Task], recorded: Callable[[str], Shares]) -> set[str]:
        """What is left of a node, and which devices our tasks hold there. Returns the tasks whose devices changed."""
        read, tasks, before = self._nodes.get(name), list(tasks), self._given.get(name, {})
        if read is None and not tasks:
            self.left.put(name, None)
            self._given.pop(name, None)
            return set(before)
        # A node that is gone under running work is one that is not ready.
        node = self._agents.applied(read.node if read is not None else Node(name, ready=False))
        # What is remembered counts more than what stands on pods: those could be changed while they run.
        known = {task.name: before.get(task.name) or recorded(task.name) for task in tasks}
        given = hand_out(node, tasks, known)
        ours = {share.index for shares in given.values() for share in shares}
        self.left.put(name, without(node, self._strangers.held(name), ours))
        self._given[name] = given
        return {task for task in given.keys() | before.keys() if given.get(task) != before.get(task)}
