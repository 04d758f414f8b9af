"""What a gang's pods say together: queue, priority, topology; and whose fault it is where they don't agree."""

from __future__ import annotations

from typing import Any

import pytest

from gpumax.model.snapshot import Policy
from gpumax.model.workload import Workload
from manifests import Document, assembled, decided, gangs, node, owned, pod, queue, several, snapshot, written

QUEUE = "gpumax.dev/queue"
RACKS = written(
    "apiVersion: kai.scheduler/v1alpha1\nkind: Topology\nmetadata: {name: dc}\nspec: {levels: [{nodeLabel: zone}, {nodeLabel: rack}]}"
)


def one(*documents: Document) -> Workload:
    """The only workload."""
    (found,) = snapshot(*documents).workloads
    return found


def faults(*documents: Document) -> dict[str, list[str]]:
    """What is wrong, by task."""
    return {name: [str(fault) for fault in own] for name, own in assembled(*documents).faults.items()}


def job(parallelism: int = 2, labels: dict[str, str] | None = None) -> Document:
    """An indexed job, a gang."""
    document = written("apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}")
    document["metadata"]["labels"] = labels or {}
    spec = {"completionMode": "Indexed", "completions": parallelism, "parallelism": parallelism}
    return {**document, "spec": spec}


@pytest.mark.parametrize("key", ["gpumax.dev/queue", "kai.scheduler/queue", "runai/queue"])
def test_the_queue_is_the_pods_or_its_owners(key: str) -> None:
    """The pod's own word first, then the nearest owner's."""
    assert one(pod("p", labels={key: "a"})).queue == "a"
    owner = job(labels={key: "b"})
    assert one(owner, *several(2, "p", owner=owner)).queue == "b"
    assert one(owner, *several(2, "p", owner=owner, labels={key: "a"})).queue == "a"


def test_work_that_names_no_queue_gets_its_namespaces() -> None:
    """Which administrators set; else `default`."""
    assembly = assembled(pod("p"))
    assert assembly.snapshot(0, Policy()).workloads[0].queue == "default"
    assembly.see_space("ml", "research")
    assert assembly.snapshot(0, Policy()).workloads[0].queue == "research"


@pytest.mark.parametrize(
    ("fields", "priority", "preemptible"),
    [
        ({}, 50, True),
        ({"priority": 7, "priorityClassName": "mine"}, 7, True),
        ({"labels": {"priorityClassName": "inference"}}, 125, False),
        ({"labels": {"gpumax.dev/priority": "build"}}, 100, False),
        ({"labels": {"priorityClassName": "build", "kai.scheduler/preemptibility": "preemptible"}}, 100, True),
        ({"labels": {"gpumax.dev/preemptible": "false"}}, 50, False),
        ({"labels": {"kai.scheduler/preemptibility": "semi-preemptible"}}, 50, "semi"),
    ],
)  # fmt: skip
def test_priority_and_whether_it_may_be_evicted(
    fields: dict[str, Any], priority: int, preemptible: object
) -> None:
    """By the pod's class, by a label that names one, or as is usual for the kind."""
    found = one(pod("p", **fields))
    assert (found.priority, found.preemptible) == (priority, preemptible)


def test_a_deployment_is_inference_unless_it_says_otherwise() -> None:
    """What serves is not evicted."""
    owner = written("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}")
    between = owned(written("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1}"), owner)
    assert one(owner, between, pod("web-1-a", owner=between)).priority == 125


def test_topology_is_asked_for_by_annotation() -> None:
    """On the owner or the pods, by the peer's names or ours; levels are labels of nodes."""
    owner = job()
    owner["metadata"]["annotations"] = {
        "kai.scheduler/topology": "dc",
        "kai.scheduler/topology-required-placement": "zone",
        "gpumax.dev/topology-preferred": "rack",
        "kai.scheduler/segment-size": "2",
        "kai.scheduler/segment-topology-required-placement": "rack",
    }
    wish = one(RACKS, owner, *several(2, "p", owner=owner)).topology
    assert wish is not None
    assert (wish.name, wish.required, wish.preferred) == ("dc", "zone", "rack")
    assert wish.segments is not None
    assert (wish.segments.size, wish.segments.required) == (2, "rack")


