"""What is kept of the objects of a large cluster is small."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from engines.kubernetes.stub import page, pod
from gpumax.engines.kubernetes.client.decode import INITIAL_END
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import ALWAYS, OFTEN, PODS
from gpumax.engines.kubernetes.views import LONGEST, Pod

TOLERATED = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
CONTAINER = {
    "name": "main",
    "resources": {"limits": {"nvidia.com/gpu": "1"}},
    "env": [{"name": "X", "value": "y" * 4000}],
}


def test_the_list_that_pods_came_in_is_not_kept_for_them() -> None:
    """Parts that are kept as they were written don't hold on to all that came with them."""
    items = [pod(f"p{number}", 1, containers=[CONTAINER], tolerations=TOLERATED) for number in range(200)]
    body = json.dumps(page(1, *items)).encode()
    tracemalloc.start()
    pods = PODS.decoders.page(bytes(bytearray(body))).items
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pods is not None
    assert len(pods) == 200
    assert kept < len(body) / 4


def test_what_pods_write_alike_is_one_object() -> None:
    """So that it can be read once, whichever lists and events the pods came in."""
    first, second = (
        msgspec.json.decode(json.dumps(pod(name, 1, containers=[CONTAINER], tolerations=TOLERATED)), type=Pod)
        for name in ("a", "b")
    )
    assert first.spec.tolerations is second.spec.tolerations
    assert first.spec.containers[0].resources is second.spec.containers[0].resources
    assert json.loads(bytes(first.spec.tolerations)) == TOLERATED


def test_annotations_that_nobody_reads_are_not_kept() -> None:
    """However much a tenant writes into each of thousands of pods; of those that are read, no more than anything sound has."""
    items = [pod(f"p{number}", 1, containers=[CONTAINER]) for number in range(50)]
    for item in items:
        item["metadata"]["annotations"] = {
            "notes": "x" * 200_000,
            "gpu-fraction": "y" * 50_000,
            "gpumax.dev/min": "2",
        }
    tracemalloc.start()
    pods = PODS.decoders.page(json.dumps(page(1, *items)).encode()).items
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pods is not None
    assert kept < 50 * 4000
    assert pods[0].metadata.annotations == {"gpu-fraction": "y" * LONGEST, "gpumax.dev/min": "2"}


@pytest.mark.parametrize("kind", [*ALWAYS, *OFTEN], ids=repr)
def test_the_end_of_a_list_is_seen_of_every_kind(kind: Kind[Any]) -> None:
    """A bookmark's annotation says it, whatever else of annotations isn't kept: who misses it waits for ever."""
    body = {"metadata": {"resourceVersion": "7", "annotations": {INITIAL_END: "true"}}}
    assert INITIAL_END in (kind.decoders.one(json.dumps(body).encode()).metadata.annotations or {})
