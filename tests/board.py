"""Clusters drawn as text, so that a test shows its whole state at a glance.

    n1: aaaa....        eight GPUs of node n1, four of them held by workload a
    n1: [a5.5]......    one GPU shared: a holds half of it
    n1: xaa             an unhealthy GPU
    n1: (a1b3)          an A100 that is cut (MIG): a holds a slice of one compute part, b one of three

Every letter is a workload of one-GPU tasks unless `Sketch.run` says otherwise; a dot is a free GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from gpumax.model.amounts import BOUNDLESS, Amounts
from gpumax.model.decision import Decision
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot, Topology
from gpumax.model.workload import (
    DeviceAsk,
    DeviceShare,
    Group,
    Preemptible,
    Request,
    Task,
    TaskState,
    Workload,
)
from gpumax.policy.decide import decide
from gpumax.units import MILLI, UNLIMITED

NOW_MS = 1_000_000_000_000
MINUTE_MS = 60_000
T = TypeVar("T")
_CELL = re.compile(r"\[([^\]]*)\]|\([^)]*\)|(.)")
SLICES = {"1g.5gb": 7, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}
_OF_TASKS = ("selector", "tolerations", "affinity")
_PART = re.compile(r"([A-Za-z.])(\d)")


def gpus(count: float, *, memory_mib: int = 0, model: str = "") -> Request:
    """A request of whole GPUs, of a part of one, or of its memory."""
    if memory_mib:
        return Request(gpu=(DeviceAsk(1, MILLI, memory_mib, model),))
    if count == 0:
        return Request()
    whole = count >= 1
    return Request(
        gpu=(DeviceAsk(int(count) if whole else 1, MILLI if whole else round(count * MILLI), 0, model),)
    )


def queue(name: str, quota: float = 0, *, limit: float | None = None, weight: float | None = None, parent: str | None = None, priority: int = 100, created: int = 0, min_runtime_ms: int | None = None, preempt_ms: int | None = None) -> Queue:  # fmt: skip
    """A queue measured in GPUs; cores and memory are unlimited, as tests about GPUs want them."""
    weight_milli = round((weight if weight is not None else quota or 1) * MILLI)
    return Queue(
        name=name, parent=parent, priority=priority, created_ms=created,
        quota=Amounts(round(quota * MILLI), UNLIMITED, UNLIMITED),
        limit=BOUNDLESS if limit is None else Amounts(round(limit * MILLI), UNLIMITED, UNLIMITED),
        weight=Amounts(weight_milli, 1000, 1000), reclaim_min_runtime_ms=min_runtime_ms, preempt_min_runtime_ms=preempt_ms,
    )  # fmt: skip


@dataclass
class Sketch:
    """A cluster being drawn. `nodes` as in the module's docstring, one a line; then queues and workloads by method."""

    nodes: str
    policy: Policy = field(default_factory=Policy)
    memory_mib: int = 80 * 1024
    queues: list[Queue] = field(default_factory=list)
    workloads: dict[str, Workload] = field(default_factory=dict)
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    topologies: tuple[Topology, ...] = ()

    def with_queues(self, *queues: Queue) -> Sketch:
        """Add queues."""
        self.queues += queues
        return self

    def node(self, name: str, **changes: Any) -> Sketch:
        """Fields of a node that the picture doesn't show."""
        self.extra[name] = {**self.extra.get(name, {}), **changes}
        return self

    def stand(self, **domains: str) -> Sketch:
        """Domains of the topology `default`: `r1="n1 n2", r2="n3"`, or of two levels: `a__r1="n1 n2"`."""
        levels = max(path.count("__") for path in domains)
        labels = ("zone", "rack") if levels else ("rack",)
        self.topologies = (Topology("default", labels),)
        for path, names in domains.items():
            for name in names.split():
                self.node(name, labels=dict(zip(labels, path.split("__"), strict=False)))
        return self

    def run(self, letter: str, queue: str, **changes: Any) -> Sketch:
        """A workload that the picture shows running. min: its gang's minimum; unset: every task by itself."""
        return self._add(letter, queue, "running", **changes)

    def wait(self, letter: str, queue: str, tasks: int = 1, gpu: float = 1, request: Request | None = None, **changes: Any) -> Sketch:  # fmt: skip
        """A workload that waits with so many tasks of so many GPUs each; a gang unless min says otherwise."""
        return self._add(letter, queue, "pending", tasks=tasks, request=request or gpus(gpu), **changes)

    def change(self, letter: str, **changes: Any) -> Sketch:
        """Fields of a workload that was added."""
        self.workloads[letter] = _changed(self.workloads[letter], changes)
        return self

    def _add(self, letter: str, queue: str, state: TaskState, *, tasks: int = 0, request: Request | None = None, min: int | None = None, groups: tuple[Group, ...] = (), priority: int = 50, preemptible: Preemptible | None = None, submitted: int = 0, started: int | None = None, state_: TaskState | None = None, **changes: Any) -> Sketch:  # fmt: skip
        known = self.workloads.get(letter)
        rows = (
            list(known.tasks)
            if known
            else self._running(letter, state_ or "running")
            if state == "running"
            else []
        )
        fresh = [
            Task(name=f"{letter}-{len(rows) + number}", state=state, request=request or gpus(1))
            for number in range(tasks)
        ]
        task_changes = {key: changes.pop(key) for key in list(changes) if key in _OF_TASKS}
        fresh = [_changed(task, task_changes) for task in fresh]
        if state == "running":
            rows = [_changed(task, task_changes) for task in rows]
        rows += fresh
        count = len(rows)
        self.workloads[letter] = _changed(
            Workload(
                name=letter, queue=queue, priority=priority,
                preemptible=priority < 100 if preemptible is None else preemptible,
                submitted_ms=NOW_MS - 60 * MINUTE_MS + submitted,
                started_ms=NOW_MS - 30 * MINUTE_MS + (started or 0) if state == "running" or known else None,
                groups=groups or (Group("", count if min is None else min),), tasks=tuple(rows),
            ),
            changes,
        )  # fmt: skip
        return self

    def _running(self, letter: str, state: TaskState) -> list[Task]:
        """Every cell of the letter is a task; parts of GPUs as written."""
        found: list[Task] = []
        for name, cells in self._lines():
            for index, cell in enumerate(cells):
                for owner, share in _sliced(index, cell):
                    if owner == letter:
                        request = Request(slices=share.slices)
                        found.append(
                            Task(f"{letter}-{len(found)}", "", state, name, (share,), request=request)
                        )
                for owner, milli in _holders(cell):
                    if owner == letter:
                        request = gpus(1 if milli == MILLI else milli / MILLI)
                        found.append(
                            Task(
                                name=f"{letter}-{len(found)}", state=state, node=name, request=request,
                                devices=(DeviceShare(index, milli),),
                            )
                        )  # fmt: skip
        return found

    def _lines(self) -> list[tuple[str, list[str]]]:
        lines = []
        for line in self.nodes.strip().splitlines():
            name, _, picture = line.strip().partition(":")
            lines.append((name.strip(), [match[0] for match in _CELL.finditer(picture.strip())]))
        return lines

    def snapshot(self) -> Snapshot:
        """What the policy sees."""
        nodes = [
            _changed(
                Node(
                    name=name, cpu_milli=1_000_000, memory_mib=1 << 30,
                    devices=tuple(
                        Device(index, "A100", 40 * 1024, slices=SLICES)
                        if cell.startswith("(")
                        else Device(index, "H100", self.memory_mib, healthy=cell != "x")
                        for index, cell in enumerate(cells)
                    ),
                ),
                self.extra.get(name, {}),
            )
            for name, cells in self._lines()
        ]  # fmt: skip
        return Snapshot(
            now_ms=NOW_MS,
            nodes=tuple(sorted(nodes, key=lambda node: node.name)),
            queues=tuple(sorted(self.queues, key=lambda queue: queue.name)),
            workloads=tuple(sorted(self.workloads.values(), key=lambda workload: workload.name)),
            policy=self.policy,
            topologies=self.topologies,
        )


