"""What affinity between tasks means for each task: whom it has to be near, whom it keeps away, and who keeps it away.

Every question that a term asks is a column: so many tasks of some kind in each domain of a node label. A task brings
something to columns wherever it stands, and reads others to find out where it may stand. Columns are counted in `crowd`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import numpy as np

from gpumax.model.node import Node
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import (
    HOLDING,
    QUEUE_NAME,
    Affinity,
    Company,
    Expression,
    Task,
    TaskState,
    TaskTerm,
    Workload,
)
from gpumax.policy.labels import holds

NOBODY: Final = Company()
REQUIRED_WEIGHT: Final = 1
"""How much a task's required affinity draws those that it means, as Kubernetes has it by default."""


class Who(NamedTuple):
    """The tasks that a term means, whoever carries it. labels None: none of them."""

    labels: tuple[Expression, ...] | None
    queues: tuple[str, ...]
    queue_labels: tuple[Expression, ...] | None

    def means(self, labels: dict[str, str], queue: str) -> bool:
        """Whether a task of a queue with these labels is meant."""
        if self.labels is None or not all(holds(expression, labels) for expression in self.labels):
            return False
        if queue in self.queues:
            return True
        name = {QUEUE_NAME: queue}
        return self.queue_labels is not None and all(
            holds(expression, name) for expression in self.queue_labels
        )


Kind = Literal["meant", "keeping away", "drawing"]
"""What is counted: tasks that all of these terms mean; tasks that keep away whom a term means; how they draw them."""


class Column(NamedTuple):
    """What is counted, of whom, and by which node label."""

    kind: Kind
    who: frozenset[Who]
    key: str


class Tied:
    """What ties a task to others: one object for all tasks of a decision that are tied alike, so that it is its own key.

    Columns stand as numbers. brings: what it adds to each; needs: those that must not be empty where it stands, own: unless
    it is the first of its kind; shuns: those that must be empty there; likes: what each counts for it.
    """

    __slots__ = ("adds", "amounts", "brings", "likes", "needs", "own", "shuns")

    def __init__(
        self,
        brings: tuple[tuple[int, int], ...],
        needs: tuple[int, ...],
        shuns: tuple[int, ...],
        likes: tuple[tuple[int, int], ...],
    ) -> None:
        self.brings = brings
        self.amounts = dict(brings)  # the same by column
        self.adds: dict[int, tuple[tuple[int, int, int], ...]] = {}  # by row, as `Ties.adds` found it
        self.needs = needs
        self.own = self.amounts.keys() >= set(needs)
        self.shuns = shuns
        self.likes = likes

    def blocks(self, other: Tied) -> frozenset[int]:
        """The columns by which this one keeps another away."""
        return frozenset(column for column, _ in self.brings).intersection(other.shuns)


class Domains(NamedTuple):
    """The domains of a node label. of: by row, -1 where the node lacks the label; row_domains: the same; rows: by domain."""

    of: list[int]
    row_domains: np.ndarray[tuple[int], np.dtype[np.int64]]
    rows: list[np.ndarray[tuple[int], np.dtype[np.int64]]]


_Hook = tuple[tuple[str, str], str]
NO_LABEL: Final = ("", "")
ANYWHERE: Final = ""

_Key = tuple[str, tuple[tuple[str, str], ...], Company, Company]


