"""What one task asks for, in all the ways that people write it."""

from __future__ import annotations

import pytest

from formats.kit import fault_of, one, request
from gpumax.model.workload import DeviceAsk, Request

GIB = 1024

WAYS = {
    "gpu: 2": (DeviceAsk(2),),
    'gpu: "2"': (DeviceAsk(2),),
    "gpu: 2.0": (DeviceAsk(2),),
    "gpu: 0": (),
    "gpu: 0.5": (DeviceAsk(1, 500),),
    "gpu: 500m": (DeviceAsk(1, 500),),
    "gpu: 1000m": (DeviceAsk(1),),
    "gpu: 0.3333": (DeviceAsk(1, 334),),
    "gpu: 0.001": (DeviceAsk(1, 1),),
    "gpu: H100": (DeviceAsk(1, model="H100"),),
    "gpu: H100:2": (DeviceAsk(2, model="H100"),),
    "gpu: H100:0.5": (DeviceAsk(1, 500, model="H100"),),
    "gpu: NVIDIA H100:2": (DeviceAsk(2, model="NVIDIA H100"),),
    "gpu: {memory: 20Gi}": (DeviceAsk(1, 1000, 20 * GIB),),
    "gpu: {memory: 20Gi, devices: 2, model: A100}": (DeviceAsk(2, 1000, 20 * GIB, "A100"),),
    "gpu: {gpu: 0.5, devices: 2}": (DeviceAsk(2, 500),),
    "gpu: {gpu: 2, model: H100}": (DeviceAsk(2, model="H100"),),
    "gpu: {model: H100}": (DeviceAsk(1, model="H100"),),
    "gpu: {model: H100, devices: 2}": (DeviceAsk(2, model="H100"),),
    "gpu: [H100:2, A100:4]": (DeviceAsk(2, model="H100"), DeviceAsk(4, model="A100")),
    "gpu: [2, {memory: 20Gi}, 0.5]": (DeviceAsk(2), DeviceAsk(1, 1000, 20 * GIB), DeviceAsk(1, 500)),
    "gpu: 0.5, devices: 2": (DeviceAsk(2, 500),),
    "gpu: 1, devices: 2": (DeviceAsk(2),),
    "gpu: 0.5, devices: 1": (DeviceAsk(1, 500),),
    "gpu_memory: 20Gi": (DeviceAsk(1, 1000, 20 * GIB),),
    "gpu_memory: 20Gi, devices: 2": (DeviceAsk(2, 1000, 20 * GIB),),
    "gpu_memory: 1": (DeviceAsk(1, 1000, 1),),
    "gpu: [H100:0.5, A100:0.5], devices: 2": (
        DeviceAsk(2, 500, model="H100"),
        DeviceAsk(2, 500, model="A100"),
    ),
}


@pytest.mark.parametrize(("written", "asks"), WAYS.items())
def test_gpus_are_asked_for_in_many_ways(written: str, asks: tuple[DeviceAsk, ...]) -> None:
    """Whole, in part, by memory, by model, on several devices, and with alternatives in order; in both files."""
    assert request(written).gpu == asks
    assert one(f"{{run: x, resources: {{{written}}}}}").groups[0].request.gpu == asks


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("gpu: 1.5", "whole devices"),
        ("gpu: H100:1.5", "whole devices"),
        ("gpu: 2Gi", "a number of GPUs"),
        ('gpu: ""', "a number of GPUs"),
        ('gpu: "H100:"', "a number of GPUs"),
        ('gpu: ":2"', "a number of GPUs"),
        ("gpu: -1", "0 or more"),
        ("gpu: []", "at least one entry"),
        ("gpu: [0, 1]", "a part of a device"),
        ("gpu: {}", "a model"),
        ("gpu: {devices: 2}", "a model"),
        ("gpu: true", "a number of GPUs"),
        ("gpu: unlimited", "a number of GPUs"),
        ("gpu: .nan", "a number of GPUs"),
        ("gpu: .inf", "a number of GPUs"),
        ("gpu: 1e30", "at most"),
        ("gpu: 0.0001", "thousandth"),
        ("gpu: 0.3, devices: 2, gpu_memory: 3Gi", "only one of the two"),
        ("gpu: {gpu: 0.3, memory: 3Gi}", "only one of the two"),
        ("gpu: {gpu: H100:1, model: A100}", "one model"),
        ("gpu: 2, devices: 2", "no `devices`"),
        ("devices: 2", "gpu or gpu_memory"),
        ("gpu: 0, devices: 2", "gpu or gpu_memory"),
        ("gpu_memory: 0", "more than 0"),
        ("gpu_memory: 0.3", "whole bytes"),
        ("gpu: 0.5, devices: 0", "a whole number"),
        ("gpu: 0.5, devices: 1.5", "a whole number"),
        ("cpu: -1", "0 or more"),
        ("cpu: unlimited", "an amount"),
        ("memory: 1.5", "whole bytes"),
        ("memory: 500m", "whole bytes"),
        ("memory: 1e30", "at most"),
        ("memory: 16 GB", "an amount"),
        ("extended: {a: 0.5}", "a whole number"),
        ("extended: {a: -1}", "a whole number"),
    ],
)
def test_what_makes_no_sense_is_a_fault(written: str, wanted: str) -> None:
    """Parts above one, two ways at once, nothing to count, no number at all."""
    fault = fault_of(request, written)
    assert fault.path.startswith("workloads[0].request")
    assert wanted in fault.wanted


def test_requests_are_rounded_up() -> None:
    """So that no sum of roundings admits more than there is."""
    assert request("cpu: 0.0001, memory: 1, gpu: 0.0011") == Request((DeviceAsk(1, 2),), 1, 1)


def test_a_task_s_request_replaces_the_workload_s() -> None:
    """As a whole: what it leaves unset is not asked for."""
    from formats.kit import workload

    read = workload("request: {gpu: 1, cpu: 8}", "request: {cpu: 2}")
    assert read.tasks[0].request == Request(cpu_milli=2000)


def test_equal_requests_are_one_object() -> None:
    """Policy remembers what it learned of a request by its identity."""
    assert request("gpu: 3, cpu: 1") is request("gpu: 3, cpu: 1")
