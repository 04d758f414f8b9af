"""Parts of a GPU: what is added to pods, what is written down of a place, and who can give it."""

from __future__ import annotations

import json
from threading import RLock
from typing import Any

import pytest

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.admission.fractions import patch
from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.feed import Feed
from gpumax.engines.kubernetes.grants import Amount, Grant, read_grant, written
from gpumax.engines.kubernetes.kinds import NODES, SLICES
from gpumax.engines.kubernetes.offers import annotation_of, slice_name
from gpumax.engines.kubernetes.telling import told
from gpumax.model.node import Device
from gpumax.model.snapshot import Policy
from gpumax.model.workload import DeviceShare
from gpumax.policy.decide import decide
from manifests import NOW_MS, Document, assembled, node, offer, pod, queue, see

HALF = {"gpu-fraction": "0.5"}
GIB = 1024
TWO = (Device(0, "H100", 80 * GIB), Device(1, "H100", 80 * GIB))


def patched(document: Document, *, claims: bool) -> Document:
    """The pod with all steps of its patch done, each as RFC 6902 has it."""
    for step in patch(document, "chance", claims=claims):
        assert step["op"] == "add"
        *path, last = (word.replace("~1", "/") for word in step["path"].split("/")[1:])
        place: Any = document
        for word in path:
            place = place[int(word)] if isinstance(place, list) else place[word]
        if isinstance(place, list):
            assert last == "-"
            place.append(step["value"])
        else:
            place[last] = step["value"]
    return document


def claimed(name: str, annotations: dict[str, str], **fields: Any) -> Document:
    """A pod as the webhook leaves it, with a claim of its own."""
    made = patched(pod(name, annotations=annotations, **fields), claims=True)
    made["spec"]["resourceClaims"][0]["resourceClaimName"] = f"gpumax-{name}"
    return made


@pytest.mark.parametrize("annotations", [HALF, {"gpumax.dev/gpu-memory": "20Gi"}])
def test_a_pod_that_asks_for_a_part_gets_a_claim(annotations: dict[str, str]) -> None:
    """By a name of its own; its container uses it."""
    made = patched(pod("a", annotations=annotations), claims=True)
    assert made["spec"]["resourceClaims"] == [{"name": "gpumax", "resourceClaimName": "gpumax-chance"}]
    assert made["spec"]["containers"][0]["resources"] == {"claims": [{"name": "gpumax"}]}
    assert patch(made, "again", claims=True) == []


def test_the_container_that_is_named_gets_it_beside_what_it_has() -> None:
    """Other claims and resources stay."""
    containers = [
        {"name": "a"},
        {"name": "b", "resources": {"limits": {"cpu": "1"}, "claims": [{"name": "nic"}]}},
    ]
    wish = {"gpumax.dev/gpu-fraction": "0.5", "gpu-fraction-container-name": "b"}
    made = patched(
        pod("p", annotations=wish, containers=containers, resourceClaims=[{"name": "nic"}]), claims=True
    )
    assert "resources" not in made["spec"]["containers"][0]
    assert made["spec"]["containers"][1]["resources"]["claims"] == [{"name": "nic"}, {"name": "gpumax"}]
    assert [entry["name"] for entry in made["spec"]["resourceClaims"]] == ["nic", "gpumax"]


def test_without_claims_a_pod_asks_by_resource() -> None:
    """Once: whoever asks for it already is left alone."""
    made = patched(pod("a", annotations=HALF), claims=False)
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {keys.PART: "1"},
        "requests": {keys.PART: "1"},
    }
    assert patch(made, "again", claims=False) == []


@pytest.mark.parametrize(
    "document",
    [
        pod("whole", gpu=1),
        pod("lost", annotations=HALF | {"gpu-fraction-container-name": "nobody"}),
        {"metadata": {"annotations": HALF}},
        {"metadata": {"annotations": HALF}, "spec": {"containers": []}},
        {"metadata": {"annotations": ["gpu-fraction"]}, "spec": []},
    ],
)
def test_other_pods_are_left_alone(document: Document) -> None:
    """Those that ask for no part, and those in which there is nowhere to put it."""
    assert patch(document, "chance", claims=True) == patch(document, "chance", claims=False) == []


