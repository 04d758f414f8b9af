"""Where the right to use queues is required: what is asked of the cluster, and what follows from its answers."""

from __future__ import annotations

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.settings import NotAllowed, Use
from gpumax.engines.kubernetes.uses import MOST, Allowed
from gpumax.model.snapshot import Policy, Snapshot
from manifests import Document, pod, queue, see, written

QUEUE = "gpumax.dev/queue"
MINE = Use("ml", "default", "a")


def guarded(*documents: Document) -> tuple[Assembly, Allowed]:
    """What is known of the objects, before anybody was asked."""
    allowed = Allowed()
    assembly = Assembly(allowed=allowed)
    see(assembly, *documents)
    return assembly, allowed


def look(assembly: Assembly) -> Snapshot:
    """The snapshot now."""
    return assembly.snapshot(0, Policy())


def test_work_waits_until_the_cluster_says_that_it_may_use_its_queue() -> None:
    """Not known yet is told apart from no; a yes lets it be placed, and each is asked about once."""
    assembly, allowed = guarded(queue("a"), pod("p", labels={QUEUE: "a"}), pod("q", labels={QUEUE: "a"}))
    assert look(assembly).workloads == ()
    assert allowed.wanted(again=False) == [MINE]
    ((fault,), _) = assembly.faults.values()
    assert str(fault) == (
        'metadata["gpumax.dev/queue"]: found "a"; wanted a queue that service account ml/default may use '
        "(not known yet whether it may use this one)"
    )
    assembly.see_use(MINE, may=False)
    assert look(assembly).workloads == ()
    ((fault,), _) = assembly.faults.values()
    assert isinstance(fault, NotAllowed)
    assert fault.wanted == "a queue that service account ml/default may use"
    assembly.see_use(MINE, may=True)
    assert [workload.queue for workload in look(assembly).workloads] == ["a", "a"]
    assert (assembly.faults, allowed.wanted(again=False), allowed.wanted(again=True)) == ({}, [], [MINE])


def test_whoever_has_a_place_keeps_it_when_the_right_goes() -> None:
    """It counts against the queue that it was placed by."""
    assembly, _ = guarded(queue("a"), pod("p", labels={QUEUE: "a"}, node="n1", phase="Running"))
    assembly.see_use(MINE, may=False)
    assert [workload.queue for workload in look(assembly).workloads] == ["a"]


def test_words_of_owners_do_not_count() -> None:
    """Nobody checked them, and they could be changed while pods run."""
    owner = written("apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}")
    owner["metadata"]["labels"] = {QUEUE: "a"}
    assembly, allowed = guarded(queue("a"), queue("default"), owner, pod("p", owner=owner))
    look(assembly)
    assert allowed.wanted(again=False) == [MINE._replace(queue="default")]


def test_nobody_is_asked_about_queues_that_are_not_there() -> None:
    """However many a tenant makes up; when one is made, its askers are asked about."""
    assembly, allowed = guarded(*(pod(f"p{index}", labels={QUEUE: f"a{index}"}) for index in range(50)))
    assert len(look(assembly).workloads) == 50
    assert allowed.wanted(again=True) == []
    see(assembly, queue("a7"))
    assert len(look(assembly).workloads) == 49
    assert allowed.wanted(again=True) == [MINE._replace(queue="a7")]


def test_of_too_many_all_are_forgotten() -> None:
    """Who still asks is new again."""
    allowed = Allowed()
    for index in range(MOST + 1):
        allowed.see(Use("ml", f"account-{index}", "a"), may=True)
    assert allowed.wanted(again=True) == []
    assert allowed.may(MINE) is None
    assert allowed.wanted(again=False) == [MINE]
