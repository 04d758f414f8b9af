"""Affinity between tasks, judged in every order in which tasks could come. Shares no code with the policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import NamedTuple

from msgspec.structs import replace

from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, Expression, Task, TaskTerm, Workload


class Stands(NamedTuple):
    """A task on a node."""

    task: Task
    workload: Workload
    node: str


def meant(term: TaskTerm, carrier: Workload, other: Stands) -> bool:
    """Whether a term means a task; terms of the carrier's own queue, or with an empty namespaceSelector, and `In` only."""
    labels = {**other.workload.labels, **other.task.labels}
    near = term.queue_labels == () or other.workload.queue == carrier.queue
    return near and all(labels.get(row.key) in row.values for row in term.labels or ())


class Neighbours:
    """The nodes of a snapshot, by their labels."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.labels = {node.name: node.labels for node in snapshot.nodes}

    def together(self, key: str, one: str, other: str) -> bool:
        """Whether two nodes are in one domain."""
        return key in self.labels[one] and self.labels[one].get(key) == self.labels[other].get(key)

    def bear(self, one: Stands, other: Stands) -> bool:
        """Whether neither has to be away from the other."""
        return not any(
            meant(term, carrier.workload, against) and self.together(term.key, carrier.node, against.node)
            for carrier, against in ((one, other), (other, one))
            for term in (carrier.task.affinity or Affinity()).apart.required
        )

    def fine(self, there: Sequence[Stands], coming: Sequence[Stands]) -> bool:
        """Whether all could come in some order."""
        everybody = [*there, *coming]
        if not all(self.bear(one, other) for one in coming for other in everybody if one is not other):
            return False
        return any(self._in_order(there, order) for order in permutations(coming))

    def _in_order(self, there: Sequence[Stands], order: Sequence[Stands]) -> bool:
        for number, one in enumerate(order):
            before = [*there, *order[:number]]
            if not self._met(one, before) and (
                self._anywhere(one, before) or not self._met(one, order[number:])
            ):
                return False
        return True

    def _meant(self, one: Stands, others: Iterable[Stands]) -> list[Stands]:
        terms = (one.task.affinity or Affinity()).near.required
        return [other for other in others if all(meant(term, one.workload, other) for term in terms)]

    def _met(self, one: Stands, others: Iterable[Stands]) -> bool:
        found = self._meant(one, others)
        terms = (one.task.affinity or Affinity()).near.required
        return all(any(self.together(term.key, one.node, other.node) for other in found) for term in terms)

    def _anywhere(self, one: Stands, others: Iterable[Stands]) -> bool:
        terms = (one.task.affinity or Affinity()).near.required
        return any(
            term.key in self.labels[other.node] for other in self._meant(one, others) for term in terms
        )


def term(key: str = "host", **labels: str) -> TaskTerm:
    """Tasks of the own queue with these labels."""
    rows = tuple(Expression(label, "In", (value,)) for label, value in sorted(labels.items()))
    return TaskTerm(key, rows)


def anyones(key: str = "host", **labels: str) -> TaskTerm:
    """Tasks of any queue with these labels."""
    return replace(term(key, **labels), queue_labels=())


def near(*required: TaskTerm) -> Affinity:
    """Near such tasks."""
    return Affinity(near=Company(required))


def apart(*required: TaskTerm) -> Affinity:
    """Away from such tasks."""
    return Affinity(apart=Company(required))
