"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from board import NOW_MS, Sketch, queue
from gpumax.apps.scheduler.exported import EXPORTED
from gpumax.apps.scheduler.metrics import Metrics
from gpumax.loop.steer import Steering
from gpumax.ports.clock import ManualClock
from gpumax.ports.cluster_fake import FakeCluster
from gpumax.ports.journal import MemoryJournal

Labels = frozenset[tuple[str, str]]


class Counting(FakeCluster):
    """A cluster that counts as Kubernetes' does."""

    counts: Final = dict.fromkeys(("binds", "refused", "kept", "fenced"), 3)
    evicted: Final = {"reclaim": 2}
    invalid: Final = 1
    ages_s: Final = {"pods": 0.5, "queues.gpumax.dev": 61.0}


class Watched:
    """A cluster as it is drawn, who steers it, and the metrics of both."""

    def __init__(self, sketch: Sketch) -> None:
        drawn = sketch.snapshot()
        self.cluster = Counting(drawn.nodes, drawn.queues, drawn.workloads)
        self.clock = ManualClock(NOW_MS)
        self.metrics = Metrics()
        self.steering = Steering(self.cluster, MemoryJournal(), self.clock, hearers=[self.metrics.cycle])
        self.metrics.watch(self.cluster, self.steering)  # type: ignore[arg-type]

    def families(self) -> Iterator[Metric]:
        """Ours, as they are read."""
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            if family.name.startswith("gpumax_"):
                yield family

    def value(self, name: str, **labels: str) -> float:
        """One sample."""
        found = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families()
            for sample in family.samples
        }
        return found[name, frozenset(labels.items())]


def crowded() -> Sketch:
    """b holds six GPUs, two of them beyond its quota, and the gang of a waits for four."""
    drawn = Sketch("n1: bbbbbb..")
    drawn.queues += [queue("team", 8), queue("a", 4, parent="team"), queue("b", 4, parent="team")]
    drawn.run("b", queue="b", min=1)
    return drawn.wait("x", queue="a", tasks=4, min=4)


def test_what_is_exported_is_what_the_page_says() -> None:
    """Names, types and labels; what is not in the table can't be found on the page."""
    watched = Watched(crowded())
    watched.steering.cycle()
    watched.metrics.asked("bind", 201, 0.004)
    found = {}
    for family in watched.families():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels, family.documentation)
    assert {name for name in found if not name.endswith("_created")} == set(EXPORTED)
    for name, row in EXPORTED.items():
        assert found[name] == (row.type, set(row.labels), row.words)


def test_queues_are_told_in_base_units_and_leave_when_they_are_gone() -> None:
    """A parent counts what waits below it."""
    watched = Watched(crowded())
    watched.steering.cycle()
    assert watched.value("gpumax_queue_quota", queue="a", resource="gpu") == 4.0
    assert watched.value("gpumax_queue_allocated", queue="b", resource="gpu") == 6.0
    assert watched.value("gpumax_queue_waiting", queue="a", resource="gpu") == 4.0
    assert watched.value("gpumax_queue_quota", queue="a", resource="cpu") == inf
    watched.steering.cycle()  # those who make way are leaving now
    assert watched.value("gpumax_queue_waiting_workloads", queue="a") == 1.0
    assert watched.value("gpumax_queue_waiting_workloads", queue="team") == 1.0
    assert watched.value("gpumax_queue_waiting_workloads", queue="b") == 0.0
    assert watched.value("gpumax_holds", code="WaitsForEvictions") == 1.0
    del watched.cluster.workloads["x"], watched.cluster.queues["a"]
    watched.steering.cycle()
    queues = {sample.labels.get("queue") for family in watched.families() for sample in family.samples}
    assert queues == {None, "b", "team"}


def test_cycles_are_timed_and_requests_are_counted() -> None:
    """A cycle in which nothing was new is a cycle, and no decision."""
    watched = Watched(crowded())
    for _ in range(3):
        watched.steering.cycle()
    decided = watched.steering.status["decisions"]
    assert decided < 3
    assert watched.value("gpumax_cycle_duration_seconds_count") == 3.0
    assert watched.value("gpumax_decide_duration_seconds_count") == decided
    watched.metrics.asked("bind", 201, 0.004)
    watched.metrics.asked("bind", 0, 60.0)
    assert watched.value("gpumax_api_request_duration_seconds_bucket", verb="bind", le="0.005") == 1.0
    assert watched.value("gpumax_api_requests_total", verb="bind", code="none") == 1.0
    assert watched.value("gpumax_evictions_total", cause="reclaim") == 2.0
    assert watched.value("gpumax_evictions_total", cause="stale") == 0.0
    assert watched.value("gpumax_leader") == 1.0
