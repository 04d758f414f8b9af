"""What Prometheus may know of the broker."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS_NS: Final = (25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000, 25_000_000)


class Durations(Collector):
    """A histogram of seconds. What comes with every message is counted here and made into samples when somebody asks."""

    def __init__(self, name: str, about: str, bounds_ns: Sequence[int]) -> None:
        self._name = name
        self._about = about
        self._bounds = bounds_ns
        self._counts = [0] * (len(bounds_ns) + 1)
        self._sum_ns = 0

    def observe(self, took_ns: int) -> None:
        self._counts[bisect_left(self._bounds, took_ns)] += 1
        self._sum_ns += took_ns

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._about)
        names = [*(str(bound / 1e9) for bound in self._bounds), "+Inf"]
        rows = list(zip(names, accumulate(map(float, self._counts)), strict=True))
        family.add_metric([], rows, self._sum_ns / 1e9)
        yield family


class Metrics:
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self.clients = Gauge("gpumax_broker_clients", "Processes that share a device", ["group"], registry=r)
        self.resident = Gauge(
            "gpumax_broker_resident_bytes", "Memory kept for a group", ["group", "device"], registry=r
        )
        self.swapped = Gauge(
            "gpumax_broker_swapped_bytes", "Memory of a group in host memory", ["group", "device"], registry=r
        )
        self.checkpointed = Gauge(
            "gpumax_broker_checkpointed",
            "Processes that the driver has off their devices",
            ["group"],
            registry=r,
        )
        self.swaps = Gauge(
            "gpumax_broker_swaps_total",
            "Times that memory of a process has moved",
            ["group", "direction"],
            registry=r,
        )
        self.copied = Gauge(
            "gpumax_broker_copied_bytes_total", "Bytes copied for it", ["group", "direction"], registry=r
        )
        self.unfenced = Gauge(
            "gpumax_gpu_unfenced_processes",
            "Processes that use a device and haven't declared it",
            ["device"],
            registry=r,
        )
        self.unfenced_bytes = Gauge(
            "gpumax_gpu_unfenced_bytes", "Memory of a device that these use", ["device"], registry=r
        )
        self.pool = Gauge("gpumax_broker_pool_bytes", "Host memory that is set aside and taken", registry=r)
        self.grants = Counter("gpumax_broker_grants", "Leases granted", ["group"], registry=r)
        self.refused = Counter("gpumax_broker_refused", "Clients turned away", ["code"], registry=r)
        self.denied = Counter("gpumax_broker_denied", "Allocations refused", ["group", "reason"], registry=r)
        self.reports = Counter("gpumax_broker_reports", "What was told of", ["kind"], registry=r)
        self.handling = Durations(
            "gpumax_broker_handling_seconds", "From a message to the orders that follow", BOUNDS_NS
        )
        r.register(self.handling)
        self.granted: defaultdict[str, int] = defaultdict(int)
        """By group: leases that `grants` doesn't count yet."""

    def flush(self) -> None:
        """Counts what comes too often to be counted one by one."""
        for group, count in self.granted.items():
            self.grants.labels(group).inc(count)
        self.granted.clear()

    def forget(self, group: str) -> None:
        """A group is gone: it has no rows any more."""
        self.granted.pop(group, None)
        for metric in (
            self.clients,
            self.checkpointed,
            self.resident,
            self.swapped,
            self.swaps,
            self.copied,
            self.grants,
            self.denied,
        ):
            samples = [sample for family in metric.collect() for sample in family.samples]
            rows = {tuple(each.labels.values()) for each in samples if each.labels.get("group") == group}
            for row in rows:
                metric.remove(*row)
