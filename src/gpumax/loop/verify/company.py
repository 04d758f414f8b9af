"""Rule 9, as far as tasks are near others or away from them: what a task requires of its neighbours holds where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gpumax.loop.verify.facts import Facts, Newcomer
from gpumax.loop.verify.filters import is_true
from gpumax.loop.verify.violation import Violation
from gpumax.model.workload import ACTIVE, HOLDING, QUEUE_NAME, Expression, Task, TaskTerm, Workload


class Term(NamedTuple):
    """A term as its carrier means it: expressions on labels, queues, expressions on their names, and the node label."""

    labels: tuple[Expression, ...] | None
    queues: frozenset[str]
    names: tuple[Expression, ...] | None
    key: str

    def means(self, person: Person) -> bool:
        """Whether a task is meant."""
        queue, labels = person.workload.queue, person.labels
        if self.labels is None or not all(is_true(row, labels.get(row.key)) for row in self.labels):
            return False
        if queue in self.queues:
            return True
        name = {QUEUE_NAME: queue}
        return self.names is not None and all(is_true(row, name.get(row.key)) for row in self.names)


class Person:
    """A task on a node, with its labels, its own before its workload's, and what it requires."""

    __slots__ = ("apart", "labels", "near", "node", "task", "workload")

    def __init__(self, task: Task, workload: Workload, node: str) -> None:
        self.task = task
        self.workload = workload
        self.node = node
        self.labels = {**workload.labels, **task.labels} if task.labels else workload.labels
        self.near: tuple[Term, ...] = ()
        self.apart: tuple[Term, ...] = ()
        if task.affinity is not None:
            self.near = tuple(self._term(term) for term in task.affinity.near.required)
            self.apart = tuple(self._term(term) for term in task.affinity.apart.required)

    def _term(self, term: TaskTerm) -> Term:
        queues = frozenset(term.queues)
        if not queues and term.queue_labels is None:
            queues = frozenset((self.workload.queue,))
        rows = term.labels
        if rows is not None:
            own = self.labels
            rows += tuple(Expression(key, "In", (own[key],)) for key in term.same if key in own)
            rows += tuple(Expression(key, "NotIn", (own[key],)) for key in term.other if key in own)
        return Term(rows, queues, term.queue_labels, term.key)

    def wants(self, other: Person) -> bool:
        """Whether another could satisfy what it must be near: in Kubernetes it has to be meant by all terms."""
        return all(term.means(other) for term in self.near)


ByDomain = dict[str | None, list[Person]]
"""Tasks by the value of a node label."""
Allowed = Callable[[Person], bool]


def check_company(facts: Facts) -> Iterator[Violation]:
    """Nothing new stands near what it must be away from, the other way round, or away from what it must be near."""
    if not facts.newcomers or not asked(facts):
        return
    company = Company(facts)
    for new, person in company.coming:
        found = company.clash(new, person)
        if found:
            yield Violation(9, found, new.blame, new.task.name)
    for name in {person.workload.name: None for _, person in company.coming if person.near}:
        yield from company.lonely(name)


def asked(facts: Facts) -> bool:
    """Whether any task requires anything of its neighbours."""
    return bool(facts.known.tied)


