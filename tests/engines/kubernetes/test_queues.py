"""Objects of queues: ours, and those of KAI and Run:ai."""

from __future__ import annotations

from gpumax.engines.kubernetes.queues import read_queue
from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.units import UNLIMITED
from manifests import queue, written


def test_our_queue_has_the_fields_of_a_snapshots() -> None:
    """In the spelling of the API."""
    found = read_queue(queue("a", 4, parent="top", limit={"gpu": 8}, weight=2, preemptMinRuntime="10m"))
    assert found.faults == ()
    assert found.queue == Queue(
        "a", "top", 100, Amounts(4000, UNLIMITED, UNLIMITED), Amounts(8000, UNLIMITED, UNLIMITED), Amounts(2000, 2000, 2000),
        1_699_992_000_000, 600_000,
    )  # fmt: skip


def test_a_queue_of_kai_means_what_it_means_there() -> None:
    """-1 is unlimited; cpu in millicores, memory in megabytes; a weight that is unset is 1."""
    found = read_queue(
        written("""
apiVersion: scheduling.run.ai/v2
kind: Queue
metadata: {name: team}
spec:
  parentQueue: dept
  priority: 200
  reclaimMinRuntime: 5m
  resources:
    gpu: {quota: 8, limit: 16, overQuotaWeight: 3}
    cpu: {quota: 2500, limit: -1}
    memory: {quota: 1049, limit: -1}
""")
    )
    assert found.faults == ()
    assert found.queue == Queue(
        "team", "dept", 200, Amounts(8000, 2500, 1000), Amounts(16_000, UNLIMITED, UNLIMITED), Amounts(3000, 1000, 1000),
        1_699_992_000_000, None, 300_000,
    )  # fmt: skip


def test_every_fault_of_a_queue_is_told_in_the_spelling_of_the_api() -> None:
    """And the queue isn't there."""
    found = read_queue(queue("a", -1, weigth=2, reclaimMinRuntime="soon"))
    assert found.queue is None
    assert sorted(fault.path for fault in found.faults) == [
        "spec.quota.gpu",
        "spec.reclaimMinRuntime",
        "spec.weigth",
    ]
    theirs = written(
        "apiVersion: scheduling.run.ai/v2\nkind: Queue\nmetadata: {name: t}\nspec: {resources: {gpu: {quota: many}, tpu: 1}}"
    )
    assert [fault.path for fault in read_queue(theirs).faults] == [
        "spec.resources.gpu.quota",
        "spec.resources.tpu",
    ]