@pytest.mark.parametrize(
    ("annotations", "path"),
    [
        ({"kai.scheduler/topology": "nope"}, "metadata[\"kai.scheduler/topology\"]"),
        ({"gpumax.dev/topology-required": "row"}, "metadata[\"gpumax.dev/topology-required\"]"),
        ({"gpumax.dev/max-duration": "soon"}, "metadata[\"gpumax.dev/max-duration\"]"),
        ({"gpumax.dev/preemptible": "maybe"}, "metadata[\"gpumax.dev/preemptible\"]"),
        ({"gpumax.dev/queue": "ü" * 100_000}, "metadata[\"gpumax.dev/queue\"]"),
        ({"gpumax.dev/priority": "urgent"}, "metadata[\"gpumax.dev/priority\"]"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_told_at_its_place(annotations: dict[str, str], path: str) -> None:
    """In few words, whatever its size; and the pod is not placed."""
    document = pod("p", annotations=annotations, gpu=1)
    told = faults(RACKS, document)["ml/p"]
    assert len(told) == 1
    assert told[0].startswith(f"{path}: found ")
    assert len(told[0]) < 500
    assert decided(RACKS, node("n1"), queue("default"), document).places == ()


def test_who_says_another_queue_or_priority_than_the_rest_has_a_fault() -> None:
    """And only that one: the others are told by the hold that their gang is incomplete."""
    owner = job(3)
    pods = [
        pod("p-0", owner=owner, labels={QUEUE: "a"}),
        pod("p-1", owner=owner, labels={QUEUE: "b"}),
        pod("p-2", owner=owner, labels={QUEUE: "a"}, priority=7, priorityClassName="low"),
    ]
    told = faults(owner, *pods)
    assert told.keys() == {"ml/p-1", "ml/p-2"}
    assert told["ml/p-1"][0].endswith('found "b"; wanted a, as ml/p-0 of the same gang has it')
    assert "50, as ml/p-0" in told["ml/p-2"][0]
    found = decided(node("n1"), queue("a"), owner, *pods)
    assert [hold.code for hold in found.holds] == ["GangIncomplete"]


@pytest.mark.parametrize(
    ("least", "told"), [("3", 'found 3; wanted at most 2, the parallelism of ml/job/train'), ("0", "1 to 10,000"), ("x", "1 to 10,000")]
)  # fmt: skip
def test_a_minimum_above_the_size_is_told_to_every_pod(least: str, told: str) -> None:
    """None of them starts: what the gang is can't be known."""
    owner = job()
    owner["metadata"]["annotations"] = {"gpumax.dev/min": least}
    pods = several(2, "p", owner=owner)
    found = faults(owner, *pods)
    assert found.keys() == {"ml/p-0", "ml/p-1"}
    assert all(told in line for own in found.values() for line in own)
    assert snapshot(owner, *pods).workloads == ()


def test_a_gang_by_label_needs_a_minimum() -> None:
    """Said with what to write."""
    (line,) = faults(pod("p", labels={"gpumax.dev/gang": "g"}))["ml/p"]
    assert "wanted the annotation gpumax.dev/min" in line


def test_a_pod_in_a_group_that_the_gang_lacks_is_told_its_groups() -> None:
    """The others are as they were."""
    gang = written(
        "apiVersion: gpumax.dev/v1alpha1\nkind: Gang\nmetadata: {name: g}\nspec: {groups: [{name: a, min: 1}, {name: b, min: 1}]}"
    )
    labels = {"gpumax.dev/gang": "g"}
    pods = [
        pod("x", labels={**labels, "gpumax.dev/group": "c"}),
        pod("y", labels=labels),
        pod("z", labels={**labels, "gpumax.dev/group": "a"}),
    ]
    told = faults(gang, *pods)
    assert told.keys() == {"ml/x", "ml/y"}
    assert all("wanted a group of the gang: a, b" in own[0] for own in told.values())
    assert gangs(snapshot(gang, *pods)) == {"ml/gang/g": {"a": (1, 1), "b": (1, 0)}}


def test_work_that_runs_is_counted_whatever_is_wrong_with_it() -> None:
    """Its room is taken; only what waits is left out."""
    running = pod("p", annotations={"gpu-fraction": "7"}, labels={QUEUE: "a"}, node="n1", phase="Running")
    found = one(node("n1"), running)
    assert [task.state for task in found.tasks] == ["running"]


def test_two_teams_share_a_cluster() -> None:
    """b took more than its quota while a was away; a's gang takes it back, and what b is due stays."""
    owner = job(4)
    pods = several(4, "p", owner=owner, gpu=1, labels={QUEUE: "a"})
    theirs = several(8, "q", gpu=1, node="n1", phase="Running", labels={QUEUE: "b"})
    found = decided(node("n1"), queue("a", 4), queue("b", 4), owner, *pods, *theirs)
    assert len(found.evictions) == 4
    assert {row.cause for row in found.evictions} == {"reclaim"}
    assert {place.task for place in found.places} == {f"ml/p-{number}" for number in range(4)}
