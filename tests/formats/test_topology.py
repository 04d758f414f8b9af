"""Topologies of a snapshot, and the wishes that refer to them."""

from __future__ import annotations

import pytest

from formats.kit import fault_of, snapshot
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.model.snapshot import Topology
from gpumax.model.workload import Segments, TopologyWish

ONE = "topologies: [{name: default, levels: [zone, rack, host]}]"
TWO = "topologies: [{name: fabric, levels: [spine, leaf]}, {name: default, levels: [zone, rack]}]"
WORKLOAD = "workloads: [{name: w, queue: q, tasks: [{name: t}], %s}]"


def test_a_wish_is_read_with_the_only_topology_and_written_back() -> None:
    """At the workload, at its groups, and with segments; the name is filled in."""
    fields = "topology: {required: zone, preferred: rack}, groups: [{name: a}, {name: b, min: 1, parent: c, topology: {segments: {size: 2, required: rack}}}, {name: c, topology: {required: rack}}]"
    text = f"{ONE}\n" + (WORKLOAD % fields).replace("{name: t}", "{name: t, group: a}, {name: u, group: b}")
    read = snapshot(text)
    (workload,) = read.workloads
    assert read.topologies == (Topology("default", ("zone", "rack", "host")),)
    assert workload.topology == TopologyWish("default", "zone", "rack")
    assert [group.topology for group in workload.groups] == [
        None,
        TopologyWish("default", segments=Segments(2, "rack")),
        TopologyWish("default", "rack"),
    ]
    assert load_snapshot(dump_snapshot(read)) == read


def test_what_asks_for_nothing_is_nothing() -> None:
    """An empty wish, or a name alone."""
    for fields in ("topology: {}", "topology: {name: default}", "topology: {required: null}"):
        assert snapshot(f"{ONE}\n{WORKLOAD % fields}").workloads[0].topology is None


@pytest.mark.parametrize(
    ("topologies", "fields", "path", "wanted"),
    [
        ("", "topology: {required: rack}", "topology", "topologies: [{name, levels}]"),
        (TWO, "topology: {required: rack}", "topology", "the name of one of them"),
        (
            ONE,
            "topology: {name: defualt, required: rack}",
            "topology.name",
            "a topology of the snapshot (did you mean default?)",
        ),
        (
            ONE,
            "topology: {required: racks}",
            "topology.required",
            "a level of topology default: zone, rack, host (did you mean rack?)",
        ),
        (TWO, "topology: {name: fabric, preferred: rack}", "topology.preferred", "a level of topology fabric: spine, leaf"),
        (ONE, "topology: {segments: {size: 2, required: row}}", "topology.segments.required", "a level of topology default: zone, rack, host"),
        (ONE, "topology: {segments: {size: 2}}", "topology.segments", "required or preferred beside the size"),
        (ONE, "topology: {segments: {size: 0, required: rack}}", "topology.segments.size", "1"),
        (ONE, "groups: [{topology: {required: hots}}]", "groups[0].topology.required", "a level of topology default: zone, rack, host (did you mean host?)"),
        ("topologies: [{name: a, levels: [x]}, {name: a, levels: [y]}]", "pool: p", None, "each topology once"),
        ("topologies: [{name: a, levels: [x, x]}]", "pool: p", None, "each level once"),
    ],
)  # fmt: skip
def test_a_wish_that_refers_to_nothing_is_a_fault(
    topologies: str, fields: str, path: str | None, wanted: str
) -> None:
    """At its place, with what was wanted, and a guess."""
    fault = fault_of(snapshot, f"{topologies}\n{WORKLOAD % fields}")
    assert path is None or fault.path == f"workloads[0].{path}"
    assert wanted in fault.wanted


def test_a_broken_topology_makes_no_faults_elsewhere() -> None:
    """What refers to it is judged once it is mended."""
    text = f"topologies: [{{name: default, levels: []}}]\n{WORKLOAD % 'topology: {required: rack}'}"
    assert fault_of(snapshot, text).path == "topologies[0].levels"
