"""Queues as one tree, whatever somebody wrote into their objects."""

from __future__ import annotations

from gpumax.engines.kubernetes.queues import read_queue
from gpumax.engines.kubernetes.telling import told
from gpumax.engines.kubernetes.trees import planted
from gpumax.engines.kubernetes.unsound import of_unsound_queues
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide
from manifests import NOW_MS, assembled, decided, node, pod, queue


def tree(**parents: str) -> dict[str, str]:
    """What is wrong with queues that have these parents, by name; an empty text for a sound one."""
    reads = {
        name: read_queue(queue(name, parent=parent) if parent else queue(name))
        for name, parent in parents.items()
    }
    found = planted(reads)
    assert all((found[name].queue is None) == bool(found[name].faults) for name in reads)
    return {name: "; ".join(map(str, read.faults)) for name, read in found.items()}


def test_a_sound_tree_stays_as_it_is() -> None:
    """The very same rows."""
    reads = {"a": read_queue(queue("a")), "b": read_queue(queue("b", parent="a"))}
    found = planted(reads)
    assert all(found[name] is read for name, read in reads.items())


def test_what_stands_on_nothing_is_out_and_so_is_all_above_it() -> None:
    """The others stay."""
    found = tree(a="", b="gone", c="b", d="c", e="a")
    assert found["a"] == found["e"] == ""
    assert found["b"] == 'spec.parent: found "gone"; wanted a queue that exists'
    assert found["c"] == 'spec.parent: found "b", in which something is wrong; wanted a queue without faults'
    assert "in which something is wrong" in found["d"]


def test_circles_are_out_with_what_hangs_on_them() -> None:
    """Each member is told the circle."""
    found = tree(a="b", b="c", c="a", d="a", e="")
    assert all("a cycle" in found[name] for name in "abc")
    assert "in which something is wrong" in found["d"]
    assert found["e"] == ""


def test_a_queue_for_fresh_work_that_is_not_there_takes_none() -> None:
    """It is told, and the queue is there all the same."""
    read = read_queue(queue("a", demote=[1, 2], fresh="gone"))
    found = planted({"a": read})["a"]
    assert found.queue is not None
    assert found.queue.fresh is None
    assert [fault.path for fault in found.faults] == ["spec.fresh"]


def test_work_of_a_queue_without_a_place_waits_and_the_others_run() -> None:
    """Nonsense in one object is nobody else's matter."""
    works = [pod(name, labels={"gpumax.dev/queue": name}, gpu=1) for name in ("a", "b")]
    found = decided(node("n1"), queue("a"), queue("b", parent="gone"), *works)
    assert [place.task for place in found.places] == ["ml/a"]
    assert [hold.code for hold in found.holds] == ["QueueNotFound"]


def test_whoever_waits_for_a_faulty_queue_is_told_what_is_wrong_with_it() -> None:
    """Not that there is none: its keeper has to mend it, and the work is as it should be. Where there is none, or its fault costs nothing, nothing changes."""
    works = [pod(name, labels={"gpumax.dev/queue": name}, gpu=9) for name in ("fresh", "b", "nobody")]
    see = assembled(
        node("n1"), queue("fresh", demote=[1, 2], fresh="gone"), queue("b", parent="gone"), *works
    )
    snapshot = see.snapshot(NOW_MS, Policy())
    found = of_unsound_queues(snapshot, decide(snapshot), see.queue_faults)
    codes = {hold.workload: hold.code for hold in found.holds}
    assert codes == {
        "ml/pod/b": "QueueInvalid",
        "ml/pod/fresh": "NoNodeMatches",
        "ml/pod/nobody": "QueueNotFound",
    }
    row = told(snapshot, found, {}, see.workload)["ml/b"]
    assert (row.reason, row.code) == ("QueueInvalid", "QueueInvalid")
    assert row.message == (
        'queue b can\'t be used: spec.parent: found "gone"; wanted a queue that exists; '
        "whoever keeps the queue has to correct it, nothing is wrong with the pod"
    )
    assert of_unsound_queues(snapshot, found, {}) is found
