"""What is written is read back as it was, and equal states are equal bytes."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from board import Sketch, queue
from formats.kit import QUEUES
from formats.strategies import DECISIONS, snapshots, specs, trees
from gpumax.apps.cli.output import document as written
from gpumax.formats.decision import dump_decision, encode_decision, load_decision
from gpumax.formats.queues import dump_queue
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.formats.specs import dump_spec
from gpumax.formats.step import dump_step, load_step
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import Group, Task, Workload

_SOME = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@_SOME
@given(snapshots())
def test_a_snapshot_is_read_back_as_it_was(snapshot: Snapshot) -> None:
    """From JSON, which is what journals and bug reports carry."""
    assert load_snapshot(msgspec.json.encode(dump_snapshot(snapshot))) == snapshot


@_SOME
@given(snapshots(), st.randoms())
def test_equal_states_are_equal_bytes(snapshot: Snapshot, random: object) -> None:
    """Whatever the order of rows and keys in the file."""
    written = dump_snapshot(snapshot)
    again = dump_snapshot(load_snapshot(_shuffled(written, random)))
    assert msgspec.json.encode(again) == msgspec.json.encode(written)


@_SOME
@given(snapshots(), st.data())
def test_a_step_leads_from_one_snapshot_to_the_next(after: Snapshot, data: st.DataObject) -> None:
    """Whatever came, went or changed: rows, the moment, options."""
    left = (
        data.draw(st.sets(st.sampled_from([row.name for row in after.workloads])))
        if after.workloads
        else set()
    )
    before = replace(
        after,
        now_ms=0,
        workloads=tuple(
            replace(row, submitted_ms=row.submitted_ms + 1) if data.draw(st.booleans()) else row
            for row in after.workloads
            if row.name not in left
        ),
        policy=data.draw(st.sampled_from([after.policy, Policy(max_evictions=7)])),
    )
    for one, other in ((before, after), (after, before)):
        step = dump_step(one, other)
        changed = len(set(map(id, one.workloads)) ^ set(map(id, other.workloads)))
        if step is None:
            assert 2 * changed > len(other.workloads)
        else:
            assert load_step(one, msgspec.json.encode(step)) == other


def test_a_step_tells_of_nodes_and_queues_too() -> None:
    """One of many changed, one went, one came, with work on it."""
    sketch = Sketch("\n".join(f"n{number}: ...." for number in range(12))).with_queues(queue("a"), queue("b"))
    before = sketch.snapshot()
    nodes = {node.name: node for node in before.nodes if node.name != "n3"}
    nodes |= {"n4": replace(nodes["n4"], ready=False)}
    nodes["new"] = replace(nodes["n5"], name="new")
    work = Workload("w", "b", groups=(Group("", 1),), tasks=(Task("w-0", state="running", node="new"),))
    after = replace(
        before,
        nodes=tuple(nodes[name] for name in sorted(nodes)),
        queues=(before.queues[0], replace(before.queues[1], priority=70)),
        workloads=(work,),
    )
    step = dump_step(before, after)
    assert step is not None
    assert step["gone"] == {"nodes": ["n3"]}
    assert load_step(before, msgspec.json.encode(step)) == after


def _shuffled(value: object, random: object, *, rows: bool = True) -> object:
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)  # type: ignore[attr-defined]
        ordered = (
            "taints",
            "tolerations",
            "gpu",
            "values",
            "matchExpressions",
            "matchFields",
            "nodeSelectorTerms",
            "levels",
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        )
        return {key: _shuffled(value[key], random, rows=key not in ordered) for key in keys}
    if isinstance(value, list):
        found = [_shuffled(item, random) for item in value]
        if rows:
            random.shuffle(found)  # type: ignore[attr-defined]
        return found
    return value


@_SOME
@given(DECISIONS)
def test_a_decision_is_read_back_as_it_was(decision: Decision) -> None:
    """Rows keep their order: it is the order in which they apply."""
    assert load_decision(encode_decision(decision)) == decision
    assert encode_decision(load_decision(dump_decision(decision))) == encode_decision(decision)


@_SOME
@given(specs())
def test_a_workload_is_read_back_as_it_was(spec: WorkloadSpec) -> None:
    """From JSON, and from the YAML that we print."""
    document = dump_spec(spec)
    for text in (msgspec.json.encode(document), written(document, "yaml").encode()):
        read = load_workloads(parse_text(text), base="/elsewhere", queues=QUEUES, default_project="other")
        assert read == ((), (spec,))


@_SOME
@given(trees())
def test_queues_are_read_back_as_they_were(queues: tuple[Queue, ...]) -> None:
    """As rows of a snapshot."""
    assert load_snapshot({"queues": [dump_queue(queue) for queue in queues]}).queues == queues