def test_what_was_given_is_read_as_it_was_written() -> None:
    """One line of JSON, the same for the same."""
    grant = Grant({1: Amount(500, 40 * GIB), 0: Amount(250)}, Amount(1000))
    assert (
        written(grant)
        == '{"devices":{"0":{"milli":250},"1":{"milli":500,"memoryMib":40960}},"limit":{"milli":1000}}'
    )
    assert read_grant(written(grant)) == grant
    assert grant.shares == (DeviceShare(0, 250), DeviceShare(1, 500))


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "{}", '{"devices":{"-1":{}}}', '{"devices":{"0":{"milli":1001}}}', '{"devices":{"0":{"milli":-1}}}',
        '{"devices":{"9999":{}}}', '{"devices":{"gpu-0":{}}}', '{"devices":[0]}', "x" * 200_000,
    ],
)  # fmt: skip
def test_a_record_that_is_none_says_nothing(text: str) -> None:
    """Whatever somebody wrote there."""
    assert read_grant(text) is None


def bound(assembly: Assembly, documents: dict[str, Document]) -> dict[str, Document]:
    """Decide, and show the pods with what a bind writes to them."""
    done = {}
    for place in decide(assembly.snapshot(NOW_MS, Policy())).places:
        made = documents[place.task]
        given = assembly.given(place.task, place.node, place.devices)
        made["spec"]["nodeName"] = place.node
        if given is not None:
            made["metadata"]["annotations"][keys.GIVEN] = written(given.grant)
        done[place.task] = made
    see(assembly, *done.values())
    return done


def test_a_new_scheduler_finds_parts_where_they_are() -> None:
    """Whatever order it sees pods in, and though it would have placed them otherwise: here the first two of four have gone."""
    pods = {f"ml/{name}": pod(name, annotations=HALF) for name in "abcd"}
    first = assembled(node("n1", 2), queue("default"), *pods.values())
    done = bound(first, pods)
    assert len(done) == 4
    left = {"ml/b": done["ml/b"], "ml/c": done["ml/c"]}
    see_gone(first, "ml/a", "ml/d")
    for order in (list(left.values()), list(left.values())[::-1]):
        again = assembled(node("n1", 2), queue("default"), *order)
        assert held(again) == held(first)
    assert {shares[0].index for shares in held(first).values()} == {0, 1}


def see_gone(assembly: Assembly, *tasks: str) -> None:
    """Pods that were deleted."""
    for task in tasks:
        assembly.see_pod(task, None)


def held(assembly: Assembly) -> dict[str, tuple[DeviceShare, ...]]:
    """Devices of all tasks."""
    rows = assembly.snapshot(NOW_MS, Policy()).workloads
    return {task.name: task.devices for row in rows for task in row.tasks if task.node}


def test_whole_devices_are_those_that_no_part_is_on() -> None:
    """After a restart, too, when nobody remembers which ones they were."""
    whole = pod("whole", gpu=1, node="n1", phase="Running")
    part = pod("part", annotations=HALF | {keys.GIVEN: '{"devices":{"0":{"milli":500}}}'}, node="n1")
    found = held(assembled(node("n1", 2), queue("default"), whole, part))
    assert found == {"ml/part": (DeviceShare(0, 500),), "ml/whole": (DeviceShare(1, 1000),)}


def test_a_record_that_changes_while_a_pod_runs_moves_nothing() -> None:
    """What is remembered counts more."""
    part = pod("part", annotations=HALF | {keys.GIVEN: '{"devices":{"1":{"milli":500}}}'}, node="n1")
    assembly = assembled(node("n1", 2), queue("default"), part)
    assert held(assembly) == {"ml/part": (DeviceShare(1, 500),)}
    see(assembly, pod("part", annotations=HALF | {keys.GIVEN: '{"devices":{"0":{"milli":1}}}'}, node="n1"))
    assert held(assembly) == {"ml/part": (DeviceShare(1, 500),)}


