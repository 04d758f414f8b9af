"""What Prometheus may know of the broker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


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
        self.handling = Histogram(
            "gpumax_broker_handling_seconds", "From a message to the orders that follow", registry=r,
            buckets=(25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 5e-3, 25e-3),
        )  # fmt: skip

    def forget(self, group: str) -> None:
        """A group is gone: it has no rows any more."""
        for metric in (
            self.clients,
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
