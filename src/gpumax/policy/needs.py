"""What would have to change for a workload to start. Every answer was tried: decide() on the changed snapshot starts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from gpumax.model.amounts import RESOURCES, Amounts
from gpumax.model.explanation import Change, Need
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.policy.ask import Ask
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from gpumax.policy.gang import Gang
from gpumax.policy.short import Lack
from gpumax.policy.tree import Account, Vector
from gpumax.policy.words import amounts, count, listed, more, some
from gpumax.policy.world import World
from gpumax.units import MILLI, UNLIMITED, format_duration, format_memory

MOST_TRIES: Final = 16
"""How many decisions one explanation may take; of a large cluster a quarter of them."""
LARGE: Final = 5000
"""Tasks from which a cluster is large."""


class Needs:
    """Tries changes of one world for one gang."""

    def __init__(self, world: World, gang: Gang, passes: Iterable[str]) -> None:
        self.world = world
        self.gang = gang
        self.passes = tuple(passes)
        self.tasks = {task.name for task in gang.workload.tasks}
        large = sum(len(workload.tasks) for workload in world.snapshot.workloads) > LARGE
        self.tries = MOST_TRIES // 4 if large else MOST_TRIES

    def starts(self, snapshot: Snapshot) -> bool:
        """Whether the workload gets a place."""
        if self.tries <= 0:
            return False
        self.tries -= 1
        decision = decide(snapshot, self.passes, effort=NONE)
        return any(place.task in self.tasks for place in decision.places)

    def found(self, lack: Lack | None, ends: Sequence[int]) -> Iterator[Need]:
        """What helps. lack: what its tasks lack on nodes, if that is why it waits; ends: of minimum runtimes, to come."""
        yield from self._wait(ends)
        yield from self._queues("limit", lambda queue: queue.limit, lambda account: account.allocated)
        if self.gang.fixed:
            yield from self._queues("quota", lambda queue: queue.quota, lambda account: account.fixed)
        else:
            yield from self._shares()
        if lack is not None:
            yield from self._nodes(lack)
            yield from self._room(lack)

    def _wait(self, ends: Sequence[int]) -> Iterator[Need]:
        """The earliest end of a minimum runtime at which it starts; the later, the more may be taken."""
        moments = sorted(set(ends))
        snapshot = self.world.snapshot
        if not moments or not self.starts(replace(snapshot, now_ms=moments[-1])):
            return
        low, high = 0, len(moments) - 1
        while low < high and self.tries > 0:
            middle = (low + high) // 2
            if self.starts(replace(snapshot, now_ms=moments[middle])):
                high = middle
            else:
                low = middle + 1
        at = moments[high]
        wait = format_duration(-(-(at - snapshot.now_ms) // 1000) * 1000)
        yield Need("wait", f"in {wait}, when enough work has ended its minimum runtime", at_ms=at)

    def _queues(
        self, change: Change, bound: Callable[[Queue], Amounts], used: Callable[[Account], Vector]
    ) -> Iterator[Need]:
        """Bounds raised by what it lacks, in all queues at once that lack something."""
        wanted = self.gang.asked()
        lacking: dict[str, list[int]] = {}
        for account in self.gang.account.path:
            most = bound(account.queue).vector()
            lack = [max(0, used(account)[r] + wanted[r] - most[r]) if wanted[r] else 0 for r in range(3)]
            if any(lack):
                lacking[account.name] = lack
        yield from self._raised(change, lacking)

    def _shares(self) -> Iterator[Need]:
        """Quotas raised so that its queues may hold it."""
        wanted = self.gang.asked()
        lacking: dict[str, list[int]] = {}
        for account in self.gang.account.path:
            over = [wanted[r] > 0 and account.allocated[r] + wanted[r] > account.share[r] for r in range(3)]
            quota = account.quota
            lack = [
                max(0, account.allocated[r] + wanted[r] - quota[r]) if over[r] and quota[r] < UNLIMITED else 0
                for r in range(3)
            ]
            if any(lack):
                lacking[account.name] = lack
        yield from self._raised("quota", lacking)

    def _raised(self, change: Change, lacking: dict[str, list[int]]) -> Iterator[Need]:
        if not lacking:
            return
        snapshot = self.world.snapshot
        queues = tuple(
            _more(queue, change, lacking[queue.name]) if queue.name in lacking else queue
            for queue in snapshot.queues
        )
        if not self.starts(replace(snapshot, queues=queues)):
            return
        rows = {name: _named(lack) for name, lack in lacking.items()}
        said = [f"the {change} of {name} raised by {amounts(lack)}" for name, lack in rows.items()]
        yield Need(change, f"with {listed(said)}", queues=rows)

    def _nodes(self, lack: Lack) -> Iterator[Need]:
        """Nodes opened that are cordoned or not ready: one alone if that is enough, else all of them."""
        snapshot = self.world.snapshot
        closed = [node.name for node in snapshot.nodes if not node.open]
        if not closed or not {"Cordoned", "NotReady"} & lack.nodes.keys():
            return
        if not self.starts(_opened(snapshot, closed)):
            return
        one = next((name for name in closed[:4] if self.starts(_opened(snapshot, [name]))), None)
        names = [one] if one is not None else closed
        yield Need("node", f"with {some(names)} ready and not cordoned", nodes={name: {} for name in names})

    def _room(self, lack: Lack) -> Iterator[Need]:
        """What its tasks lack, added where they come nearest."""
        if not lack.spread or not lack.short or not lack.left:
            return
        ask = lack.left[0].ask
        names = self.world.nodes.names
        rows = {names[row]: short for row, short in lack.spread.items()}
        if sum(short.get("gpu", 0) for short in rows.values()) != lack.short.get("gpu", 0):
            return
        snapshot = self.world.snapshot
        nodes = tuple(
            _larger(node, rows[node.name], ask) if node.name in rows else node for node in snapshot.nodes
        )
        if not self.starts(replace(snapshot, nodes=nodes)):
            return
        first = [
            # What no node has though it's empty can't be freed: there has to be more of it.
            f"{more(short)} free on {node.name}"
            if lack.possible
            else f"{_added(short, ask, node)} in {node.name}"
            for node, short in [(self.world.nodes.nodes[row], short) for row, short in lack.spread.items()][
                :3
            ]
        ]
        rest = [f"more on {count(len(rows) - 3, 'other node')}"] if len(rows) > 3 else []
        yield Need("room", f"with {listed(first + rest)}", nodes=rows)


def _named(lack: list[int]) -> dict[str, int]:
    return {name: amount for name, amount in zip(RESOURCES, lack, strict=True) if amount}


def _more(queue: Queue, change: Change, lack: list[int]) -> Queue:
    gpu, cpu, memory = lack
    if change == "limit":
        return replace(queue, limit=queue.limit + Amounts(gpu, cpu, memory))
    return replace(queue, quota=queue.quota + Amounts(gpu, cpu, memory))


def _opened(snapshot: Snapshot, names: list[str]) -> Snapshot:
    nodes = tuple(
        replace(node, ready=True, cordoned=False) if node.name in names else node for node in snapshot.nodes
    )
    return replace(snapshot, nodes=nodes)


def _larger(node: Node, short: dict[str, int], ask: Ask) -> Node:
    """The node with so much more, its new GPUs such as the ask can use."""
    gpu = ask.gpu[0]
    known = node.devices[0] if node.devices else Device(0)
    device = Device(
        index=max((device.index for device in node.devices), default=-1) + 1,
        model=gpu.model or known.model if gpu is not None else known.model,
        memory_mib=max(known.memory_mib, gpu.memory_mib if gpu is not None else 0),
    )
    many = -(-short.get("gpu", 0) // MILLI)
    added = tuple(replace(device, index=device.index + number) for number in range(many))
    extended = {name: had + short.get(name, 0) for name, had in node.extended.items()}
    return replace(
        node,
        devices=node.devices + added,
        cpu_milli=node.cpu_milli + short.get("cpu", 0),
        memory_mib=node.memory_mib + short.get("memory", 0),
        tasks=None if node.tasks is None else node.tasks + short.get("tasks", 0),
        extended={**extended, **{name: lack for name, lack in short.items() if _countable(name, node)}},
    )


def _added(short: dict[str, int], ask: Ask, node: Node) -> str:
    """`1 more H100`, `2 more GPUs of 80Gi and 8 more cores`: what `_larger` puts into a node."""
    gpu = ask.gpu[0]
    if gpu is None or not short.get("gpu"):
        return more(short)
    many = -(-short["gpu"] // MILLI)
    alike = [device for device in node.devices if gpu.model in ("", device.model)]
    kind = gpu.model if gpu.model and not alike else f"GPU{'' if many == 1 else 's'}"
    largest = max((device.memory_mib for device in alike), default=0)
    size = f" of {format_memory(gpu.memory_mib)}" if gpu.memory_mib > largest else ""
    rest = {resource: lack for resource, lack in short.items() if resource != "gpu"}
    return " and ".join(filter(None, (f"{many} more {kind}{size}", more(rest))))


def _countable(name: str, node: Node) -> bool:
    return name not in (*RESOURCES, "tasks", *node.extended)