def test_what_another_replica_wrote_down_counts_more_than_what_we_assumed() -> None:
    """Both bound the same pod to the same node; the other one was faster."""
    assembly = assembled(node("n1", 2), queue("default"), pod("a", annotations=HALF))
    assembly.assume("ml/a", "n1", (DeviceShare(0, 500),))
    see(assembly, pod("a", annotations=HALF | {keys.GIVEN: '{"devices":{"1":{"milli":500}}}'}, node="n1"))
    assembly.doubt("ml/a")
    assert held(assembly) == {"ml/a": (DeviceShare(1, 500),)}


def test_a_record_on_a_pod_without_a_place_says_nothing() -> None:
    """Anybody may write one there."""
    wish = HALF | {keys.GIVEN: '{"devices":{"1":{"milli":1}}}'}
    assembly = assembled(node("n1", 2), queue("default"), pod("a", annotations=wish))
    (place,) = decide(assembly.snapshot(NOW_MS, Policy())).places
    assert place.devices == (DeviceShare(0, 500),)


def test_the_devices_of_a_node_with_an_agent_are_those_that_it_offers() -> None:
    """With their memory, model and health; whole devices of a vendor aren't given out there, whoever offers them, too, and that is told."""
    offered = (Device(0, "H100", 80 * GIB), Device(1, "H100", 80 * GIB, healthy=False))
    assembly = assembled(node("n1", 8), queue("default"), offer("n1", *offered), pod("whole", gpu=1))
    found = assembly.snapshot(NOW_MS, Policy())
    assert found.nodes[0].devices == offered
    assert not decide(found).places
    assert any("given out by gpumax's agent and by nvidia.com/gpu" in line for line in assembly.oddities)
    assembly.see_slice("gpumax.dev-n1", None)
    assert len(assembly.snapshot(NOW_MS, Policy()).nodes[0].devices) == 8
    assert assembly.oddities == ()


@pytest.mark.parametrize("kind", [SLICES, NODES])
def test_what_agents_write_for_people_wakes_nobody(kind: Kind[Any]) -> None:
    """Every few seconds, on each node: a decision reads nothing of it, and isn't made anew for it."""
    woken: list[bool] = []
    handle = Feed(Assembly(), RLock(), lambda: woken.append(True)).handler(kind)

    def written(version: str, **more: str) -> Any:
        body = offer("n1", *TWO) if kind is SLICES else node("n1")
        body["metadata"] |= {
            "resourceVersion": version,
            "labels": more,
            "annotations": {keys.RESIDENTS: version},
        }
        return kind.decoders.one(json.dumps(body).encode())

    first, second, third = written("1"), written("2"), written("3", team="x")
    for before, after in ((None, first), (first, second), (second, third), (third, None)):
        handle(Change(("", "n1"), before, after))
    assert len(woken) == 3


def test_a_claim_goes_to_a_node_with_an_agent() -> None:
    """And says how much of the memory that part is, and how it is shared."""
    pods = {
        "ml/a": claimed("a", HALF),
        "ml/b": claimed("b", {"gpu-memory": "20Gi", "gpumax.dev/gpu-memory-limit": "40Gi"}),
        "ml/c": claimed(
            "c", {"gpu-fraction": "0.25", "gpumax.dev/gpu-swap": "true", "gpumax.dev/gpu-mode": "strict"}
        ),
    }
    assembly = assembled(node("n0"), node("n1", 0), offer("n1", *TWO), queue("default"), *pods.values())
    placed = {place.task: place for place in decide(assembly.snapshot(NOW_MS, Policy())).places}
    assert {place.node for place in placed.values()} == {"n1"}
    given = {task: assembly.given(task, place.node, place.devices) for task, place in placed.items()}
    assert [(row.claim, row.grant) for row in given.values() if row] == [
        ("gpumax-a", Grant({0: Amount(500, 40 * GIB)})),
        ("gpumax-b", Grant({0: Amount(250, 20 * GIB)}, Amount(0, 40 * GIB))),
        ("gpumax-c", Grant({0: Amount(250, 20 * GIB)}, swap=True, strict=True)),
    ]


