"""What a pod asks for, and every wrong way to write it."""

from __future__ import annotations

from typing import Any

import pytest

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.requests import read_request
from gpumax.engines.kubernetes.tasks import read_task
from gpumax.model.workload import DeviceAsk, DeviceLimit, Request, Task
from manifests import as_pod, pod


def task(**fields: Any) -> Task:
    """The task of a pod without faults."""
    read = read_task(as_pod(pod("p", **fields)))
    assert read.faults == ()
    return read.task


def told(**fields: Any) -> list[str]:
    """The faults of a pod, as they are told."""
    return [str(fault) for fault in read_task(as_pod(pod("p", **fields))).faults]


def container(name: str = "main", **requests: str) -> dict[str, Any]:
    """A container; resources with `_` for what a keyword can't have."""
    return {
        "name": name,
        "resources": {"requests": {key.replace("__", "/"): value for key, value in requests.items()}},
    }


def test_containers_add_up_and_round_up() -> None:
    """Millicores and MiB, exact before they are rounded: 1.5 KiB twice is one MiB, not two."""
    asked = task(
        containers=[container(cpu="0.0005", memory="1536"), container("b", cpu="500u", memory="1.5Ki")]
    )
    assert asked.request == Request(cpu_milli=1, memory_mib=1)


def test_what_runs_before_counts_where_it_asks_for_more() -> None:
    """The greediest step of the start, sidecars that are there by then included; then everything side by side."""
    sidecar = {**container("s", cpu="1"), "restartPolicy": "Always"}
    asked = task(
        initContainers=[container("i", cpu="3", memory="1Gi"), sidecar, container("j", cpu="4")],
        containers=[container(cpu="2", memory="2Gi")],
        overhead={"cpu": "250m"},
    )
    assert asked.request == Request(cpu_milli=5250, memory_mib=2048)


def test_what_is_said_of_the_whole_pod_counts_instead_of_the_sum() -> None:
    """Resources of the pod."""
    asked = task(
        containers=[container(cpu="2"), container("b", cpu="2")], resources={"requests": {"cpu": "3"}}
    )
    assert asked.request.cpu_milli == 3000


@pytest.mark.parametrize("vendor", ["nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "habana.ai/gaudi"])
def test_whole_devices_of_a_vendor_need_nodes_of_that_vendor(vendor: str) -> None:
    """A limit alone is a request."""
    asked = task(containers=[{"name": "main", "resources": {"limits": {vendor: "4"}}}])
    assert asked.request.gpu == (DeviceAsk(4),)
    assert asked.selector == {"gpumax.dev/vendor": vendor}


def test_slices_are_asked_for_by_their_profile() -> None:
    """As the vendor's plugin names them."""
    asked = task(
        containers=[container(**{"nvidia.com__mig-1g.10gb": "2", "nvidia.com__mig-1g.10gb.me": "1"})]
    )
    assert asked.request.slices == {"1g.10gb": 2, "1g.10gb+me": 1}


def test_other_resources_are_counted() -> None:
    """Those that are measured in bytes in MiB."""
    asked = task(
        containers=[container(**{"rdma__hca": "1", "ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi"})]
    )
    assert asked.request.extended == {"ephemeral-storage": 1024, "hugepages-2Mi": 4, "rdma/hca": 1}


@pytest.mark.parametrize(
    ("annotations", "ask", "limit"),
    [
        ({"gpu-fraction": "0.5"}, DeviceAsk(1, 500), None),
        ({"gpumax.dev/gpu-fraction": ".25"}, DeviceAsk(1, 250), None),
        ({"gpu-fraction": "0.3333"}, DeviceAsk(1, 334), None),
        ({"gpu-fraction": "0.5", "gpu-fraction-num-devices": "4"}, DeviceAsk(4, 500), None),
        ({"gpumax.dev/gpu-fraction": "1", "gpumax.dev/gpu-devices": "4"}, DeviceAsk(4), None),
        ({"gpu-memory": "20480"}, DeviceAsk(1, 1000, 20480), None),
        ({"gpumax.dev/gpu-memory": "20Gi"}, DeviceAsk(1, 1000, 20480), None),
        ({"gpu-fraction": "0.5", "gpumax.dev/gpu-fraction-limit": "1"}, DeviceAsk(1, 500), DeviceLimit(1000)),
        ({"gpu-memory": "4096", "gpumax.dev/gpu-memory-limit": "8Gi"}, DeviceAsk(1, 1000, 4096), DeviceLimit(0, 8192)),
    ],
)  # fmt: skip
def test_a_part_of_a_device_is_asked_for_by_annotation(
    annotations: dict[str, str], ask: DeviceAsk, limit: DeviceLimit | None
) -> None:
    """By our names and the peer's; a fraction is rounded up to a thousandth."""
    asked = task(annotations=annotations)
    assert asked.request == Request(gpu=(ask,), limit=limit)


@pytest.mark.parametrize(
    ("annotations", "swap", "strict"),
    [
        ({}, False, False),
        ({keys.SWAP[0]: "false", keys.MODE[0]: "fair"}, False, False),
        ({keys.SWAP[0]: "true"}, True, False),
        ({keys.MODE[0]: "strict"}, False, True),
    ],
)
def test_how_a_part_is_shared_is_asked_for_beside_it(
    annotations: dict[str, str], swap: bool, strict: bool
) -> None:
    """Whether its memory may be moved, and how it has its time."""
    asked = read_request(as_pod(pod("p", annotations={"gpu-fraction": "0.5", **annotations})), [])
    assert (asked.swap, asked.strict) == (swap, strict)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        *(
            ("gpu-fraction", value, "a part of one device between 0 and 1, like 0.5")
            for value in ("1.5", "0", "1", "abc", "", "-0.5", "0,5", "NaN", "1e-3", "Infinity", "０.５", ".", "0." + "3" * 70, "x" * 200_000)
        ),
        *(
            ("gpu-memory", value, "MiB of a device as a whole number like 20480, or with a unit like 20Gi")
            for value in ("0", "-1", "2.5", "abc", "", "1e999", "20G1", "²", "9" * 80)
        ),
    ],
)  # fmt: skip
def test_a_part_that_is_none_is_told_with_what_would_be_right(key: str, value: str, wanted: str) -> None:
    """And short, whatever somebody wrote there."""
    (line,) = told(annotations={key: value})
    assert line.startswith(f"metadata.annotations[{key}]: found ")
    assert line.endswith(f"wanted {wanted}")
    assert len(line) < 300


