"""What is counted with every lease reads, for Prometheus, as if it had been counted there."""

from __future__ import annotations

from prometheus_client import generate_latest

from gpumax.broker.node.metrics import Metrics


def text(metrics: Metrics) -> list[str]:
    metrics.flush()
    return generate_latest(metrics.registry).decode().splitlines()


def test_each_duration_is_in_all_buckets_that_are_as_wide() -> None:
    metrics = Metrics()
    for took_ns in (1, 25_000, 25_001, 400_000, 10**9):
        metrics.handling.observe(took_ns)
    lines = text(metrics)
    name = "gpumax_broker_handling_seconds"
    buckets = {line.split('"')[1]: float(line.split()[-1]) for line in lines if f"{name}_bucket" in line}
    assert list(buckets.values()) == [2, 3, 3, 3, 4, 4, 4, 4, 5]
    assert next(iter(buckets)) == "2.5e-05"
    assert list(buckets)[-1] == "+Inf"
    assert f"{name}_count 5.0" in lines
    assert f"# TYPE {name} histogram" in lines
    (total,) = [line for line in lines if line.startswith(f"{name}_sum")]
    assert abs(float(total.split()[1]) - 1.000450002) < 1e-12


def test_leases_are_counted_once_whenever_it_is_asked() -> None:
    metrics = Metrics()
    metrics.granted["a"] = 3
    assert 'gpumax_broker_grants_total{group="a"} 3.0' in text(metrics)
    metrics.granted["a"] = 2
    metrics.granted["b"] = 1
    lines = text(metrics)
    assert 'gpumax_broker_grants_total{group="a"} 5.0' in lines
    assert 'gpumax_broker_grants_total{group="b"} 1.0' in lines


def test_a_group_that_is_gone_is_told_of_no_more() -> None:
    metrics = Metrics()
    metrics.granted["a"] = 3
    metrics.flush()
    metrics.granted["a"] = 1
    metrics.forget("a")
    assert not [line for line in text(metrics) if 'group="a"' in line]
