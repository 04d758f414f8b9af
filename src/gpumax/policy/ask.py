"""What one task asks of a node, in a form that equal tasks share.

Thousands of tasks ask for the same; every mask, view and failure is remembered once an ask, not once a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gpumax.model.slices import milli
from gpumax.model.workload import Affinity, DeviceAsk, Request, Task, Toleration, Workload
from gpumax.policy.slices import Asked
from gpumax.policy.ties import Tied, Ties


class Filter(NamedTuple):
    """Which nodes may take a task at all, whatever room they have. tied: who else may have to be there, or must not."""

    pool: str
    selector: tuple[tuple[str, str], ...]
    affinity: Affinity | None
    tolerations: tuple[Toleration, ...]
    tied: Tied | None = None


class Ask:
    """One task's wish: amounts in millicores and MiB, devices as alternatives in order (never empty; None: no device).

    slices: of devices that are cut, by profile; who asks for them asks for no device.
    There is one object for all equal asks of a decision, so that it is its own key. plain: the same as if nothing tied it to
    other tasks.
    """

    __slots__ = ("cpu", "extended", "filter", "gpu", "memory", "plain", "slices")

    def __init__(
        self,
        cpu: int,
        memory: int,
        extended: tuple[tuple[str, int], ...],
        gpu: tuple[DeviceAsk | None, ...],
        slices: Asked,
        wanted: Filter,
        plain: Ask | None = None,
    ) -> None:
        self.cpu = cpu
        self.memory = memory
        self.extended = extended
        self.gpu = gpu
        self.slices = slices
        self.filter = wanted
        self.plain = plain or self


_Key = tuple[int, int, tuple[tuple[str, int], ...], tuple[DeviceAsk | None, ...], Asked, Filter]
"""What an Ask is made of, in the order of its arguments."""


class Asks:
    """Hands out one Ask object for all equal asks; with ties, for those of one decision, which tie tasks alike."""

    def __init__(self, ties: Ties | None = None) -> None:
        self._ties = ties
        self._interned: dict[object, Ask] = {}
        # By a request's identity, a pool and what ties a task; with the request, so that no other has its place.
        self._usual: dict[tuple[int, str, Tied | None], tuple[Request, Ask]] = {}

    def __len__(self) -> int:
        """How many there are, by what they were asked in."""
        return len(self._interned) + len(self._usual)

    def of(self, workload: Workload, task: Task) -> Ask:
        """The ask of a task."""
        tied = None if self._ties is None else self._ties.of(workload, task)
        if task.selector or task.tolerations or _chooses_nodes(task, tied):
            return self._intern(task.request, _filter(workload, task, tied))
        key = (id(task.request), workload.pool, tied)
        known = self._usual.get(key)
        if known is None:
            ask = self._intern(task.request, Filter(workload.pool, (), None, (), tied))
            known = self._usual[key] = (task.request, ask)
        return known[1]

    def narrowed(self, ask: Ask, choice: int) -> Ask:
        """The ask with one of its device alternatives, or its last one where it has fewer."""
        gpu = ask.gpu[min(choice, len(ask.gpu) - 1)]
        return self._keep((ask.cpu, ask.memory, ask.extended, (gpu,), ask.slices, ask.filter))

    def aloof(self, ask: Ask) -> Ask:
        """The ask as if it needed nobody around it."""
        tied = ask.filter.tied
        if tied is None or not tied.needs or self._ties is None:
            return ask
        wanted = ask.filter._replace(tied=self._ties.aloof(tied))
        return self._keep((ask.cpu, ask.memory, ask.extended, ask.gpu, ask.slices, wanted))

    def _intern(self, request: Request, wanted: Filter) -> Ask:
        extended = tuple(sorted((name, amount) for name, amount in request.extended.items() if amount))
        slices = tuple(sorted(request.slices.items())) if request.slices else ()
        gpu = request.gpu or (None,)
        return self._keep((request.cpu_milli, request.memory_mib, extended, gpu, slices, wanted))

    def _keep(self, key: _Key) -> Ask:
        known = self._interned.get(key)
        if known is None:
            wanted = key[-1]
            plain = None if wanted.tied is None else self._keep((*key[:-1], wanted._replace(tied=None)))
            # Several decisions may be made at once: who comes second takes what the first put there.
            known = self._interned.setdefault(key, Ask(*key, plain))
        return known


def _chooses_nodes(task: Task, tied: Tied | None) -> bool:
    """Whether its affinity says more than what stands in `tied`."""
    affinity = task.affinity
    return affinity is not None and (
        tied is None or affinity.required is not None or bool(affinity.preferred)
    )


def _filter(workload: Workload, task: Task, tied: Tied | None) -> Filter:
    selector = tuple(sorted(task.selector.items()))
    nodes = task.affinity
    if nodes is not None and tied is not None:
        # What it wishes of other tasks stands in `tied`.
        nodes = Affinity(nodes.required, nodes.preferred)
        nodes = None if nodes == Affinity() else nodes
    return Filter(workload.pool, selector, nodes, task.tolerations, tied)


Choices = tuple[int, ...]
"""Which of its device alternatives a task may use, in order; beyond a task's last one its last is meant."""


def alternatives(ask: Ask, choices: Choices) -> Iterator[int]:
    """The alternatives of an ask that are meant."""
    last = len(ask.gpu) - 1
    return iter(dict.fromkeys(min(choice, last) for choice in choices))


def size(ask: Ask, choice: int) -> tuple[int, int, int, int]:
    """How hard a task is to place: milli-devices, on how many devices, then cores, then memory."""
    gpu = ask.gpu[min(choice, len(ask.gpu) - 1)]
    if gpu is None:
        cost = sum(count * milli(profile) for profile, count in ask.slices)
        return (cost, len(ask.slices), ask.cpu, ask.memory)
    whole = gpu.devices * (gpu.milli if not gpu.memory_mib else 1)
    return (whole, gpu.devices, ask.cpu, ask.memory)
