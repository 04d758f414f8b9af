"""What queues and gangs are told of themselves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.cache import Cache, Key
from gpumax.engines.kubernetes.kinds import GANGS, QUEUES, Stated
from gpumax.engines.kubernetes.status import Keeper, Shown, keeper
from gpumax.engines.kubernetes.status.keeper import MOST
from gpumax.engines.kubernetes.status.words import gang_status, news, queue_status
from gpumax.engines.kubernetes.tallies import find, tallies, waits
from gpumax.errors import Fault
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import Workload
from gpumax.policy.decide import decide
from manifests import NOW_MS, Document, assembled, node, pod, queue

NAMED = {"gpumax.dev/gang": "g", "gpumax.dev/queue": "a"}
GANG: Document = {
    "apiVersion": "gpumax.dev/v1alpha1", "kind": "Gang", "metadata": {"name": "g", "namespace": "ml"}, "spec": {"min": 2},
}  # fmt: skip


def gang_of(*made: Document) -> Document:
    """The status of the gang g among these objects, with what is decided for them."""
    see = assembled(queue("a"), *made)
    snapshot = see.snapshot(NOW_MS, Policy())
    row = next((row for row in snapshot.workloads if row.name == "ml/gang/g"), None)
    why = next((one for one in waits(snapshot, decide(snapshot)) if one.workload == "ml/gang/g"), None)
    return gang_status(row, why, see.faults_of("ml/gang/g"))


def member(name: str, node: str = "", phase: str = "Pending", **labels: str) -> Document:
    """A pod of the gang."""
    return pod(name, labels={**NAMED, **labels}, gpu=1, node=node, phase=phase)


@pytest.mark.parametrize(
    ("pods", "state", "bound", "running"),
    [
        ([], "Empty", 0, 0),
        ([member("p0"), member("p1")], "Waiting", 0, 0),
        ([member("p0", "n1"), member("p1", "n1")], "Starting", 2, 0),
        ([member("p0", "n1"), member("p1", "n1", "Running")], "Starting", 2, 1),
        ([member("p0", "n1", "Running"), member("p1", "n1", "Running"), member("p2")], "Running", 2, 2),
        ([member("p0", "n1", "Running"), member("p1")], "BelowMinimum", 1, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_gang_says_how_far_it_has_come(pods: list[Document], state: str, bound: int, running: int) -> None:
    """By the pods of its minimum."""
    found = gang_of(node("n1"), GANG, *pods)
    assert (found["state"], found["bound"], found["running"]) == (state, bound, running)
    assert found["conditions"][0]["status"] == ("True" if state == "Running" else "False")


def test_a_gang_that_waits_says_why() -> None:
    """With the code of the hold as the reason, and its sentence."""
    found = gang_of(node("n1", 1), GANG, member("p0"), member("p1"))
    (ready,) = found["conditions"]
    assert ready["reason"] == "GangNoRoom"
    assert found["why"] == ready["message"] != ""


def test_a_gang_with_nonsense_in_it_says_what() -> None:
    """And what would be right."""
    wrong = {**GANG, "spec": {"groups": [{"name": "x", "min": 1, "parent": "x"}]}}
    found = gang_of(node("n1"), wrong, member("p0"), member("p1"))
    assert found["state"] == "Invalid"
    assert "spec.groups" in found["conditions"][0]["message"]


def test_a_queue_says_its_amounts_as_people_write_them() -> None:
    """And how many wait for what, of whom it names the first."""
    works = [pod(f"p{number}", labels={"gpumax.dev/queue": "a"}, gpu=3) for number in range(2)]
    see = assembled(node("n1", 4), queue("a", 4), *works)
    snapshot = see.snapshot(NOW_MS, Policy())
    found = queue_status(tallies(snapshot, decide(snapshot))["a"], ())
    assert found["share"]["gpu"] == "4"
    assert found["allocated"] == {"gpu": "0", "cpu": "0", "memory": "0Mi"}
    assert found["waiting"]["workloads"] == 1
    assert found["waiting"]["gpu"] == "6"
    assert found["why"].startswith("1 NoRoom; ml/pod/p1: ")
    assert found["conditions"][0]["status"] == "True"


def test_a_queue_with_nonsense_in_it_says_what() -> None:
    """It has no share, and work can't go to it."""
    found = queue_status(None, (Fault("spec.parent", None, '"gone"', "a queue that exists"),))
    assert found["share"] is None
    assert found["conditions"] == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Invalid",
            "message": 'spec.parent: found "gone"; wanted a queue that exists',
        }
    ]