class Ties:
    """All columns of a decision, and what each task has to do with them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.columns: list[Column] = []
        self.domains: list[Domains] = []  # by column
        self.size = len(snapshot.nodes)
        self.everywhere = np.ones(self.size, np.bool_)
        self._nodes = snapshot.nodes
        self._number: dict[Column, int] = {}
        self._by_key: dict[str, Domains] = {}
        self._hooks: dict[_Hook, list[int]] = {}  # columns by what whoever is meant has at least one of
        self._known: dict[_Key, Tied | None] = {}
        self._same: dict[tuple[int | str, int, int], Tied | None] = {}
        self._interned: dict[object, Tied] = {}
        for key in dict.fromkeys(_key(workload, task) for workload, task in _carriers(snapshot)):
            queue, items, near, apart = key
            for column in _columns(near, apart, dict(items), queue):
                self._add(column)

    def of(self, workload: Workload, task: Task) -> Tied | None:
        """What ties a task; None where nothing does."""
        # As for requests, the snapshot that is being decided keeps these objects alive.
        carrier = id(workload) if workload.labels else workload.queue
        same = (carrier, id(task.affinity), id(task.labels) if task.labels else 0)
        if same not in self._same:
            key = _key(workload, task)
            if key not in self._known:
                self._known[key] = self._read(key)
            self._same[same] = self._known[key]
        return self._same[same]

    def aloof(self, tied: Tied) -> Tied:
        """The same without what it needs."""
        return self._intern(tied.brings, (), tied.shuns, tied.likes)

    def brings(self, tied: Tied | None, row: int, column: int, other: int) -> int:
        """What a task on one node adds to a column at another."""
        if tied is None or not self.meet((column,), row, other):
            return 0
        return sum(amount for number, amount in tied.brings if number == column)

    def adds(self, tied: Tied, row: int) -> tuple[tuple[int, int, int], ...]:
        """What a task on a node adds: column, domain, amount."""
        known = tied.adds.get(row)
        if known is None:
            at = ((number, self.domains[number].of[row], amount) for number, amount in tied.brings)
            known = tied.adds[row] = tuple(
                [(number, domain, amount) for number, domain, amount in at if domain >= 0]
            )
        return known

    def meet(self, columns: Iterable[int], row: int, other: int) -> bool:
        """Whether two nodes are in one domain of any of these columns."""
        domains = (self.domains[number].of for number in columns)
        return any(of[row] == of[other] >= 0 for of in domains)

    def _add(self, column: Column) -> None:
        if column in self._number:
            return
        number = self._number[column] = len(self.columns)
        self.columns.append(column)
        if column.key not in self._by_key:
            self._by_key[column.key] = _domains(self._nodes, column.key)
        self.domains.append(self._by_key[column.key])
        for hook in _hooks(column):
            self._hooks.setdefault(hook, []).append(number)

    def _read(self, key: _Key) -> Tied | None:
        queue, items, near, apart = key
        labels = dict(items)
        brings: dict[int, int] = {}
        likes: dict[int, int] = {}
        shuns: list[int] = []
        hooks = ((item, where) for item in (NO_LABEL, *items) for where in (queue, ANYWHERE))
        candidates = {number for hook in hooks for number in self._hooks.get(hook, ())}
        for number in sorted(candidates):
            column = self.columns[number]
            if not all(who.means(labels, queue) for who in column.who):
                continue
            if column.kind == "meant":
                brings[number] = 1
            elif column.kind == "keeping away":
                shuns.append(number)
            else:
                likes[number] = 1
        for column, weight in _carried(near, apart, labels, queue):
            number = self._number[column]
            brings[number] = brings.get(number, 0) + weight
        for column, weight in _preferred(near, apart, labels, queue):
            number = self._number[column]
            likes[number] = likes.get(number, 0) + weight
        needs = [self._number[column] for column in _needed(near, labels, queue)]
        shuns += [self._number[column] for column in _avoided(apart, labels, queue)]
        made = (_rows(brings), tuple(sorted(set(needs))), tuple(sorted(set(shuns))), _rows(likes))
        return self._intern(*made) if any(made) else None

    def _intern(
        self,
        brings: tuple[tuple[int, int], ...],
        needs: tuple[int, ...],
        shuns: tuple[int, ...],
        likes: tuple[tuple[int, int], ...],
    ) -> Tied:
        key = (brings, needs, shuns, likes)
        known = self._interned.get(key)
        if known is None:
            known = self._interned[key] = Tied(brings, needs, shuns, likes)
        return known


def carries(affinity: Affinity, state: TaskState) -> bool:
    """Whether a task with this affinity is tied to others by it."""
    if affinity.near == NOBODY and affinity.apart == NOBODY:
        return False
    return state == "pending" or state in HOLDING


def _carriers(snapshot: Snapshot) -> Iterator[tuple[Workload, Task]]:
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.affinity is not None and carries(task.affinity, task.state):
                yield workload, task


def _key(workload: Workload, task: Task) -> _Key:
    labels = workload.labels | task.labels if task.labels else workload.labels
    affinity = task.affinity or Affinity()
    return (workload.queue, tuple(sorted(labels.items())), affinity.near, affinity.apart)


def _who(term: TaskTerm, labels: dict[str, str], queue: str) -> Who:
    """A term with all that its carrier adds. A label that the carrier lacks narrows nothing, as in Kubernetes."""
    meant = term.labels
    if meant is not None:
        meant += tuple(Expression(key, "In", (labels[key],)) for key in term.same if key in labels)
        meant += tuple(Expression(key, "NotIn", (labels[key],)) for key in term.other if key in labels)
    anywhere = term.queues or term.queue_labels is not None
    return Who(meant, tuple(sorted(term.queues)) if anywhere else (queue,), term.queue_labels)


def _columns(near: Company, apart: Company, labels: dict[str, str], queue: str) -> Iterator[Column]:
    """All columns that a carrier of these terms reads or adds to."""
    yield from _needed(near, labels, queue)
    yield from _avoided(apart, labels, queue)
    yield from (column for column, _ in _carried(near, apart, labels, queue))
    yield from (column for column, _ in _preferred(near, apart, labels, queue))


def _needed(near: Company, labels: dict[str, str], queue: str) -> Iterator[Column]:
    # Kubernetes: whoever is to satisfy one required term must be meant by all of them.
    who = frozenset(_who(term, labels, queue) for term in near.required)
    for term in near.required:
        yield Column("meant", who, term.key)


def _avoided(apart: Company, labels: dict[str, str], queue: str) -> Iterator[Column]:
    for term in apart.required:
        yield Column("meant", frozenset((_who(term, labels, queue),)), term.key)


def _preferred(
    near: Company, apart: Company, labels: dict[str, str], queue: str
) -> Iterator[tuple[Column, int]]:
    for sign, company in ((1, near), (-1, apart)):
        for weight, term in company.preferred:
            yield Column("meant", frozenset((_who(term, labels, queue),)), term.key), sign * weight


def _carried(
    near: Company, apart: Company, labels: dict[str, str], queue: str
) -> Iterator[tuple[Column, int]]:
    """What a task that is there does to those whom it means."""
    for term in apart.required:
        yield Column("keeping away", frozenset((_who(term, labels, queue),)), term.key), 1
    for term in near.required:
        yield Column("drawing", frozenset((_who(term, labels, queue),)), term.key), REQUIRED_WEIGHT
    for sign, company in ((1, near), (-1, apart)):
        for weight, term in company.preferred:
            yield Column("drawing", frozenset((_who(term, labels, queue),)), term.key), sign * weight


def _hooks(column: Column) -> list[_Hook]:
    """Labels and queues of which whoever is meant has one."""
    who = min(column.who, key=repr) if len(column.who) > 1 else next(iter(column.who))
    one_of = (row for row in who.labels or () if row.operator == "In")
    labels = next(([(row.key, value) for value in row.values] for row in one_of), [NO_LABEL])
    queues = who.queues if who.queue_labels is None else (ANYWHERE,)
    return [(label, queue) for label in labels for queue in queues]


def _domains(nodes: tuple[Node, ...], key: str) -> Domains:
    found: dict[str, list[int]] = {}
    for row, node in enumerate(nodes):
        if key in node.labels:
            found.setdefault(node.labels[key], []).append(row)
    rows = [np.array(rows, np.int64) for rows in found.values()]
    of = [-1] * len(nodes)
    for domain, members in enumerate(found.values()):
        for row in members:
            of[row] = domain
    return Domains(of, np.array(of, np.int64), rows)


def _rows(sums: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((number, amount) for number, amount in sums.items() if amount))
