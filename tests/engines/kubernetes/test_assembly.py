"""The snapshot of a cluster that changes object by object."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import HOLDING, DeviceShare
from gpumax.policy.decide import decide
from manifests import NOW_MS, Document, assembled, node, offer, pod, queue, see, several, written

POLICY = Policy()


def test_what_others_hold_is_not_there_for_us() -> None:
    """Cores, memory, room for pods, and whole devices: a part that others share counts as all of it."""
    foreign = pod(
        "web", scheduler="default-scheduler", node="n1", phase="Running",
        containers=[{"name": "c", "resources": {"requests": {"cpu": "4", "memory": "12Gi", "nvidia.com/gpu": "2"}}}],
    )  # fmt: skip
    (found,) = assembled(node("n1"), foreign).snapshot(0, POLICY).nodes
    assert (found.cpu_milli, found.memory_mib, found.tasks) == (60_000, 500 * 1024, 109)
    assert len(found.devices) == 6


def test_what_others_held_comes_back_when_they_are_done() -> None:
    """Deleted, finished, or gone with the node's word."""
    assembly = assembled(node("n1"), pod("web", scheduler="other", gpu=8, node="n1", phase="Running"))
    assert assembly.snapshot(0, POLICY).nodes[0].devices == ()
    see(assembly, pod("web", scheduler="other", gpu=8, node="n1", phase="Succeeded"))
    assert len(assembly.snapshot(0, POLICY).nodes[0].devices) == 8


def test_a_place_is_assumed_until_it_is_seen() -> None:
    """So the next decision gives its room to nobody else; doubted, it is free again."""
    assembly = assembled(node("n1", 1), queue("default"), pod("a", gpu=1))
    (place,) = decide(assembly.snapshot(NOW_MS, POLICY)).places
    assembly.assume(place.task, place.node, place.devices, NOW_MS)
    found = assembly.snapshot(NOW_MS, POLICY)
    assert (
        found.workloads[0].started_ms == NOW_MS
    )  # so long as it isn't seen, too, it is protected from others
    assert [(task.state, task.node, task.devices) for task in found.workloads[0].tasks] == [
        ("bound", "n1", place.devices)
    ]
    assembly.doubt("ml/a")
    assert assembly.snapshot(NOW_MS, POLICY).workloads[0].tasks[0].state == "pending"


def test_who_is_told_to_go_before_it_is_seen_in_its_place_counts_as_going() -> None:
    """Whatever of before is heard of it meanwhile, so that it isn't told once more."""
    assembly = assembled(node("n1", 1), queue("default"), pod("a", gpu=1))
    assembly.assume("ml/a", "n1", (DeviceShare(0, 1000),), NOW_MS)
    assembly.expect_gone("ml/a")
    for seen in (None, pod("a", gpu=1), pod("a", gpu=1, node="n1")):
        if seen is not None:
            see(assembly, seen)
        (task,) = assembly.snapshot(NOW_MS, POLICY).workloads[0].tasks
        assert (task.state, task.node, task.devices) == ("releasing", "n1", (DeviceShare(0, 1000),))


def test_what_is_seen_counts_more_than_what_was_assumed() -> None:
    """Somebody else bound the pod elsewhere."""
    assembly = assembled(node("n1"), node("n2"), pod("a", gpu=1))
    assembly.assume("ml/a", "n1", (DeviceShare(0, 1000),))
    see(assembly, pod("a", gpu=1, node="n2"))
    (task,) = assembly.snapshot(0, POLICY).workloads[0].tasks
    assert task.node == "n2"


def test_parts_of_a_device_stay_where_they_were_put() -> None:
    """What was decided for a task is what it holds when its pod is seen there; others don't move it."""
    half = {"gpu-fraction": "0.5"}
    assembly = assembled(node("n1", 2), pod("a", annotations=half), pod("b", annotations=half))
    assembly.assume("ml/a", "n1", (DeviceShare(1, 500),))
    see(assembly, pod("a", annotations=half, node="n1", phase="Running"))
    see(assembly, pod("b", annotations=half, node="n1", phase="Running"))
    held = {row.tasks[0].name: row.tasks[0].devices for row in assembly.snapshot(0, POLICY).workloads}
    assert held == {"ml/a": (DeviceShare(1, 500),), "ml/b": (DeviceShare(1, 500),)}