def _changed(thing: T, changes: dict[str, Any]) -> T:
    return msgspec.structs.replace(thing, **changes) if changes else thing  # type: ignore[type-var]


def slices(*parts: int) -> Request:
    """A request of slices of an A100-40GB, by their compute parts."""
    asked: dict[str, int] = {}
    for part in parts:
        asked[_profile(part)] = asked.get(_profile(part), 0) + 1
    return Request(slices=asked)


def _profile(part: int) -> str:
    return next(profile for profile in SLICES if profile.startswith(f"{part}g"))


def _sliced(index: int, cell: str) -> list[tuple[str, DeviceShare]]:
    """Who holds which slice of a device that is cut."""
    if not cell.startswith("("):
        return []
    return [(letter, DeviceShare(index, 0, {_profile(int(part)): 1})) for letter, part in _PART.findall(cell)]


def _holders(cell: str) -> list[tuple[str, int]]:
    if cell.startswith("("):
        return []
    if cell.startswith("["):
        return [(letter, int(tenths) * 100) for letter, tenths in _PART.findall(cell) if letter != "."]
    return [] if cell in ".x" else [(cell, MILLI)]


def after(snapshot: Snapshot, decision: Decision) -> str:
    """The picture once the decision is carried out: evicted tasks gone, placed ones there, moved ones elsewhere."""
    cells = {
        node.name: {device.index: {} if device.healthy else {"x": MILLI} for device in node.devices}
        for node in snapshot.nodes
    }  # type: dict[str, dict[int, dict[str, int]]]
    gone = {eviction.task for eviction in decision.evictions}
    owner = {task.name: workload.name for workload in snapshot.workloads for task in workload.tasks}

    def hold(task: str, node: str, devices: tuple[DeviceShare, ...]) -> None:
        for share in devices:
            held = cells[node][share.index]
            for profile, count in share.slices.items():
                held[f"{owner[task]}{profile[0]}"] = held.get(f"{owner[task]}{profile[0]}", 0) + count
            if share.milli:
                held[owner[task]] = held.get(owner[task], 0) + share.milli

    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.state in ("bound", "running") and task.node is not None and task.name not in gone:
                hold(task.name, task.node, task.devices)
    for eviction in decision.evictions:
        if eviction.restarts_on is not None:
            hold(eviction.task, eviction.restarts_on, eviction.devices)
    for place in decision.places:
        hold(place.task, place.node, place.devices)
    cut = {node.name: {device.index for device in node.devices if device.slices} for node in snapshot.nodes}
    return "\n".join(
        f"{name}: {''.join(_cell(held, cut=index in cut[name]) for index, held in devices.items())}"
        for name, devices in cells.items()
    )


def _cell(held: dict[str, int], *, cut: bool) -> str:
    if cut:
        return f"({''.join(name * count for name, count in sorted(held.items()))})"
    if not held:
        return "."
    if list(held.values()) == [MILLI]:
        return next(iter(held))
    parts = [f"{name}{milli // 100}" for name, milli in sorted(held.items())]
    free = MILLI - sum(held.values())
    return f"[{''.join(parts)}{f'.{free // 100}' if free else ''}]"


def picture(text: str) -> str:
    """A picture with its indentation removed, to compare with `after`."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def check(sketch: Sketch, expected: str, *, held: str = "", evicted: int | None = None) -> Decision:
    """Decide on the sketch; the picture afterwards, the workloads held, and the number of evictions must be as given."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot)
    assert after(snapshot, decision) == picture(expected)
    assert "".join(hold.workload for hold in decision.holds) == held
    if evicted is not None:
        assert len(decision.evictions) == evicted
    return decision