@pytest.mark.parametrize(
    ("annotations", "fields", "found", "wanted"),
    [
        ({"gpu-fraction": "0.5", "gpu-memory": "2000"}, {}, "gpu-memory beside it", "only one of the two"),
        ({"gpu-fraction": "0.5"}, {"gpu": 1}, "whole devices or slices in the containers' resources beside it", "one of the two"),
        ({"gpu-fraction": "0.5", "gpu-fraction-container-name": "setup"}, {"initContainers": [{"name": "setup"}]},
         '"setup", an init container', "a container that stays"),
        ({"gpu-fraction": "0.5", "gpu-fraction-container-name": "nobody"}, {}, '"nobody"', "a container of the pod: main"),
        ({"gpu-fraction": "0.5", "gpu-fraction-num-devices": "0"}, {}, '"0"', "a number of devices, 1 to 256"),
        ({"gpu-fraction": "0.5", "gpumax.dev/gpu-fraction-limit": "0.4"}, {}, '"0.4"', "no less than is asked for"),
        ({"gpu-fraction": "0.5", "gpumax.dev/gpu-swap": "yes"}, {}, '"yes"', "false or true"),
        ({"gpu-fraction": "0.5", "gpumax.dev/gpu-mode": "rigid"}, {}, '"rigid"', "fair or strict"),
        ({}, {"containers": [container(**{"nvidia.com__gpu": "1", "amd.com__gpu": "1"})]},
         "nvidia.com/gpu and amd.com/gpu", "devices of one vendor in a pod"),
        ({}, {"gpu": 1000}, "1000", "at most 256 devices"),
        ({}, {"containers": [container(cpu="-1")]}, '"-1"', "an amount of 0 or more"),
    ],
)  # fmt: skip
def test_contradictions_are_told(
    annotations: dict[str, str], fields: dict[str, Any], found: str, wanted: str
) -> None:
    """Each with its place, what was found and what would be right."""
    lines = told(annotations=annotations, **fields)
    assert any(f"found {found}; wanted {wanted}" in line for line in lines), lines


def test_all_faults_of_a_pod_are_told_at_once() -> None:
    """Fraction, order in the gang, affinity and tolerations."""
    lines = told(
        annotations={"gpu-fraction": "2"},
        labels={"kai.scheduler/task-priority": "first"},
        affinity={
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
        },
        tolerations=[{"operator": "Equal"}],
    )
    assert len(lines) == 4
    assert any(line.startswith("spec.affinity.nodeAffinity.required") for line in lines)
    assert any(line.startswith("spec.tolerations[0]") for line in lines)


@pytest.mark.parametrize(
    ("fields", "deleted", "state"),
    [
        ({}, False, "pending"),
        ({"schedulingGates": [{"name": "x"}]}, False, "gated"),
        ({"node": "n1"}, False, "bound"),
        ({"node": "n1", "phase": "Running"}, False, "running"),
        ({"node": "n1", "phase": "Running"}, True, "releasing"),
        ({"node": "n1", "phase": "Succeeded"}, True, "succeeded"),
        ({"node": "n1", "phase": "Failed"}, False, "failed"),
        ({}, True, "failed"),
    ],
)  # fmt: skip
def test_the_state_of_a_task_follows_from_its_pod(
    fields: dict[str, Any], *, deleted: bool, state: str
) -> None:
    """What was told to go holds its room until it is gone; what never had a place holds nothing."""
    document = pod("p", **fields)
    if deleted:
        document["metadata"]["deletionTimestamp"] = "2023-11-14T21:00:00Z"
    read = read_task(as_pod(document)).task
    assert read.state == state
    assert read.node == ("n1" if state in ("bound", "running", "releasing") else None)


def test_pods_of_one_template_share_what_is_read_of_them() -> None:
    """The same object, so that a decision looks at it once."""
    first, second = (task(gpu=1), task(gpu=1))
    assert first.request is second.request
