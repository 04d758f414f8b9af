"""Slices (MIG) and limits above requests, as files carry them."""

from __future__ import annotations

import json

import pytest

from formats.kit import fault_of, one, request, snapshot, submit
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.formats.specs import dump_spec
from gpumax.model.workload import DeviceLimit, DeviceShare

CLUSTER = """
nodes: [{name: n, devices: [{model: A100, memory: 40Gi, slices: {1g.5gb: 7, 3g.20gb: 2}}, {model: A100}]}]
workloads: [{name: w, queue: q, tasks: [{name: t, state: running, node: n, %s}]}]
"""


def test_slices_are_read_and_written_back() -> None:
    """On devices, in requests, and where a task holds them."""
    found = snapshot(CLUSTER % "request: {slices: {1g.5gb: 2}}, devices: [{index: 0, slices: {1g.5gb: 2}}]")
    (task,) = found.workloads[0].tasks
    assert found.nodes[0].devices[0].slices == {"1g.5gb": 7, "3g.20gb": 2}
    assert (task.request.slices, task.devices) == ({"1g.5gb": 2}, (DeviceShare(0, 0, {"1g.5gb": 2}),))
    assert load_snapshot(dump_snapshot(found)) == found


@pytest.mark.parametrize(
    ("fields", "path", "wanted"),
    [
        ("devices: [{index: 0}]", "workloads[0].tasks[0].devices[0]", "takes them only"),
        ("devices: [{index: 1, slices: {1g.5gb: 1}}]", "workloads[0].tasks[0].devices[0].slices", "offers: none"),
        ("devices: [{index: 0, slices: {2g.10gb: 1}}]", "workloads[0].tasks[0].devices[0].slices", "offers: 1g.5gb"),
        ("devices: [{index: 0, slices: {1g.5gb: 8}}]", "workloads", "at most 7"),
        ("devices: [{index: 0, milli: 500, slices: {1g.5gb: 1}}]", "workloads[0].tasks[0].devices[0]", "only one"),
        ("request: {gpu: 1, slices: {1g.5gb: 1}}", "workloads[0].tasks[0].request.slices", "no gpu"),
        ("request: {slices: {1g.5gb: 1}, devices: 2}", "workloads[0].tasks[0].request.slices", "no gpu"),
    ],
)  # fmt: skip
def test_slices_that_contradict_their_device_are_faults(fields: str, path: str, wanted: str) -> None:
    """What is not offered, more than is offered, and milli of a device that is cut."""
    fault = fault_of(snapshot, CLUSTER % fields)
    assert fault.path == path
    assert wanted in fault.wanted


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("gpu: 0.5, limit: {gpu: 1.0, gpu_memory: 40Gi}", DeviceLimit(1000, 40 * 1024)),
        ("gpu: 0.5, limit: {gpu: 500m}", DeviceLimit(500)),
        ("gpu: 0.5, devices: 2, limit: {gpu: 0.8}", DeviceLimit(800)),
        ("gpu_memory: 20Gi, limit: {gpu_memory: 20Gi}", DeviceLimit(0, 20 * 1024)),
        ("gpu_memory: 20Gi, limit: {gpu: 1}", DeviceLimit(1000)),
        ("gpu: 2, limit: {gpu: 2}", DeviceLimit(1000)),
        ("gpu: 0.5, limit: {}", None),
        ("gpu: 0.5, limit: {gpu: 0}", None),
    ],
)
def test_limits_above_the_request_are_carried(written: str, limit: DeviceLimit | None) -> None:
    """Of each device; whole devices have nothing above them."""
    assert request(written).limit == limit


@pytest.mark.parametrize(
    ("written", "path", "wanted"),
    [
        ("gpu: 0.5, limit: {gpu: 0.4}", "limit.gpu", "no less than the request"),
        ("gpu: 0.5, limit: {gpu: 2}", "limit.gpu", "at most 1"),
        ("gpu: 2, limit: {gpu: 3}", "limit.gpu", "at most 1"),
        ("gpu: 0.5, limit: {gpu: H100:0.8}", "limit.gpu", "no model"),
        ("gpu_memory: 20Gi, limit: {gpu_memory: 10Gi}", "limit.gpu_memory", "no less than the request"),
        ("gpu: [0.2, 0.6], limit: {gpu: 0.5}", "limit.gpu", "no less than the request"),
        ("cpu: 1, limit: {gpu: 1}", "limit", "gpu or gpu_memory beside it"),
        ("slices: {1g.5gb: 1}, limit: {gpu: 1}", "limit", "gpu or gpu_memory beside it"),
    ],
)
def test_limits_below_the_request_or_above_a_device_are_faults(written: str, path: str, wanted: str) -> None:
    """At the limit."""
    fault = fault_of(request, written)
    assert fault.path.endswith(f"request.{path}")
    assert wanted in fault.wanted


def test_a_limit_survives_its_file() -> None:
    """It is written as it is read."""
    found = snapshot(
        CLUSTER
        % "request: {gpu: 0.5, limit: {gpu: 0.8, gpu_memory: 30Gi}}, devices: [{index: 1, milli: 500}]"
    )
    assert load_snapshot(dump_snapshot(found)) == found


def test_a_workload_file_can_not_ask_for_slices_yet() -> None:
    """Refused in words."""
    fault = fault_of(submit, "{run: x, resources: {slices: {1g.5gb: 1}}}")
    assert "this version does not honour" in fault.wanted


def test_a_workload_file_may_say_up_to_what_its_memory_grows_where_it_can_be_swapped() -> None:
    """And it is written as it is read."""
    spec = one(
        "{run: x, resources: {gpu: {memory: 4Gi}, limit: {gpu_memory: 10Gi}, swap: true, mode: strict}}"
    )
    (group,) = spec.groups
    assert (group.swap, group.strict, group.request.limit) == (True, True, DeviceLimit(0, 10 * 1024))
    assert one(json.dumps(dump_spec(spec))).groups == spec.groups


@pytest.mark.parametrize(
    ("resources", "path", "wanted"),
    [
        ("gpu: 0.5, limit: {gpu: 1}", "resources.limit", "`swap: true` beside it"),
        ("gpu: 0.5, limit: {gpu: 0.4}, swap: true", "resources.limit.gpu", "no less than the request"),
        ("gpu: 0.5, swap: much", "resources.swap", "true or false"),
        ("cpu: 1, mode: strict", "resources.mode", "gpu or gpu_memory beside it"),
        ("gpu: 0.5, mode: loose", "resources.mode", "strict"),
        ("cpu: 1, swap: true", "resources.swap", "gpu or gpu_memory beside it"),
    ],
)
def test_swap_and_limits_that_make_no_sense_are_faults(resources: str, path: str, wanted: str) -> None:
    """At their place."""
    fault = fault_of(submit, f"{{run: x, resources: {{{resources}}}}}")
    assert fault.path == path
    assert wanted in fault.wanted