def test_nodes_that_are_gone_under_running_work_are_not_ready() -> None:
    """The work is still there until its pods are."""
    assembly = assembled(node("n1"), pod("a", gpu=1, node="n1", phase="Running"))
    assembly.see_node("n1", None)
    assert assembly.snapshot(0, POLICY).nodes == (Node("n1", ready=False),)
    assembly.see_pod("ml/a", None)
    assert assembly.snapshot(0, POLICY).nodes == ()


def test_rows_stay_the_same_objects_until_something_about_them_changes() -> None:
    """A heartbeat of a node or of a pod is nothing; another pod's start touches only its own row."""
    assembly = assembled(node("n1"), node("n2"), *several(3, "p", gpu=1))
    before = assembly.snapshot(0, POLICY)
    beat = node("n1")
    beat["metadata"]["resourceVersion"] = "77"
    see(assembly, beat)
    assert assembly.snapshot(0, POLICY).nodes is before.nodes
    see(assembly, pod("p-1", gpu=1, node="n1"))
    after = assembly.snapshot(0, POLICY)
    same = [one is other for one, other in zip(before.workloads, after.workloads, strict=True)]
    assert same == [True, False, True]
    assert after.nodes is before.nodes
    assert after.queues is before.queues


def test_who_runs_holds_its_room_before_anybody_knows_whose_it_is() -> None:
    """After a start owners are looked up one by one: meanwhile nobody gets the room of their pods, none of them goes, and none of them starts."""
    pods = [pod("a", owner=JOB, gpu=1, node="n1", phase="Running"), pod("b", owner=JOB, gpu=1)]
    assembly = assembled(node("n1", 1), queue("default", 0), queue("x"), *pods)
    see(assembly, pod("c", gpu=1, labels={"gpumax.dev/queue": "x"}))
    decision = decide(assembly.snapshot(NOW_MS, POLICY))
    assert (decision.places, decision.evictions) == ((), ())
    assert "ml/b" not in [
        task.name for row in assembly.snapshot(NOW_MS, POLICY).workloads for task in row.tasks
    ]
    assembly.see_owner(JOB["metadata"]["uid"], JOB)
    found = {row.name: row for row in assembly.snapshot(NOW_MS, POLICY).workloads}
    assert [task.name for task in found["ml/job/j"].tasks] == ["ml/a", "ml/b"]
    assert set(found) == {"ml/job/j", "ml/pod/c"}
    assert [row.task for row in decide(assembly.snapshot(NOW_MS, POLICY)).evictions] == ["ml/a"]


def test_only_who_waits_presses_for_a_decision() -> None:
    """A pod that came, that can't be bound after all, or that still waits when others end; not one that is seen where it was bound."""
    assembly = assembled(node("n1", 1), queue("default"))
    assembly.snapshot(0, POLICY)
    assert not assembly.pressing
    see(assembly, pod("a", gpu=1))
    assert assembly.pressing
    assembly.snapshot(0, POLICY)
    assert assembly.pressing
    assembly.assume("ml/a", "n1", (DeviceShare(0, 1000),))
    assert not assembly.pressing
    assembly.snapshot(0, POLICY)
    assert not assembly.pressing
    assembly.doubt("ml/a")
    assert assembly.pressing
    assembly.snapshot(0, POLICY)
    assert assembly.pressing
    see(assembly, pod("a", gpu=1, node="n1", phase="Running"))
    assembly.snapshot(0, POLICY)
    see(assembly, pod("a", gpu=1, node="n1", phase="Succeeded"))
    assert not assembly.pressing


JOB = {
    **written("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}"),
    "spec": {"completionMode": "Indexed", "completions": 2, "parallelism": 2},
}
_NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
_NODES = st.sampled_from(["", "n1", "n2", "n3"])


_RECORDS = (
    '{"devices":{"0":{"milli":500}}}',
    '{"devices":{"1":{"milli":250}}}',
    '{"devices":{"7":{"milli":1000}}}',
    "x",
)


@st.composite
def _pods(draw: st.DrawFn) -> Document:
    """A pod as it may be at any moment: of ours or of others, alone, in a gang, or of the job."""
    where = draw(_NODES)
    part = draw(st.sampled_from(["", "0.5", "0.25", "2"]))
    labels = draw(
        st.sampled_from([{}, {"gpumax.dev/gang": "g"}, {"gpumax.dev/queue": "a"}, {"gpumax.dev/queue": "b"}])
    )
    extra: dict[str, Any] = {"gpu-fraction": part} if part else {}
    if part and where and draw(st.booleans()):
        extra["gpumax.dev/devices"] = draw(st.sampled_from(_RECORDS))
    claims = [{"name": "gpumax", "resourceClaimName": "gpumax-x"}] if part and draw(st.booleans()) else []
    return pod(
        draw(_NAMES),
        owner=JOB if draw(st.booleans()) else None,
        labels=labels,
        annotations={**extra, "gpumax.dev/min": "1"},
        gpu=0 if part else draw(st.integers(0, 2)),
        node=where,
        phase=draw(st.sampled_from(["Running", "Pending", "Succeeded"])) if where else "Pending",
        scheduler=draw(st.sampled_from(["gpumax", "gpumax", "other"])),
        resourceClaims=claims,
    )


