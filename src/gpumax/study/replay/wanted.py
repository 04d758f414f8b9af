"""Arrivals as work that can be placed: what each of their tasks asks for, whatever the policy."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from random import Random

import msgspec
from msgspec.structs import replace

from gpumax.model.node import Device
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.study import Scenario
from gpumax.model.trace import Arrival
from gpumax.model.workload import NON_PREEMPTIBLE_FROM, DeviceAsk, Request
from gpumax.units import MILLI


class Wanted(msgspec.Struct, frozen=True):
    """One workload that came. tasks: by group of equal ones, how many and what each asks for; milli: of all of them together."""

    arrival: Arrival
    groups: tuple[tuple[int, Request], ...]
    milli: int

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.arrival.name

    @property
    def amounts(self) -> tuple[int, int, int]:
        """What all its tasks ask for: milli-devices, millicores, MiB."""
        cpu = sum(number * request.cpu_milli for number, request in self.groups)
        return (self.milli, cpu, sum(number * request.memory_mib for number, request in self.groups))

    @property
    def wish(self) -> Hashable:
        """Equal for work that asks for the same."""
        asked = self.arrival
        return (
            asked.devices,
            asked.milli,
            asked.gpu_memory_mib,
            asked.models,
            asked.cpu_milli,
            asked.memory_mib,
            asked.devices_per_task,
        )

    @property
    def requests(self) -> tuple[Request, ...]:
        """What each task asks for, in the order of their ranks."""
        return tuple(request for number, request in self.groups for _ in range(number))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names, as the store gives them."""
        return tuple(f"{self.name}-{rank}" for rank in range(sum(number for number, _ in self.groups)))


def wanted(arrival: Arrival, most: int) -> Wanted:
    """An arrival with its tasks. most: devices of one task; 0: no bound. Amounts of tasks are rounded up."""
    sizes = _sizes(arrival.devices, most)
    groups = []
    for number, devices in sizes:
        part = devices if arrival.devices else 1
        whole = arrival.devices or 1
        cpu, memory = (-(-amount * part // whole) for amount in (arrival.cpu_milli, arrival.memory_mib))
        groups.append((number, Request(_asks(arrival, devices), cpu, memory)))
    return Wanted(arrival, tuple(groups), arrival.devices * arrival.milli)


def _sizes(devices: int, most: int) -> list[tuple[int, int]]:
    """Equal tasks of as many devices as one may have, and one of what is left."""
    if most <= 0 or devices <= most:
        return [(1, devices)]
    full, rest = divmod(devices, most)
    return [(full, most), (1, rest)] if rest else [(full, most)]


def _asks(arrival: Arrival, devices: int) -> tuple[DeviceAsk, ...]:
    if not devices:
        return ()
    by_memory = arrival.gpu_memory_mib
    milli = 0 if by_memory else arrival.milli
    return tuple(DeviceAsk(devices, milli, by_memory, model) for model in arrival.models or ("",))


def spec_of(work: Wanted, queue: str, grace_ms: int) -> WorkloadSpec:
    """The workload as a person would submit it. A failing node is no fault of its own: it has retries without end."""
    arrival = work.arrival
    single = len(work.groups) == 1
    groups = tuple(
        GroupSpec("" if single else f"g{index}", number, number, request, ("work",))
        for index, (number, request) in enumerate(work.groups)
    )
    return WorkloadSpec(
        arrival.name,
        queue,
        groups,
        priority=arrival.priority,
        preemptible=arrival.priority < NON_PREEMPTIBLE_FROM,
        max_duration_ms=arrival.max_duration_ms,
        grace_ms=grace_ms,
        retries=1 << 30,
    )


def in_fractions(arrivals: Iterable[Arrival], scenario: Scenario, seed: int) -> Iterator[Arrival]:
    """The same with the sizes of those that ask for one whole device drawn from the scenario's, in the order in which they came."""
    chance = Random(seed)  # noqa: S311 - the chance of a study, equal for equal seeds
    sizes, weights = tuple(scenario.sizes), tuple(scenario.sizes.values())
    for arrival in arrivals:
        whole = arrival.devices == 1 and arrival.milli == MILLI and not arrival.gpu_memory_mib
        if whole and sizes:
            yield replace(arrival, milli=chance.choices(sizes, weights)[0])
        else:
            yield arrival


def matches(device: Device, ask: DeviceAsk) -> bool:
    """Whether the whole of a device would do."""
    return (
        device.healthy
        and not device.slices
        and (not ask.model or device.model == ask.model)
        and device.memory_mib >= ask.memory_mib
    )
