"""`gpumax up --evict-unfenced`: a workload that gets around its part of a GPU is taken off it, and says why; others run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpumax.apps.server.evicting import attempt_of
from system.harness import eventually, machine
from system.test_gpu_parts import Parts, escapes


@pytest.fixture
def parts() -> Iterator[Parts]:
    with machine("1xA100:1Gi", start=False) as made:
        made.options = ("--evict-unfenced",)
        made.up()
        yield Parts(made)


def test_a_workload_that_gets_around_its_part_is_suspended_and_others_run_on(parts: Parts) -> None:
    parts.submit("held", "{gpu: 0.25}")
    parts.said("held")
    escapes(parts, "escapes")
    eventually(lambda: parts.machine.in_state("escapes", "suspended"), "it is suspended")
    [event] = [each for each in parts.machine.events("escapes") if each["kind"] == "Evicted"]
    assert event["message"].startswith("evicted (unfenced): its process ")
    assert event["message"].endswith("it's suspended until `gpumax resume escapes`")
    assert parts.machine.in_state("held", "running")


def test_who_is_below_no_supervisor_is_of_no_task() -> None:
    assert attempt_of(1) == ""
    assert attempt_of(2**22 + 1) == ""
