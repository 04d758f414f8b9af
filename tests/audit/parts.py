"""Parts of devices that were given out by name: in the record that comes with a bind, and in the claim of the pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

GIVEN = "gpumax.dev/devices"
OFFERED = "gpumax.dev/gpus"
DRIVER = "gpu.gpumax.dev"
Given = Mapping[str, Any]
"""What is given of each device, by its index."""


def recorded(binding: Mapping[str, Any]) -> Given:
    """What a bind says that its pod is given; empty for whole devices and for none."""
    record = ((binding.get("metadata") or {}).get("annotations") or {}).get(GIVEN)
    return json.loads(record)["devices"] if record else {}


def claim_of(pod: Mapping[str, Any]) -> str:
    """The name of the pod's claim to a part of a device; empty for none."""
    rows = pod["spec"].get("resourceClaims") or ()
    return next((row["resourceClaimName"] for row in rows if row["name"] == "gpumax"), "")


def allocated(claim: Mapping[str, Any], node: str) -> Given | None:
    """What a claim's parameters say, where its devices are those, and on that node; None where they contradict each other."""
    devices = ((claim.get("status") or {}).get("allocation") or {}).get("devices")
    if not devices:
        return None
    (config,) = devices["config"]
    given: Given = config["opaque"]["parameters"]["devices"]
    there = {(row["driver"], row["pool"], row["device"]) for row in devices["results"]}
    return given if there == {(DRIVER, node, f"gpu-{index}") for index in given} else None