class Company:
    """Who stands where: here when the decision is made, staying, and coming by it."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.coming = [(new, Person(new.task, new.workload, new.node)) for new in facts.newcomers]
        here = [
            Person(task, workload, task.node)
            for workload in facts.snapshot.workloads
            for task in workload.tasks
            if task.state in HOLDING and task.node is not None
        ]
        # The stale pass is judged after all others: those that it evicts were there when places were found.
        gone = {name for name, eviction in facts.evicted.items() if eviction.cause != "stale"}
        self._staying = {
            id(person) for person in here if person.task.state in ACTIVE and person.task.name not in gone
        }
        self._everybody = [*here, *(person for _, person in self.coming)]
        self._new = {id(person): new for new, person in self.coming}
        self._by_name: dict[str, list[tuple[Newcomer, Person]]] = {}
        for entry in sorted(
            self.coming, key=lambda entry: entry[0].moved
        ):  # places in their order, then moves
            self._by_name.setdefault(entry[1].workload.name, []).append(entry)
        self._turn: dict[str, int] = {}
        self._first: dict[int, int] = {}
        self._look_at_turns()
        self._by_label: dict[tuple[str, str], list[Person]] = {}
        for person in self._everybody:
            for item in person.labels.items():
                self._by_label.setdefault(item, []).append(person)
        self._meant: dict[Term, ByDomain] = {}
        self._carried: dict[Term, ByDomain] = {}
        self._hooks: dict[
            tuple[str, str] | None, dict[Term, None]
        ] = {}  # carried terms by a label they ask for
        for person in self._everybody:
            for term in person.apart:
                self._enter(self._carried.setdefault(term, {}), term, person)
                for hook in _hooks(term):
                    self._hooks.setdefault(hook, {})[term] = None

    def clash(self, new: Newcomer, person: Person) -> str:
        """Whom a newcomer may not stand beside, in words; empty where there is nobody."""
        for term, other, own in self._at_odds(person):
            if self._beside(new, person, other):
                must = "from which it must be away" if own else "which must be away from it"
                return f"{new.node} is in one {term.key} with {other.task.name}, {must}"
        return ""

    def in_the_way(self, person: Person) -> bool:
        """Whether somebody who came could not be beside a task that was there before, or has come as the first of its kind."""
        if any(id(other) in self._new for _, other, _ in self._at_odds(person)):
            return True
        for _, new in self.coming:
            if new.near and new.wants(person) and self._in_domain(new, person):
                name = new.workload.name
                if not self._meets(new, lambda other, name=name: self._others(other, name)):  # type: ignore[misc]
                    return True
        return False

    def counted_on(self, names: Iterable[str]) -> bool:
        """Whether somebody who came stands near one of these at its new place, and has to."""
        moved = [person for new, person in self.coming if new.moved and new.task.name in names]
        return any(
            new.wants(person) and self._together(new.near[0].key, person.node, new.node)
            for person in moved
            for _, new in self.coming
            if new.near and new.task.name != person.task.name
        )

    def lonely(self, name: str) -> Iterator[Violation]:
        """The newcomers of a workload that lack whom they must be near, however they come one after the other."""
        left = [self._left_over(name, firsts_first=order) for order in (False, True)]
        if all(left):
            new, person = left[0][0]
            keys = ", ".join(term.key for term in person.near)
            found = f"{new.node} has nobody near it ({keys}) that it must be near"
            yield Violation(9, found, new.blame, new.task.name)

    def _left_over(self, name: str, *, firsts_first: bool) -> list[tuple[Newcomer, Person]]:
        """Those who can't come when all who can have come, those who are the first of their kind first or last."""
        left = [entry for entry in self._by_name[name] if entry[1].near]
        mates = {id(person) for _, person in self._by_name[name] if not person.near}
        arrived: set[int] = set()
        while left:
            at = self._next(left, name, mates, arrived, firsts_first=firsts_first)
            if at is None:
                break
            left.remove(at)
            arrived.add(id(at[1]))
        return left

    def _next(
        self,
        left: list[tuple[Newcomer, Person]],
        name: str,
        mates: set[int],
        arrived: set[int],
        *,
        firsts_first: bool,
    ) -> tuple[Newcomer, Person] | None:
        """One that could come now: whom it must be near is there; or it is the first of its kind, or of several that come together."""
        rest = {id(person) for _, person in left}

        def here(other: Person) -> bool:
            return self._others(other, name) or id(other) in mates or id(other) in arrived

        def joins(entry: tuple[Newcomer, Person]) -> bool:
            # Whoever moves is nowhere when others start.
            return self._meets(
                entry[1], lambda other: here(other) and (entry[0].moved or not self._moves(other))
            )

        def is_first(entry: tuple[Newcomer, Person]) -> bool:
            person = entry[1]
            known = self._known(person, lambda other: id(other) in arrived or self._before(other, name))
            return not known and self._meets(person, lambda other: id(other) in rest)

        for could in (is_first, joins) if firsts_first else (joins, is_first):
            for entry in left:
                if could(entry):
                    return entry
        return None

    def _at_odds(self, person: Person) -> Iterator[tuple[Term, Person, bool]]:
        """Who is where a task must not be beside them: by its own term, or by theirs."""
        for term in person.apart:
            for other in self._who(term).get(self._domain(term.key, person.node), ()):
                yield term, other, True
        terms = dict(self._hooks.get(None, {}))
        for item in person.labels.items():
            terms.update(self._hooks.get(item, {}))
        for term in terms:
            others = self._carried[term].get(self._domain(term.key, person.node), ())
            if others and term.means(person):
                for other in others:
                    yield term, other, False

    def _beside(self, new: Newcomer, person: Person, other: Person) -> bool:
        """Whether another is there when a newcomer starts: not itself, nor whom it waits for, nor its own gang's old places."""
        name = other.task.name
        if name == person.task.name and (other is person or new.moved):
            return False
        if id(other) in self._new:
            return True
        own = new.moved and name in self._facts.evicted and other.workload.name == person.workload.name
        return name not in new.after and not own

    def _others(self, other: Person, name: str) -> bool:
        """Whether a task stays, or comes and is of another workload."""
        return id(other) in self._staying or (id(other) in self._new and other.workload.name != name)

    def _moves(self, other: Person) -> bool:
        """Whether another comes from another place."""
        new = self._new.get(id(other))
        return new is not None and new.moved

    def _before(self, other: Person, name: str) -> bool:
        """Whether another was there for certain before any of a workload was placed: it stays, or is among what was placed
        first of those that stand before it.
        """
        mine = self._turn.get(name, len(self._turn))
        return id(other) in self._staying or self._first.get(id(other), mine) < mine

    def _look_at_turns(self) -> None:
        """Who was placed first of each workload, in the order in which workloads were placed."""
        for name, entries in self._by_name.items():
            placed = [person for new, person in entries if not new.moved]
            if placed:
                turn = self._turn[name] = len(self._turn)
                lacks = sum(self._facts.lacks(placed[0].workload).values())
                self._first.update((id(person), turn) for person in placed[: max(1, lacks)])

    def _meets(self, person: Person, allowed: Allowed) -> bool:
        """Whether for each term one who is allowed, and meant by all terms, is in the domain."""
        return all(
            any(
                allowed(other) and person.wants(other)
                for other in self._who(term).get(self._domain(term.key, person.node), ())
            )
            for term in person.near
        )

    def _known(self, person: Person, allowed: Allowed) -> bool:
        """Whether anybody whom it must be near is anywhere."""
        return any(
            allowed(other) and person.wants(other)
            for term in person.near
            for others in self._who(term).values()
            for other in others
        )

    def _in_domain(self, new: Person, person: Person) -> bool:
        return any(self._domain(term.key, person.node) is not None for term in new.near)

    def _who(self, term: Term) -> ByDomain:
        """Whom a term means, by domain; those in none are left out."""
        if term not in self._meant:
            found: ByDomain = {}
            hooks = _hooks(term)
            some = [person for hook in hooks if hook is not None for person in self._by_label.get(hook, ())]
            for person in self._everybody if None in hooks else some:
                if term.means(person):
                    self._enter(found, term, person)
            self._meant[term] = found
        return self._meant[term]

    def _enter(self, found: ByDomain, term: Term, person: Person) -> None:
        domain = self._domain(term.key, person.node)
        if domain is not None:
            found.setdefault(domain, []).append(person)

    def _domain(self, key: str, node: str) -> str | None:
        return self._facts.nodes[node].labels.get(key) if node in self._facts.nodes else None

    def _together(self, key: str, one: str, other: str) -> bool:
        return self._domain(key, one) is not None and self._domain(key, one) == self._domain(key, other)


def _hooks(term: Term) -> list[tuple[str, str] | None]:
    """Labels of which whoever is meant has one; None where nothing is known of it."""
    for row in term.labels or ():
        if row.operator == "In":
            return [(row.key, value) for value in dict.fromkeys(row.values)]
    return [None]
