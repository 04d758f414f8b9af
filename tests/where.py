"""Where one task after the other goes, and what a task lacks that goes nowhere: written down slowly, rule by rule.

Shares no code with the policy but what is read from models. Each task is a workload by itself; nothing ties it to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gpumax.loop.verify.filters import is_true, refusal
from gpumax.loop.verify.slices import can_hold
from gpumax.model.decision import NodeReason
from gpumax.model.node import Device, Node
from gpumax.model.slices import milli, parts
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceAsk, DeviceShare, Request, Task, Workload

TAINT = 1 << 20
PROFILES = 7
Free = dict[int, int]
Cut = dict[int, dict[str, int]]


@dataclass
class Stock:
    """What a node has left. free: milli by index of a healthy whole device; cut: what a sliced one holds."""

    node: Node
    cpu: int
    memory: int
    tasks: int
    extended: dict[str, int]
    free: Free
    cut: Cut

    def take(self, request: Request, shares: Iterable[DeviceShare], sign: int = 1) -> None:
        """Count a task as there (1), or as gone (-1)."""
        self.cpu -= sign * request.cpu_milli
        self.memory -= sign * request.memory_mib
        self.tasks -= sign
        for name, amount in request.extended.items():
            if name in self.extended:
                self.extended[name] -= sign * amount
        for share in shares:
            if share.index in self.free:
                self.free[share.index] -= sign * share.milli
            if share.index in self.cut:
                held = self.cut[share.index]
                for profile, count in share.slices.items():
                    held[profile] = held.get(profile, 0) + sign * count

    def cap(self, other: Stock) -> None:
        """Have no more of anything than the other."""
        self.cpu, self.memory = min(self.cpu, other.cpu), min(self.memory, other.memory)
        self.tasks = min(self.tasks, other.tasks)
        self.extended = {name: min(left, other.extended[name]) for name, left in self.extended.items()}
        self.free = {index: min(left, other.free[index]) for index, left in self.free.items()}
        for index, held in self.cut.items():
            for profile, count in other.cut[index].items():
                held[profile] = max(held.get(profile, 0), count)


def stock(node: Node) -> Stock:
    """An empty node."""
    whole = [device.index for device in node.devices if device.healthy and not device.slices]
    cut = [device.index for device in node.devices if device.healthy and device.slices]
    return Stock(
        node, node.cpu_milli, node.memory_mib, 1 << 40 if node.tasks is None else node.tasks,
        dict(node.extended), dict.fromkeys(whole, 1000), {index: {} for index in cut},
    )  # fmt: skip


def device_of(node: Node, index: int) -> Device:
    return next(device for device in node.devices if device.index == index)


def needed(ask: DeviceAsk, device: Device) -> int | None:
    """What an ask takes of a device, in milli; None where the device can't serve it."""
    if ask.model not in ("", device.model) or device.memory_mib < ask.memory_mib:
        return None
    return -(-1000 * ask.memory_mib // device.memory_mib) if ask.memory_mib else ask.milli


def fit(at: Stock, ask: DeviceAsk) -> dict[int, int]:
    """By index of each device that has room for the ask, what it takes of it."""
    found = {index: needed(ask, device_of(at.node, index)) for index in at.free}
    return {index: need for index, need in found.items() if need is not None and at.free[index] >= need}


# Slices


def worth(device: Device, held: Mapping[str, int]) -> int:
    """What is left of a device: for each profile, how many more would fit, in compute parts."""
    total = 0
    for profile in device.slices:
        more = 0
        while can_hold(device, {**held, profile: held.get(profile, 0) + more + 1}):
            more += 1
        total += parts(profile) * more
    return total


def _plus(cut: Cut, index: int, profile: str) -> Cut:
    return {**cut, index: {**cut[index], profile: cut[index].get(profile, 0) + 1}}


def _ways(at: Stock, cut: Cut, profile: str) -> list[tuple[int, int, int]]:
    """The devices that can take one more slice: what is lost there, what is left, which; the best first."""
    found = []
    for index, held in cut.items():
        device, after = device_of(at.node, index), _plus(cut, index, profile)[index]
        if can_hold(device, after):
            left = worth(device, after)
            found.append((worth(device, held) - left, left, index))
    return sorted(found)


def one_by_one(slices: Mapping[str, int]) -> list[str]:
    """The largest first."""
    order = sorted(slices, key=lambda profile: (-milli(profile), profile))
    return [profile for profile in order for _ in range(slices[profile])]


def lay(at: Stock, cut: Cut, wanted: list[str]) -> Cut | None:
    """The slices each on the device where it leaves the most, as far as the others then fit, too."""
    if not wanted:
        return cut
    for _, _, index in _ways(at, cut, wanted[0]):
        found = lay(at, _plus(cut, index, wanted[0]), wanted[1:])
        if found is not None:
            return found
    return None


def total_worth(at: Stock, cut: Cut) -> int:
    return sum(worth(device_of(at.node, index), held) for index, held in cut.items())


# Which node


@dataclass
class Rules:
    """All that decides where tasks of a snapshot go."""

    snapshot: Snapshot
    kinds: list[tuple[tuple[DeviceAsk, ...], int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        asks = Counter(
            (task.request.gpu, task.request.cpu_milli, task.request.memory_mib)
            for workload in self.snapshot.workloads
            for task in workload.tasks
            if task.request.gpu
        )
        self.kinds = [(*ask, count) for ask, count in asks.items()]

    def best(self, stocks: Mapping[str, Stock], task: Task, pool: str, at: int) -> str | None:
        """The node for one alternative of a task."""
        found = []
        for name, here in stocks.items():
            if refusal(task, pool, here.node) or not roomy(here, task.request, at):
                continue
            found.append((self._key(here, task, at), name))
        return min(found)[1] if found else None

    def _key(self, here: Stock, task: Task, at: int) -> tuple[Any, ...]:
        """Smaller is better, first difference wins; then the name."""
        request = task.request
        likes = self._likes(here.node, task)
        if request.slices:
            cut = lay(here, here.cut, one_by_one(request.slices))
            assert cut is not None
            left = total_worth(here, here.cut)
            empty = total_worth(here, {index: {} for index in here.cut})
            return (-likes, left - total_worth(here, cut), self._filled(here.node, "gpu", left, empty))
        if not request.gpu:
            filled = self._filled(here.node, "cpu", here.cpu, here.node.cpu_milli)
            return (-likes, bool(here.node.devices), filled, self._broken(here, task, at))
        ask = request.gpu[at]
        shared = [here.free[index] for index in fit(here, ask) if here.free[index] < 1000]
        fullest = min(shared, default=1000) if ask.memory_mib or ask.milli < 1000 else 0
        filled = self._filled(here.node, "gpu", sum(here.free.values()), 1000 * len(here.free))
        return (-likes, fullest, filled, self._broken(here, task, at))

    def _likes(self, node: Node, task: Task) -> int:
        soft = [
            taint for taint in node.taints
            if taint.effect == "PreferNoSchedule" and not any(
                bearing.effect in ("", taint.effect) and bearing.key in ("", taint.key)
                and (bearing.operator == "Exists" or (bearing.key != "" and bearing.value == taint.value))
                for bearing in task.tolerations
            )
        ]  # fmt: skip
        preferred = task.affinity.preferred if task.affinity is not None else ()
        liked = [
            weight
            for weight, term in preferred
            if (term.labels or term.fields)
            and all(is_true(row, node.labels.get(row.key)) for row in term.labels)
            and all(is_true(row, node.name) for row in term.fields)
        ]
        return sum(liked) - TAINT * len(soft)

    def _filled(self, node: Node, what: str, free: int, total: int) -> Fraction:
        """Pack: the least free; spread: the largest part of it. Pools of both kinds don't meet in one comparison."""
        policy = self.snapshot.policy
        strategy = getattr(policy.pools.get(node.pool, policy.placement), what)
        return Fraction(free) if strategy == "pack" else -Fraction(free, max(total, 1))

    def _broken(self, here: Stock, task: Task, at: int) -> int:
        """How much more of the node work of the usual kinds can't use once the task is there."""
        after = dict(here.free)
        if task.request.gpu:
            ask = task.request.gpu[at]
            room = fit(here, ask)
            for index in sorted(room, key=lambda index: (here.free[index], index))[: ask.devices]:
                after[index] -= room[index]
        left = Stock(
            here.node, here.cpu - task.request.cpu_milli, here.memory - task.request.memory_mib, 1, {}, after, {}
        )  # fmt: skip
        return self._fragments(left) - self._fragments(here)

    def _fragments(self, here: Stock) -> int:
        idle, lost = sum(here.free.values()), 0
        for asks, cpu, memory, count in self.kinds:
            usable = 0
            for ask in asks if here.cpu >= cpu and here.memory >= memory else ():
                room = fit(here, ask)
                if len(room) >= ask.devices:
                    usable = max(usable, sum(here.free[index] for index in room))
            lost += count * (idle - usable)
        return lost


def roomy(here: Stock, request: Request, at: int) -> bool:
    """Whether a node has room for one alternative of an ask."""
    return (
        here.tasks >= 1
        and here.cpu >= request.cpu_milli
        and here.memory >= request.memory_mib
        and all(here.extended.get(name, 0) >= amount for name, amount in request.extended.items())
        and (not request.gpu or len(fit(here, request.gpu[at])) >= request.gpu[at].devices)
        and (not request.slices or (bool(here.cut) and lay(here, here.cut, one_by_one(request.slices)) is not None))
    )  # fmt: skip


def shares_on(here: Stock, now: Stock, request: Request, at: int) -> tuple[DeviceShare, ...]:
    """The devices that a task takes of its node: those that are free now first, then the fullest, then the lowest."""
    if request.slices:
        cut = lay(here, here.cut, one_by_one(request.slices))
        assert cut is not None
        more = {
            index: {name: count - here.cut[index].get(name, 0) for name, count in held.items()}
            for index, held in cut.items()
        }
        rows = {index: {name: count for name, count in held.items() if count} for index, held in more.items()}
        return tuple(DeviceShare(index, 0, held) for index, held in sorted(rows.items()) if held)
    if not request.gpu:
        return ()
    room = fit(here, request.gpu[at])
    order = sorted(room, key=lambda index: (now.free[index] < room[index], here.free[index], index))
    return tuple(DeviceShare(index, room[index]) for index in sorted(order[: request.gpu[at].devices]))


# A whole decision


@dataclass
class Settled:
    """Where a task goes, and whether it has to wait for others to leave."""

    task: Task
    node: str
    shares: tuple[DeviceShare, ...]
    waits: bool


class Slowly:
    """Free room given out in order; `left`: who got none."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.rules = Rules(snapshot)
        self.now = {node.name: stock(node) for node in snapshot.nodes}
        self.later = {node.name: stock(node) for node in snapshot.nodes}
        self.settled: list[Settled] = []
        self.left: list[Workload] = []
        for _, task in holding(snapshot):
            self.now[task.node or ""].take(task.request, task.devices)
            if task.state != "releasing":
                self.later[task.node or ""].take(task.request, task.devices)
        waiting = [row for row in snapshot.workloads if row.tasks[0].state == "pending"]
        for workload in sorted(waiting, key=lambda row: (-row.priority, row.submitted_ms, row.name)):
            found = self._place(workload.tasks[0], workload.pool)
            if found is None:
                self.left.append(workload)
            else:
                self.settled.append(found)

    def _place(self, task: Task, pool: str) -> Settled | None:
        for waits, stocks in ((False, self.now), (True, self.later)):
            for at in range(max(1, len(task.request.gpu))):
                name = self.rules.best(stocks, task, pool, at)
                if name is not None:
                    shares = shares_on(stocks[name], self.now[name], task.request, at)
                    self.later[name].take(task.request, shares)
                    if waits:
                        self.now[name].cap(self.later[name])
                    else:
                        self.now[name].take(task.request, shares)
                    return Settled(task, name, shares, waits)
        return None


def holding(snapshot: Snapshot) -> Iterator[tuple[Workload, Task]]:
    """All tasks that hold room."""
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.state in HOLDING and task.node is not None:
                yield workload, task


# Why not


def reasons(stocks: Mapping[str, Stock], task: Task, pool: str) -> dict[str, int]:
    """How many nodes can't take a task, by the first reason of the list that applies."""
    counts: Counter[str] = Counter()
    for here in stocks.values():
        why = _reason(here, task, pool)
        if why is not None:
            counts[why] += 1
    return dict(counts)


def _reason(here: Stock, task: Task, pool: str) -> NodeReason | None:
    node, request = here.node, task.request
    words = refusal(task, pool, node)
    if words:
        starts: dict[str, NodeReason] = {
            "is not ready": "NotReady", "is cordoned": "Cordoned", "is in pool": "WrongPool",
            "has taint": "TaintNotTolerated", "does not match": "AffinityMismatch", "has ": "SelectorMismatch",
        }  # fmt: skip
        return next(why for start, why in starts.items() if words.startswith(start))
    tests: list[tuple[NodeReason, bool]] = [
        ("ModelMismatch", _lacks_gpus(here, request) and any(_other_model(here, ask) for ask in request.gpu)),
        ("NotEnoughGpu", _lacks_gpus(here, request)),
        ("NotEnoughSlices", bool(request.slices) and lay(here, here.cut, one_by_one(request.slices)) is None),
        ("NotEnoughCpu", here.cpu < request.cpu_milli),
        ("NotEnoughMemory", here.memory < request.memory_mib),
        ("NotEnoughExtended", any(here.extended.get(name, 0) < amount for name, amount in request.extended.items())),
        ("TooManyTasks", here.tasks < 1),
    ]  # fmt: skip
    return next((why for why, fails in tests if fails), None)


def _lacks_gpus(here: Stock, request: Request) -> bool:
    return bool(request.gpu) and all(len(fit(here, ask)) < ask.devices for ask in request.gpu)


def _other_model(here: Stock, ask: DeviceAsk) -> bool:
    able = [index for index in here.free if needed(ask, device_of(here.node, index)) is not None]
    return bool(ask.model) and len(able) < ask.devices <= len(here.free)


def possible(nodes: Iterable[Node], task: Task, pool: str) -> bool:
    """Whether any node could take a task if it were empty."""
    return any(
        not refusal(task, pool, node) and roomy(stock(node), task.request, at)
        for node in nodes
        for at in range(max(1, len(task.request.gpu)))
    )


def short(stocks: Mapping[str, Stock], task: Task, pool: str) -> tuple[str, dict[str, int]]:
    """The node that lacks least for a task, the first of several, and what it lacks."""
    found = []
    for name, here in stocks.items():
        if not refusal(task, pool, here.node):
            lacks = _lacks(here, task.request)
            found.append((list(lacks.values()), name, lacks))
    if not found:
        return "", {}
    _, name, lacks = min(found, key=lambda row: row[:2])
    return name, {resource: lack for resource, lack in lacks.items() if lack}


def _lacks(here: Stock, request: Request) -> dict[str, int]:
    lacks = {
        "gpu": min((_gpu_lack(here, ask) for ask in request.gpu), default=0),
        "cpu": max(0, request.cpu_milli - here.cpu),
        "memory": max(0, request.memory_mib - here.memory),
    }
    for name, amount in sorted(request.extended.items()):
        lacks[name] = max(0, amount - here.extended.get(name, 0))
    cut = here.cut
    lacks.update(dict.fromkeys(sorted(request.slices), 0))
    for profile in one_by_one(request.slices):
        options = _ways(here, cut, profile)
        if options:
            cut = _plus(cut, options[0][2], profile)
        else:
            lacks[profile] += 1
    return {**lacks, "tasks": max(0, 1 - here.tasks)}


def _gpu_lack(here: Stock, ask: DeviceAsk) -> int:
    """Of so many devices what each lacks, the best ones taken; of whole ones each that isn't free lacks all."""
    whole = ask.milli == 1000 and not ask.memory_mib
    nothing = 1000 if ask.memory_mib else ask.milli
    each = []
    for index, free in here.free.items():
        need = needed(ask, device_of(here.node, index))
        lack = nothing if need is None else max(0, need - free)
        each.append(1000 if whole and lack else lack)
    each += [nothing] * ask.devices
    return sum(sorted(each)[: ask.devices])
