"""What a study assumes, in sentences: they stand beside its figures."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.model.study import Scenario
from gpumax.traces.names import renamed_in_words
from gpumax.units import MILLI, format_duration
from gpumax.words import plural


def caveats(scenario: Scenario) -> tuple[str, ...]:
    """The assumptions of a scenario, the weightiest first."""
    found = _inflate() if scenario.protocol == "inflate" else _replay(scenario)
    return (*found, *_left_out(scenario), *renamed_in_words(scenario.renamed))


def _replay(scenario: Scenario) -> Iterator[str]:
    yield (
        "No scheduler can use more GPUs than are asked for: the work that arrives bounds the use, and a larger cluster "
        "with the same work is used less."
    )
    yield "Work runs for as long as the trace says, under every policy and on every GPU."
    saving = scenario.checkpoint
    yield (
        f"Work is taken to save every {format_duration(saving.every_ms)}: who is evicted does again what came after, and needs "
        f"{format_duration(saving.restart_ms)} to start again. A trace doesn't say so; set `checkpoint` to what is true for you."
    )
    if failures := scenario.failures:
        yield (
            f"Each node fails once in {format_duration(failures.node_mtbf_ms)} on average and is away for "
            f"{format_duration(failures.node_mttr_ms)}, at moments that the seed draws."
        )
    else:
        yield "No node fails."
    if not scenario.start_ms and not scenario.grace_ms:
        yield "Tasks start and leave at once; images, and the saving at an eviction, take no time."
    if scenario.devices_per_task:
        yield f"A request of more than {plural(scenario.devices_per_task, 'GPU')} is a gang of tasks of at most {scenario.devices_per_task} each."
    if any(policy.startswith("static-") for policy in scenario.policies):
        yield (
            "Under static-fifo and static-backfill each queue has GPUs of its own, as many as its quota: whole nodes first, and parts of "
            "nodes where the quota is no whole number of them."
        )
    yield from _window(scenario)
    if "gpumax-fractions" in scenario.policies and scenario.sizes:
        count = sum(scenario.sizes.values())
        mean = sum(size * often for size, often in scenario.sizes.items()) / count / MILLI
        yield (
            f"For gpumax-fractions the seed draws how much of its GPU each one-GPU workload really needs, {mean:.2f} on average; "
            "less is then asked for in all, so compare its waits with those of others, not its use."
        )


def window_in_words(scenario: Scenario) -> str:
    """Over which time use, and the hours of queues, are measured."""
    span_ms = _span_ms(scenario)
    window_ms = scenario.window_ms or max(span_ms, 1)
    until = ", to the last arrival" if scenario.window_ms is None else ""
    return f"{format_duration(window_ms)} from the first arrival on{until}"


def _window(scenario: Scenario) -> Iterator[str]:
    """A window that is not the time in which work came is somebody's choice, and decides what use means."""
    span_ms, window_ms = _span_ms(scenario), scenario.window_ms
    if window_ms is not None and not span_ms * 0.9 <= window_ms <= max(span_ms * 1.1, 1):
        yield (
            f"Use is measured over {window_in_words(scenario)}, though work came for {format_duration(span_ms)}: "
            f"{'what came later counts for waits alone' if window_ms < span_ms else 'the GPUs rest for a part of it'}."
        )


def _span_ms(scenario: Scenario) -> int:
    moments = [row.submitted_ms for row in scenario.arrivals]
    return max(moments) - min(moments) if moments else 0


def _inflate() -> Iterator[str]:
    yield "Workloads arrive in an order that the seed draws, are tried once each, and nobody leaves: this measures packing, not waiting."
    yield "Ties between nodes go by an order that the seed draws once a run; drawn anew for each decision, rules with coarse scores do much worse."


def _left_out(scenario: Scenario) -> Iterator[str]:
    if count := scenario.bad_rows:
        rows, them = (
            ("1 row of the trace was", "it") if count == 1 else (f"{count:,} rows of the trace were", "them")
        )
        yield f"{rows} left out, because something in {them} can't be used."