def test_a_condition_keeps_its_moment_until_it_changes() -> None:
    """And what is so already is not written again."""
    well, ill = queue_status(None, ()), queue_status(None, (Fault("spec", None, "x", "y"),))
    first = news(well, None, "T1", 1)
    assert first is not None
    assert first["conditions"][0]["lastTransitionTime"] == "T1"
    kept = {key: value for key, value in first.items() if value is not None}
    assert news(well, kept, "T2", 1) is None
    again = news(well, kept, "T2", 2)
    assert again is not None
    assert again["conditions"][0]["lastTransitionTime"] == "T1"
    worse = news(ill, kept, "T3", 2)
    assert worse is not None
    assert worse["conditions"][0]["lastTransitionTime"] == "T3"


class Followed:
    """An informer whose cache a test fills."""

    def __init__(self) -> None:
        self.cache: Cache[Stated] = Cache()
        self.version = 0

    def put(self, name: str, **fields: Any) -> None:
        """An object as it is now."""
        self.version += 1
        meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version), "generation": 1}
        one = msgspec.json.decode(json.dumps({"metadata": meta, **fields}), type=Stated)
        rows = {key: row for key, row in self.cache.objects.items() if key[1] != name}
        self.cache.replace(str(self.version), [*rows.values(), one])


class Kept:
    """Queues, and who keeps their status; what is written comes back as a watch brings it."""

    def __init__(self, *names: str) -> None:
        self.queues, self.gangs = Followed(), Followed()
        for name in names:
            self.queues.put(name)
        self.written: list[str] = []
        informers = {QUEUES: self.queues, GANGS: self.gangs}
        self.keeper = Keeper(informers, lambda: None, self.write)  # type: ignore[arg-type]

    async def write(self, _: object, key: Key, uid: str, status: Document) -> None:
        """It is so now."""
        assert uid == f"uid-{key[1]}"
        self.written.append(key[1])
        self.queues.put(key[1], status={name: value for name, value in status.items() if value is not None})

    def look(self, stamp: object, **faults: tuple[Fault, ...]) -> list[str]:
        """Whose status a look writes."""
        self.written = []
        empty = Snapshot(NOW_MS, (), (), (), Policy())
        asyncio.run(self.keeper.look(Shown(stamp, empty, Decision(), faults, lambda _: ())))
        return self.written


def test_writes_are_bounded_and_everybody_has_their_turn() -> None:
    """However many have news in each look."""
    names = [f"q{number:03}" for number in range(2 * MOST)]
    kept = Kept(*names)
    wrong = {name: (Fault("spec", None, "x", "y"),) for name in names}
    assert kept.look(1) == names[:MOST]
    assert kept.look(2, **wrong) == names[MOST:]
    assert kept.look(3, **wrong) == names[:MOST]
    assert kept.look(4, **wrong) == []


def test_where_nothing_is_new_nothing_is_looked_at() -> None:
    """The same stamp and the same objects."""
    kept = Kept("a")
    assert kept.look(1) == ["a"]
    assert kept.look(1) == []
    kept.keeper._queues = None  # type: ignore[assignment, method-assign]
    assert kept.look(1) == []


def test_only_what_changed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many queues the one whose fault is new, and the one whose status somebody wrote over; one that is gone is forgotten."""
    kept = Kept(*(f"q{number}" for number in range(20)))
    kept.look(1)
    kept.look(2)
    made: list[object] = []

    def count(*made_of: Any) -> Document:
        made.append(made_of)
        return queue_status(*made_of)

    monkeypatch.setattr(keeper, "queue_status", count)
    assert kept.look(3) == []
    assert made == []
    wrong = (Fault("spec", None, "x", "y"),)
    assert kept.look(4, q7=wrong) == ["q7"]
    assert len(made) == 1
    kept.queues.put("q3", status={"why": "because"})
    assert kept.look(5, q7=wrong) == ["q3"]
    kept.queues.cache.replace("99", [])
    assert kept.look(6) == []
    kept.queues.version = 99
    kept.queues.put("q3")
    assert kept.look(7) == ["q3"]


@given(st.sets(st.integers(0, 200), max_size=40), st.sets(st.integers(0, 200), max_size=200))
def test_workloads_are_found_by_name_however_many_are_looked_for(wanted: set[int], there: set[int]) -> None:
    """Few of many are looked up, and many are gone through: both find the same."""
    rows = tuple(Workload(name, "a", NOW_MS) for name in sorted(f"w{number:03}" for number in there))
    names = [f"w{number:03}" for number in sorted(wanted)]
    assert find(rows, names) == {row.name: row for row in rows if row.name in names}
    one = [f"w{min(wanted | {0}):03}"]
    assert find(rows, one) == {row.name: row for row in rows if row.name in one}


def test_its_own_status_changes_nothing_of_a_queue() -> None:
    """What we write ourselves stirs no cycle."""
    see = Assembly()
    see.see_queue("a", queue("a"))
    before = see.snapshot(NOW_MS, Policy()).queues
    see.see_queue("a", queue("a"))
    assert see.snapshot(NOW_MS, Policy()).queues is before
