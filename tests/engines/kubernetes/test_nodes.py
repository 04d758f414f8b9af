"""What of a node can be given out."""

from __future__ import annotations

from typing import Any

from gpumax.engines.kubernetes.nodes import NodeRead, read_node
from gpumax.model.node import Device, Taint
from manifests import as_node, node


def read(document: dict[str, Any], **allocatable: str) -> NodeRead:
    """The node, with other amounts."""
    document["status"]["allocatable"].update(allocatable)
    return read_node(as_node(document))


def test_a_node_gives_out_what_is_allocatable() -> None:
    """Rounded down; devices with the model and memory that its labels tell."""
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "gpumax.dev/pool": "big",
    }
    found = read(node("n1", 2, **labels), cpu="63900m", memory="1000000Ki", **{"rdma/hca": "8"})
    assert found.oddities == ()
    one = found.node
    assert (one.cpu_milli, one.memory_mib, one.tasks, one.pool) == (63_900, 976, 110, "big")
    assert one.devices == tuple(Device(index, "NVIDIA-H100-80GB-HBM3", 81559) for index in range(2))
    assert one.extended == {"rdma/hca": 8}
    assert one.labels["gpumax.dev/vendor"] == "nvidia.com/gpu"
    assert one.open


def test_a_device_that_is_built_in_but_not_allocatable_is_unhealthy() -> None:
    """Nobody says which one, so it is the last."""
    found = read(node("n1", 3), **{"nvidia.com/gpu": "2"})
    assert [device.healthy for device in found.node.devices] == [True, True, False]


def test_a_node_that_is_not_ready_or_cordoned_takes_nothing_new() -> None:
    """A cordon is told by its field; the taint that repeats it is passed over, others stay."""
    document = node("n1")
    document["spec"] = {
        "unschedulable": True,
        "taints": [
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
            {"key": "gpu", "value": "a", "effect": "NoExecute"},
            {"key": "new", "effect": "Someday"},
        ],
    }
    document["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    found = read(document).node
    assert (found.ready, found.cordoned) == (False, True)
    # An effect that nobody knows keeps everybody away rather than nobody.
    assert found.taints == (Taint("gpu", "a", "NoExecute"), Taint("new", "", "NoSchedule"))


def test_that_a_node_is_down_is_no_reason_of_its_own() -> None:
    """Taints that only repeat it are passed over as long as it is down: what it would take when it is back can be told."""
    document = node("n1")
    keys = ("not-ready", "unreachable", "memory-pressure")
    document["spec"] = {
        "taints": [{"key": f"node.kubernetes.io/{key}", "effect": "NoSchedule"} for key in keys]
    }
    assert len(read(document).node.taints) == 3
    document["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    found = read(document).node
    assert not found.ready
    assert [taint.key for taint in found.taints] == ["node.kubernetes.io/memory-pressure"]


def test_devices_that_are_cut_offer_their_slices_alike() -> None:
    """The API tells sums over the devices that are cut."""
    document = node("n1", 2, **{"nvidia.com/gpu.count": "4"})
    found = read(document, **{"nvidia.com/mig-1g.10gb": "8", "nvidia.com/mig-3g.40gb": "2"})
    assert [device.slices for device in found.node.devices] == [
        {}, {}, {"1g.10gb": 4, "3g.40gb": 1}, {"1g.10gb": 4, "3g.40gb": 1}
    ]  # fmt: skip


def test_what_is_odd_about_a_node_is_told_and_counts_as_nothing() -> None:
    """Two vendors, an amount that is none, a label that is no number."""
    document = node("n1", 2, **{"nvidia.com/gpu.memory": "80Gi"})
    found = read(document, memory="lots", **{"amd.com/gpu": "1"})
    assert found.node.memory_mib == 0
    assert len(found.node.devices) == 2
    assert len(found.oddities) == 3
    assert all(line.startswith("node n1: ") for line in found.oddities)
