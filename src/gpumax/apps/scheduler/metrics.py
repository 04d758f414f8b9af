"""What the scheduler counts and measures, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from math import inf
from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpumax.apps.scheduler.exported import EXPORTED
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.tallies import Tally, tallies, waits
from gpumax.loop.steer import Round, Steering
from gpumax.model.amounts import RESOURCES, Amounts, Resource
from gpumax.model.decision import HOLD_CODES, Cause
from gpumax.units import MIB, MILLI, UNLIMITED

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BASE: Final[dict[Resource, float]] = {"gpu": 1 / MILLI, "cpu": 1 / MILLI, "memory": MIB}
"""To devices, cores and bytes."""


class Metrics:
    """Counts what is heard of in the loop's thread and the API's; what can be looked up is looked up when somebody asks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._cycles = self._times("gpumax_cycle_duration_seconds")
        self._decides = self._times("gpumax_decide_duration_seconds")
        self._checks = self._times("gpumax_verify_duration_seconds")
        self._requests = self._times("gpumax_api_request_duration_seconds")
        row = EXPORTED["gpumax_api_requests_total"]
        self._answers = Counter("gpumax_api_requests", row.words, row.labels, registry=self._registry)

    def _times(self, name: str) -> Histogram:
        row = EXPORTED[name]
        return Histogram(name, row.words, row.labels, buckets=BUCKETS_S, registry=self._registry)

    def watch(self, cluster: KubernetesCluster, steering: Steering) -> None:
        """Whom to ask for the rest."""
        self._registry.register(_Seen(cluster, steering))

    def cycle(self, row: Round) -> None:
        """A cycle has ended."""
        self._cycles.observe(row.cycle_s)
        if row.answer is not None:
            self._decides.observe(row.decide_s)
            self._checks.observe(row.verify_s)

    def asked(self, verb: str, code: int, seconds: float) -> None:
        """A request to the API server was answered; code 0: it was not."""
        self._requests.labels(verb).observe(seconds)
        self._answers.labels(verb, str(code) if code else "none").inc()

    def families(self) -> Iterator[Metric]:
        """All that there is, each with its name, type, words and rows."""
        yield from self._registry.collect()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Seen(Collector):
    """Looked up when somebody asks, so that nothing is kept of queues that are gone."""

    def __init__(self, cluster: KubernetesCluster, steering: Steering) -> None:
        self._cluster = cluster
        self._steering = steering

    def collect(self) -> Iterator[Metric]:
        """All of it as it is now."""
        last = self._steering.last
        if last is not None:
            yield from _queues(tallies(last.snapshot, last.decision))
            found = Counts(wait.code for wait in waits(last.snapshot, last.decision))
            yield _family("gpumax_holds", {code: found[code] for code in HOLD_CODES})
        status = self._steering.status
        yield _family("gpumax_cycle_failures_total", {(): status["failures"]})
        yield _family("gpumax_journal_failures_total", {(): status["unwritten"]})
        yield _family("gpumax_rule_breaks_total", {(): status["rule_breaks"]})
        yield _family("gpumax_build_info", {version("gpumax"): 1})
        yield _family("gpumax_leader", {(): int(self._cluster.ours and not self._steering.dry)})
        yield from _cluster(self._cluster)


def _queues(found: Mapping[str, Tally]) -> Iterator[Metric]:
    for name in ("quota", "share", "allocated", "waiting"):
        rows = {}
        for queue, tally in found.items():
            amounts: Amounts = getattr(tally, name)
            for resource, amount in zip(RESOURCES, amounts.vector(), strict=True):
                rows[queue, resource] = inf if amount >= UNLIMITED else amount * _BASE[resource]
        yield _family(f"gpumax_queue_{name}", rows)
    yield _family(
        "gpumax_queue_waiting_workloads", {queue: len(tally.waits) for queue, tally in found.items()}
    )


def _cluster(cluster: KubernetesCluster) -> Iterator[Metric]:
    counts, evicted = cluster.counts, cluster.evicted
    yield _family("gpumax_binds_total", {(): counts["binds"]})
    yield _family("gpumax_evictions_total", {cause: evicted.get(cause, 0) for cause in get_args(Cause)})
    whys = ("refused", "kept", "fenced")
    yield _family("gpumax_writes_refused_total", {why: counts[why] for why in whys})
    yield _family("gpumax_invalid_pods", {(): cluster.invalid})
    yield _family("gpumax_watch_age_seconds", cluster.ages_s)


def _family(name: str, rows: Mapping[Any, float]) -> Metric:
    """A metric with its rows, by the values of its labels."""
    row = EXPORTED[name]
    make = CounterMetricFamily if row.type == "counter" else GaugeMetricFamily
    family = make(name, row.words, labels=row.labels)
    for key, value in rows.items():
        family.add_metric((key,) if isinstance(key, str) else key, value)
    return family
