"""How amounts and asks are said to people."""

from __future__ import annotations

from typing import Final

from gpumax.model.workload import DeviceAsk
from gpumax.policy.ask import Ask
from gpumax.policy.gang import Want
from gpumax.units import MILLI, UNLIMITED, format_count, format_memory

NEVER: Final = ", so it can never start"
"""How a sentence ends about what no room that others leave would help."""


def amount(resource: str, value: int) -> str:
    """`2 GPUs`, `1 GPU`, `8 cores`, `16Gi of memory`, `3 rdma/hca`."""
    if resource == "gpu":
        return f"{bare(resource, value)} GPU{'' if 0 < value <= MILLI else 's'}"
    if resource == "cpu":
        return f"{bare(resource, value)} core{'' if value == MILLI else 's'}"
    if resource == "memory":
        return f"{bare(resource, value)} of memory"
    if resource == "tasks":
        return count(value, "task slot")
    if resource[:1].isdigit() and resource[1:3] == "g.":
        return count(value, f"{resource} slice")
    return f"{value} {resource}"


def singular(resource: str, value: int) -> bool:
    """Whether verbs about an amount are in the singular."""
    return resource == "memory" or value == MILLI or (resource == "gpu" and 0 < value < MILLI)


def bare(resource: str, value: int) -> str:
    """The amount without its noun."""
    if value >= UNLIMITED:
        return "unlimited"
    return format_memory(value) if resource == "memory" else format_count(value)


def amounts(short: dict[str, int]) -> str:
    """Several amounts in one breath."""
    return listed([amount(resource, value) for resource, value in short.items()])


def more(short: dict[str, int]) -> str:
    """`2 more GPUs and 16Gi more memory`."""
    said = []
    for resource, value in short.items():
        number, _, noun = amount(resource, value).partition(" ")
        said.append(f"{number} more {noun.removeprefix('of ')}")
    return listed(said)


def listed(words: list[str], last: str = "and") -> str:
    """`a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def some(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    """The first of many names, and how many more there are."""
    if len(names) <= most:
        return listed(list(names))
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def count(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def chunk_words(chunk: list[Want]) -> str:
    """`2 x 4 H100`, `0.5 GPU, 8 cores`: what tasks ask together, those that are alike counted."""
    counts: dict[Ask, int] = {}
    for want in chunk:
        counts[want.ask] = counts.get(want.ask, 0) + 1
    return " + ".join(
        f"{number} x {one(ask)}" if len(chunk) > 1 else one(ask) for ask, number in counts.items()
    )


def one(ask: Ask) -> str:
    """What one task asks, in words."""
    words = [" or ".join(device(gpu) for gpu in ask.gpu if gpu is not None)] if ask.gpu[0] is not None else []
    words += [amount(profile, value) for profile, value in ask.slices]
    words += [amount("cpu", ask.cpu)] if ask.cpu else []
    words += [amount("memory", ask.memory)] if ask.memory else []
    words += [amount(name, value) for name, value in ask.extended]
    return ", ".join(words) or "a task slot"


def device(gpu: DeviceAsk) -> str:
    """What a task asks of devices."""
    if gpu.memory_mib:
        each = f"{format_memory(gpu.memory_mib)} of {gpu.model or 'a GPU'}"
        return each if gpu.devices == 1 else f"{gpu.devices} x {each}"
    if gpu.milli < MILLI:
        each = f"{format_count(gpu.milli)} {gpu.model or 'GPU'}"
        return each if gpu.devices == 1 else f"{gpu.devices} x {each}"
    if gpu.model:
        return f"{gpu.devices} {gpu.model}"
    return amount("gpu", gpu.devices * MILLI)