def test_a_claim_where_no_agent_is_waits_and_is_told_so() -> None:
    """By its condition."""
    assembly = assembled(node("n0"), queue("default"), claimed("a", HALF))
    found = assembly.snapshot(NOW_MS, Policy())
    row = told(found, decide(found), assembly.faults, assembly.workload)["ml/a"]
    assert row.reason == "Unschedulable"
    assert "parts of a GPU are given out on nodes where gpumax's agent runs" in row.message


def plugged(name: str) -> Document:
    """A node whose agent is a device plugin."""
    there = node(name, 0)
    there["metadata"]["annotations"] = {keys.OFFERED: annotation_of(TWO)}
    there["status"]["capacity"] = there["status"]["allocatable"] | {keys.PART: "256"}
    there["status"]["allocatable"] = dict(there["status"]["capacity"])
    return there


def test_a_pod_that_asks_in_another_way_than_agents_give_is_told_so() -> None:
    """By a claim where all are device plugins, by a ticket where all take claims. Where one of the other kind is, it waits for that."""
    by_claim, by_ticket = claimed("a", HALF), patched(pod("b", annotations=HALF), claims=False)

    def why(*there: Document) -> dict[str, str]:
        assembly = assembled(*there, queue("default"), by_claim, by_ticket)
        found = assembly.snapshot(NOW_MS, Policy())
        rows = told(found, decide(found), assembly.faults, assembly.workload)
        return {task: row.message for task, row in rows.items()}

    assert [*why(plugged("n1"))] == ["ml/a"]
    assert (
        "agents here are device plugins: have the webhook know (`gpumax webhook --plugin`"
        in why(plugged("n1"))["ml/a"]
    )
    assert "agents here take claims" in why(node("n1", 0), offer("n1", *TWO))["ml/b"]
    assert why(plugged("n1"), node("n2", 0), offer("n2", *TWO)) == {}


def test_whole_devices_of_a_node_with_an_agent_are_asked_for_as_parts_where_its_kubelet_is_older() -> None:
    """Whoever asks by the vendor's resource is told so."""
    whole = {"gpumax.dev/gpu-fraction": "1", "gpumax.dev/gpu-devices": "2"}
    pods = (claimed("a", whole), pod("b", gpu=1))
    assembly = assembled(node("n1", 0), offer("n1", *TWO), queue("default"), *pods)
    found = assembly.snapshot(NOW_MS, Policy())
    decision = decide(found)
    (place,) = decision.places
    given = assembly.given(place.task, place.node, place.devices)
    assert given is not None
    assert given.grant == Grant({0: Amount(1000, 80 * GIB), 1: Amount(1000, 80 * GIB)})
    row = told(found, decision, assembly.faults, assembly.workload)["ml/b"]
    assert 'whole GPUs are asked for by gpumax.dev/gpu-fraction: "1"' in row.message


def test_whole_devices_come_from_the_agent_where_the_kubelet_is_new_enough() -> None:
    """By a claim for the resource that the pod asks for, beside parts of others. Containers that stay get their own, those before them use these."""
    there = node("n1", 0)
    there["status"]["nodeInfo"] = {"kubeletVersion": "v1.36.1"}
    three = tuple(Device(index, "H100", 80 * GIB) for index in range(4))
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    containers = [
        {"name": "a", "resources": limits},
        {"name": "b"},
        {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}},
    ]
    whole = pod("whole", containers=containers, initContainers=[{"name": "i", "resources": limits}])
    assembly = assembled(there, offer("n1", *three), queue("default"), whole, claimed("half", HALF))
    placed = {place.task: place for place in decide(assembly.snapshot(NOW_MS, Policy())).places}
    assert set(placed) == {"ml/whole", "ml/half"}
    place = placed["ml/whole"]
    given = assembly.given(place.task, place.node, place.devices)
    assert given is not None
    assert given.claim == "gpumax-uid-ml-whole"
    first, *others = sorted(given.grant.devices)
    assert given.requests == {"gpu-0": (first,), "gpu-1": tuple(others)}
    assert [(row["containerName"], row["requestName"]) for row in given.mappings] == [
        ("i", "gpu-0"), ("i", "gpu-1"), ("a", "gpu-0"), ("c", "gpu-1"),
    ]  # fmt: skip
    assert placed["ml/half"].devices[0].index not in given.grant.devices