_STEPS = st.lists(
    st.one_of(
        _pods(),
        _NAMES.map(lambda name: ("no pod", name)),
        st.tuples(st.just("node"), st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 3)),
        st.tuples(st.just("no node"), st.sampled_from(["n1", "n2", "n3"])),
        st.tuples(st.just("offer"), st.sampled_from(["n1", "n2"]), st.integers(0, 2)),
        st.tuples(st.just("job"), st.booleans()),
        st.tuples(st.just("gang"), st.booleans()),
        st.tuples(st.just("queue"), st.sampled_from(["a", "b"])),
        st.just(("look",)),
    ),
    max_size=25,
)
GANG = written("apiVersion: gpumax.dev/v1alpha1\nkind: Gang\nmetadata: {name: g}\nspec: {min: 2}")


@settings(max_examples=150)
@given(_STEPS)
def test_what_changed_step_by_step_is_what_would_be_read_from_nothing(steps: list[Any]) -> None:
    """Whatever order things come and go in; which device is whose may differ, and is sound."""
    assembly = Assembly()
    last: dict[Any, Any] = {}
    for step in steps:
        if isinstance(step, dict):
            # Where a pod is and what it holds there never changes once it has a place.
            before = last.get(("pod", step["metadata"]["name"]))
            if before and before["spec"]["nodeName"]:
                step["spec"] |= {
                    key: before["spec"][key] for key in ("nodeName", "containers", "resourceClaims")
                }
                step["metadata"]["annotations"] = before["metadata"]["annotations"]
            see(assembly, step)
            last["pod", step["metadata"]["name"]] = step
        elif step[0] == "no pod":
            assembly.see_pod(f"ml/{step[1]}", None)
            last.pop(("pod", step[1]), None)
        elif step[0] == "node":
            last["node", step[1]] = node(step[1], step[2])
            see(assembly, last["node", step[1]])
        elif step[0] == "no node":
            assembly.see_node(step[1], None)
            last.pop(("node", step[1]), None)
        elif step[0] == "offer":
            devices = [Device(index, "H100", 81_920) for index in range(step[2])]
            last["offer", step[1]] = offer(step[1], *devices)
            see(assembly, last["offer", step[1]])
        elif step[0] == "job":
            assembly.see_owner(JOB["metadata"]["uid"], JOB if step[1] else None)
            last["job"] = step[1]
        elif step[0] == "gang":
            assembly.see_gang("ml/gang/g", GANG if step[1] else None)
            last["gang"] = GANG if step[1] else None
        elif step[0] == "queue":
            last["queue", step[1]] = queue(step[1])
            see(assembly, last["queue", step[1]])
        else:
            _sound(assembly.snapshot(0, POLICY))
    fresh = Assembly()
    for key, document in last.items():
        if key == "job":
            fresh.see_owner(JOB["metadata"]["uid"], JOB if document else None)
        elif document is not None:
            see(fresh, document)
    found, wanted = assembly.snapshot(0, POLICY), fresh.snapshot(0, POLICY)
    _sound(found)
    assert _bare(found) == _bare(wanted)
    assert assembly.faults == fresh.faults


def _bare(found: Snapshot) -> tuple[object, ...]:
    """All but which devices are whose."""
    return (
        [replace(one, devices=()) for one in found.nodes],
        [len(one.devices) for one in found.nodes],
        found.queues,
        [
            replace(row, tasks=tuple(replace(task, devices=()) for task in row.tasks))
            for row in found.workloads
        ],
    )


def _sound(found: Snapshot) -> None:
    """No device is given out beyond what it is, and each that is held is there."""
    there = {(one.name, device.index) for one in found.nodes for device in one.devices}
    held: Counter[tuple[str | None, int]] = Counter()
    for row in found.workloads:
        for task in row.tasks:
            assert not task.devices or task.state in HOLDING
            for share in task.devices:
                held[task.node, share.index] += share.milli
    assert held.keys() <= there
    assert all(milli <= 1000 for milli in held.values())
