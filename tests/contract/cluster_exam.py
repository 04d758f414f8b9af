"""What everything must do that is steered: the port `Cluster`. It takes the exam by a subclass that says how its objects come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Task
from gpumax.policy.decide import decide
from gpumax.ports.cluster import Cluster


class Subject(Protocol):
    """A cluster, and the hands of those who use it."""

    @property
    def cluster(self) -> Cluster:
        """The cluster; all that was made is known to it."""
        ...

    def node(self, name: str, gpus: int) -> None:
        """A node with so many GPUs."""
        ...

    def queue(self, name: str, gpus: int) -> None:
        """A queue with such a quota."""
        ...

    def work(self, name: str, queue: str) -> str:
        """A task that asks for one GPU. Returns its name."""
        ...

    def take(self, task: str, node: str) -> None:
        """Somebody else gives the task a place, and the cluster doesn't know it yet."""
        ...

    def snapshot(self) -> Snapshot:
        """What the cluster shows now."""
        ...

    def until(self, true: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """Wait until the cluster shows something."""
        ...


class ClusterExam:
    """The exam. Subclasses give a fixture `subject`."""

    def test_shows_what_is_there(self, subject: Subject) -> None:
        """Sorted by name; whatever has not changed is the same object the next time."""
        for name in ("n2", "n1"):
            subject.node(name, 2)
        subject.queue("a", 4)
        tasks = [subject.work(name, "a") for name in ("w2", "w1")]
        first = subject.until(lambda seen: len(_tasks(seen)) == 2 and len(seen.nodes) == 2, "all is there")
        assert first.nodes == tuple(sorted(first.nodes, key=lambda node: node.name))
        assert [task.name for task in _tasks(first)] == sorted(tasks)
        assert {task.state for task in _tasks(first)} == {"pending"}
        second = subject.snapshot()
        for before, after in ((first.nodes, second.nodes), (first.workloads, second.workloads)):
            assert all(old is new for old, new in zip(before, after, strict=True))

    def test_what_was_carried_out_counts_at_once(self, subject: Subject) -> None:
        """Bound where it was placed, with its devices, before and after the cluster itself says so; asked again, nothing is decided."""
        task = self._one(subject)
        decision = self._decided(subject)
        (place,) = decision.places
        at_once = _task(subject.snapshot(), task)
        assert at_once.state in ("bound", "running")
        assert (at_once.node, at_once.devices) == (place.node, place.devices)
        assert decide(subject.snapshot()).places == ()
        later = subject.until(lambda seen: _task(seen, task).state in ("bound", "running"), "it runs")
        assert (_task(later, task).node, _task(later, task).devices) == (place.node, place.devices)

    def test_a_decision_may_be_carried_out_twice(self, subject: Subject) -> None:
        """As if it had been once."""
        task = self._one(subject)
        snapshot = subject.snapshot()
        decision = decide(snapshot)
        for _ in range(2):
            subject.cluster.carry_out(snapshot, decision)
        seen = subject.until(lambda seen: _task(seen, task).state in ("bound", "running"), "it is bound")
        assert _task(seen, task).node == decision.places[0].node

    def test_who_is_evicted_leaves_before_its_room_is_given_out(self, subject: Subject) -> None:
        """A place that waits for somebody is not carried out; who goes counts as going at once."""
        subject.node("n1", 1)
        subject.queue("a", 1)
        subject.queue("b", 0)
        kept = subject.work("kept", "b")
        subject.until(lambda seen: bool(seen.nodes) and bool(_tasks(seen)), "it is there")
        self._decided(subject)
        subject.until(lambda seen: _task(seen, kept).state in ("bound", "running"), "b has the GPU")
        asker = subject.work("asker", "a")
        subject.until(lambda seen: len(_tasks(seen)) == 2, "a asks")
        decision = self._decided(subject)
        assert [row.task for row in decision.evictions] == [kept]
        assert [place.after for place in decision.places] == [(kept,)]
        at_once = subject.snapshot()
        assert _task(at_once, asker).state == "pending"
        assert kept not in {task.name for task in _tasks(at_once) if task.state in ("bound", "running")}

    def test_who_has_to_wait_waits(self, subject: Subject) -> None:
        """A hold changes nothing but what is said."""
        subject.node("n1", 1)
        subject.queue("a", 4)
        names = [subject.work(name, "a") for name in ("w1", "w2")]
        subject.until(lambda seen: bool(seen.nodes) and len(_tasks(seen)) == 2, "both are there")
        decision = self._decided(subject)
        assert len(decision.holds) == 1
        states = sorted(_task(subject.snapshot(), name).state for name in names)
        assert states[0] in ("bound", "running")
        assert states[1] == "pending"

    def test_what_somebody_else_did_counts(self, subject: Subject) -> None:
        """Our bind came too late: the task is where it was put, and what we gave it is free again."""
        subject.node("n1", 1)
        subject.node("n2", 1)
        subject.queue("a", 4)
        task = subject.work("w1", "a")
        snapshot = subject.until(lambda seen: len(seen.nodes) == 2 and bool(_tasks(seen)), "it is there")
        decision = decide(snapshot)
        (place,) = decision.places
        (other,) = [node.name for node in snapshot.nodes if node.name != place.node]
        subject.take(task, other)
        subject.cluster.carry_out(snapshot, decision)
        seen = subject.until(lambda seen: _task(seen, task).node == other, "it is where it was put")
        assert _task(seen, task).state in ("bound", "running")
        subject.work("w2", "a")
        subject.until(lambda seen: len(_tasks(seen)) == 2, "another comes")
        assert [row.node for row in decide(subject.snapshot()).places] == [place.node]

    def test_a_user_is_told_what_to_know(self, subject: Subject) -> None:
        """In sentences, and it has a name."""
        assert subject.cluster.name
        assert all(subject.cluster.notes())
        assert subject.cluster.ours

    def _one(self, subject: Subject) -> str:
        """A cluster of one node and one task that fits."""
        subject.node("n1", 2)
        subject.queue("a", 4)
        task = subject.work("w1", "a")
        subject.until(lambda seen: bool(seen.nodes) and bool(_tasks(seen)), "all is there")
        return task

    def _decided(self, subject: Subject) -> Decision:
        """What is decided now, and carried out."""
        snapshot = subject.snapshot()
        decision = decide(snapshot)
        subject.cluster.carry_out(snapshot, decision)
        return decision


def _tasks(snapshot: Snapshot) -> list[Task]:
    return [task for workload in snapshot.workloads for task in workload.tasks]


def _task(snapshot: Snapshot, name: str) -> Task:
    return next(task for task in _tasks(snapshot) if task.name == name)