def test_a_device_plugin_that_was_removed_leaves_its_node_to_others() -> None:
    """While it is there, its devices stand in the node's annotation; when it is gone the annotation is left, and the kubelet forgets its resource."""
    there = plugged("n1")
    asks = patched(pod("a", annotations=HALF), claims=False)
    assembly = assembled(there, queue("default"), asks)
    assert [place.node for place in decide(assembly.snapshot(NOW_MS, Policy())).places] == ["n1"]
    left = node("n1", 8)
    left["metadata"]["annotations"] = {keys.OFFERED: annotation_of(TWO)}
    see(assembly, left, pod("whole", gpu=8))
    assert [place.task for place in decide(assembly.snapshot(NOW_MS, Policy())).places] == ["ml/whole"]


def test_slices_stay_with_the_vendor_where_an_agent_is() -> None:
    """By their resource names, as everywhere."""
    cut = node("n1", 0)
    cut["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = "7"
    containers = [{"name": "main", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "2"}}}]
    assembly = assembled(cut, offer("n1", *TWO), queue("default"), pod("a", containers=containers))
    (place,) = decide(assembly.snapshot(NOW_MS, Policy())).places
    assert place.devices == (DeviceShare(2, 0, {"1g.10gb": 2}),)
    assert assembly.given(place.task, place.node, place.devices) is None


def test_a_part_without_a_claim_waits_where_there_are_agents() -> None:
    """Nobody could give it to the container. Without any agent it is placed and counted, as ever."""
    assembly = assembled(node("n0"), queue("default"), pod("a", annotations=HALF))
    assert decide(assembly.snapshot(NOW_MS, Policy())).places
    see(assembly, offer("n1", *TWO))
    assert not decide(assembly.snapshot(NOW_MS, Policy())).places
    (fault,) = assembly.faults["ml/a"]
    assert "the claim that `gpumax webhook` adds" in str(fault)
    assembly.see_slice("gpumax.dev-n1", None)
    assert decide(assembly.snapshot(NOW_MS, Policy())).places


@pytest.mark.parametrize(
    ("annotations", "claims"),
    [
        ({}, [{"name": "nic", "resourceClaimTemplateName": "nic"}]),
        (HALF, [{"name": "gpumax", "resourceClaimTemplateName": "mine"}]),
        ({}, [{"name": "gpumax", "resourceClaimName": "gpumax-x"}]),
    ],
)
def test_claims_that_we_do_not_allocate_keep_a_pod(
    annotations: dict[str, str], claims: list[Document]
) -> None:
    """Bound without them it could never start."""
    assembly = assembled(
        node("n1"), queue("default"), pod("a", annotations=annotations, resourceClaims=claims)
    )
    assert not decide(assembly.snapshot(NOW_MS, Policy())).places
    assert "claims of its own: gpumax allocates none of those" in str(assembly.faults["ml/a"][0])


def test_a_node_of_any_name_can_publish_its_devices() -> None:
    """Names of nodes may be as long as those of slices, which say more; two nodes never share a slice."""
    names = ["n", "n" * 253, "n" * 252 + "m"]
    slices = {slice_name(name) for name in names}
    assert len(slices) == 3
    assert max(map(len, slices)) <= 253


def test_what_agents_publish_is_bounded() -> None:
    """A device without an index, with one that can't be, or with an amount that is none, is no reason to fail."""
    made = offer("n1", *TWO)
    made["spec"]["devices"][0]["attributes"]["index"] = {"int": 4096}
    made["spec"]["devices"][1]["capacity"]["memory"]["value"] = "much"
    made["spec"]["devices"].append({"name": "nothing"})
    assembly = assembled(node("n1", 0), made)
    assert assembly.snapshot(NOW_MS, Policy()).nodes[0].devices == (Device(1, "H100", 0),)
