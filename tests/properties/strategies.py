"""Clusters drawn by hypothesis: small, crowded, and with every field that this version honours."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from gpumax.loop.verify.slices import can_hold
from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node, Taint
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot, Strategy
from gpumax.model.workload import (
    Affinity,
    DeviceAsk,
    DeviceLimit,
    DeviceShare,
    Expression,
    Group,
    NodeTerm,
    Request,
    Task,
    TaskState,
    Toleration,
    Workload,
)
from gpumax.units import MILLI, UNLIMITED
from properties.standing import APPS, COMPANY, LABELS, TOPOLOGY, WISHES, ZONES, grouped, neighbours

Draw = Callable[..., int]

NOW_MS = 1_000_000_000_000
MINUTE_MS = 60_000
GIB = 1024

_SOFT = Taint("noisy", "", "PreferNoSchedule")
_HARD = Taint("team", "x", "NoSchedule")
_BEARS = Toleration("team", "Equal", "x", "NoSchedule")

devices = st.builds(
    Device,
    index=st.just(0),
    model=st.sampled_from(("H100", "H100", "H100", "A100")),
    memory_mib=st.sampled_from((80 * GIB, 80 * GIB, 40 * GIB)),
    healthy=st.sampled_from((True,) * 9 + (False,)),
)


CUT = {"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}
cut_devices = st.builds(
    Device,
    index=st.just(0),
    model=st.sampled_from(("A100", "A100", "unheard-of")),
    memory_mib=st.just(40 * GIB),
    healthy=st.sampled_from((True,) * 9 + (False,)),
    slices=st.just(CUT),
)


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    """A machine of up to four devices."""
    kinds = devices if draw(st.integers(0, 4)) else devices | cut_devices
    drawn = draw(st.lists(kinds, min_size=draw(st.sampled_from((0, 1, 2, 2))), max_size=4))
    rare = draw(st.integers(0, 29))
    return Node(
        name=name,
        pool=draw(st.sampled_from(("", "", "", "p"))),
        cpu_milli=draw(st.sampled_from((16_000, 16_000, 4_000))),
        memory_mib=draw(st.sampled_from((128 * GIB, 128 * GIB, 16 * GIB))),
        tasks=3 if rare == 0 else None,
        devices=tuple(Device(i, d.model, d.memory_mib, d.healthy, d.slices) for i, d in enumerate(drawn)),
        extended={"nic": 1} if rare in (1, 2, 3) else {},
        labels={**draw(st.sampled_from(LABELS)), "host": name},
        taints=(_HARD,) if rare == 4 else (_SOFT,) if rare == 5 else (),
        ready=rare != 6,
        cordoned=rare == 7,
    )


@st.composite
def queues(draw: st.DrawFn, name: str, parent: str | None) -> Queue:
    """A queue with a quota of up to four devices."""
    gpus = st.sampled_from((0, 0, 1, 2, 4)).map(lambda count: count * MILLI)
    cores = draw(st.sampled_from((UNLIMITED, UNLIMITED, 8_000, 0)))
    limited = draw(st.integers(0, 5)) == 0
    return Queue(
        name=name,
        parent=parent,
        priority=draw(st.sampled_from((100, 100, 100, 200))),
        quota=Amounts(draw(gpus), cores, draw(st.sampled_from((UNLIMITED, UNLIMITED, 32 * GIB)))),
        limit=Amounts(
            draw(gpus) + 500 if limited else UNLIMITED,
            draw(st.sampled_from((UNLIMITED, UNLIMITED, UNLIMITED, 8_000))),
            UNLIMITED,
        ),
        weight=Amounts(draw(st.sampled_from((1000, 2000, 0))), 1000, 1000),
        created_ms=draw(st.integers(0, 2)),
        preempt_min_runtime_ms=draw(st.sampled_from((None, None, None, 0, 20 * MINUTE_MS))),
        reclaim_min_runtime_ms=draw(st.sampled_from((None, None, None, 0, 20 * MINUTE_MS))),
        usage=Amounts(draw(st.sampled_from((0, 0, 300_000))), 0, 0),
        demote=draw(st.sampled_from((None, None, (), (1, 2_500)))),
    )


@st.composite
def trees(draw: st.DrawFn) -> tuple[Queue, ...]:
    """Up to six queues, at most three deep."""
    found: list[Queue] = []
    for name in "abcdef"[: draw(st.integers(1, 6))]:
        above = [None, *(queue.name for queue in found if _depth(found, queue) < 2)]
        found.append(draw(queues(name, draw(st.sampled_from(above)))))
    return tuple(found)


def _depth(tree: list[Queue], queue: Queue) -> int:
    parents = {row.name: row.parent for row in tree}
    depth, above = 0, queue.parent
    while above is not None:
        depth, above = depth + 1, parents[above]
    return depth


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Whole devices, parts, memory of a device, alternatives, or none at all."""
    slices: dict[str, int] = {}
    match draw(st.integers(0, 10)):
        case 0 | 1 | 2:
            gpu: tuple[DeviceAsk, ...] = (DeviceAsk(draw(st.integers(1, 3))),)
        case 3 | 4:
            gpu = (DeviceAsk(draw(st.integers(1, 2)), draw(st.sampled_from((250, 500, 600)))),)
        case 5:
            gpu = (DeviceAsk(1, MILLI, draw(st.sampled_from((10 * GIB, 30 * GIB, 60 * GIB)))),)
        case 6:
            gpu = (
                DeviceAsk(draw(st.integers(1, 2)), model="H100"),
                DeviceAsk(draw(st.integers(1, 3)), model="A100"),
            )
        case 7:
            gpu = ()
        case 10:
            gpu = ()
            slices = draw(
                st.dictionaries(st.sampled_from(sorted(CUT)), st.integers(1, 2), min_size=1, max_size=2)
            )
        case _:
            gpu = (DeviceAsk(1),)
    return Request(
        gpu=gpu,
        cpu_milli=draw(st.sampled_from((0, 0, 1_000, 3_000))),
        memory_mib=draw(st.sampled_from((0, 0, 8 * GIB))),
        extended={"nic": 1} if draw(st.integers(0, 19)) == 0 else {},
        slices=slices,
        limit=DeviceLimit(MILLI, 70 * GIB) if gpu and draw(st.integers(0, 9)) == 0 else None,
    )  # fmt: skip


class Room:
    """What is left of nodes while running work is laid out."""

    def __init__(self, rows: tuple[Node, ...]) -> None:
        self.nodes = {node.name: node for node in rows}
        self.cpu = {node.name: node.cpu_milli for node in rows}
        self.memory = {node.name: node.memory_mib for node in rows}
        self.tasks = {node.name: 99 if node.tasks is None else node.tasks for node in rows}
        self.extended = {node.name: dict(node.extended) for node in rows}
        self.devices = {
            (node.name, device.index): 0 if device.slices else MILLI
            for node in rows
            for device in node.devices
        }
        self.slices: dict[tuple[str, int], dict[str, int]] = {}

    def take(self, name: str, request: Request) -> tuple[DeviceShare, ...] | None:
        """Put a task on a node, on the first devices that fit; None where it doesn't fit."""
        if (
            self.cpu[name] < request.cpu_milli
            or self.memory[name] < request.memory_mib
            or not self.tasks[name]
        ):
            return None
        if any(self.extended[name].get(key, 0) < amount for key, amount in request.extended.items()):
            return None
        shares = self._shares(name, request)
        if shares is None:
            return None
        for share in shares:
            self.devices[name, share.index] -= share.milli
        self.cpu[name] -= request.cpu_milli
        self.memory[name] -= request.memory_mib
        self.tasks[name] -= 1
        for key, amount in request.extended.items():
            self.extended[name][key] -= amount
        return shares

    def _cut(self, name: str, request: Request) -> tuple[DeviceShare, ...] | None:
        """All slices on the first device that can take them."""
        for device in self.nodes[name].devices:
            held = dict(self.slices.get((name, device.index), {}))
            for profile, count in request.slices.items():
                held[profile] = held.get(profile, 0) + count
            if can_hold(device, held):
                self.slices[name, device.index] = held
                return (DeviceShare(device.index, 0, request.slices),)
        return None

    def _shares(self, name: str, request: Request) -> tuple[DeviceShare, ...] | None:
        if request.slices:
            return self._cut(name, request)
        if not request.gpu:
            return ()
        ask = request.gpu[0]
        found: list[DeviceShare] = []
        for device in self.nodes[name].devices:
            need = ask.milli if not ask.memory_mib else -(-MILLI * ask.memory_mib // device.memory_mib)
            fits = need <= self.devices[name, device.index] and ask.model in ("", device.model)
            if fits and len(found) < ask.devices:
                found.append(DeviceShare(device.index, need))
        return tuple(found) if len(found) == ask.devices else None


@st.composite
def workloads(
    draw: st.DrawFn, name: str, leaves: tuple[str, ...], room: Room, kinds: st.SearchStrategy[int]
) -> Workload:
    """A workload whose running tasks have room; what finds none waits."""
    wishes = draw(kinds)
    roles = ("x", "y") if draw(st.integers(0, 5)) == 0 else ("",)
    counts = [draw(st.sampled_from((1, 1, 2, 3, 4, 6))) for _ in roles]
    asks = [draw(requests()) for _ in roles]
    starts: TaskState = draw(
        st.sampled_from(("running", "running", "running", "bound", "pending", "pending"))
    )
    tasks: list[Task] = []
    together = wishes in (4, 5, 6)
    # What stands together runs together as a rule; in some files it doesn't.
    home = sorted(room.nodes)
    if together and home and draw(st.integers(0, 9)):
        home = neighbours(room.nodes.values(), draw(st.sampled_from(home)))
    for role, count, ask in zip(roles, counts, asks, strict=True):
        for _ in range(count):
            common = Task(
                name=f"{name}-{len(tasks)}", group=role, request=ask,
                priority=draw(st.sampled_from((0, 0, 0, 5))),
                selector={"zone": draw(st.sampled_from(ZONES))} if wishes == 0 else {},
                affinity=_affinity(draw) if wishes == 1 else draw(COMPANY) if wishes in (7, 8) else None,
                labels=draw(APPS) if wishes in (8, 9) else {},
                tolerations=(_BEARS,) if wishes == 2 else (),
            )  # fmt: skip
            tasks.append(_laid_out(draw, common, starts, room, home))
    priority = draw(st.sampled_from((50, 50, 50, 25, 75, 100)))
    groups = tuple(
        Group(role, draw(st.integers(1, count))) for role, count in zip(roles, counts, strict=True)
    )
    return Workload(
        name=name,
        queue=draw(st.sampled_from((*leaves * 4, "missing") if draw(st.integers(0, 19)) == 0 else leaves)),
        priority=priority,
        preemptible="semi" if draw(st.integers(0, 4)) == 0 else priority < 100,
        submitted_ms=NOW_MS - draw(st.integers(0, 3)) * MINUTE_MS - 60 * MINUTE_MS,
        started_ms=None if starts == "pending" else NOW_MS - draw(st.integers(1, 40)) * MINUTE_MS,
        checkpointed_ms=draw(st.sampled_from((None, None, NOW_MS - MINUTE_MS))),
        max_duration_ms=draw(st.sampled_from((None, None, 60 * MINUTE_MS))),
        pool="p" if wishes == 3 else "",
        labels=draw(APPS),
        groups=draw(grouped(groups)) if wishes == 6 else groups,
        tasks=tuple(tasks),
        stale_since_ms=draw(st.sampled_from((None, None, NOW_MS - 30_000, NOW_MS - 10 * MINUTE_MS))),
        topology=draw(WISHES) if together else None,
    )


def _laid_out(draw: st.DrawFn, task: Task, starts: TaskState, room: Room, home: list[str]) -> Task:
    """The task running where it fits, seldom in another state; else waiting."""
    if starts == "pending" or not room.nodes:
        state: TaskState = "gated" if draw(st.integers(0, 19)) == 0 else "pending"
        return _as(task, state, None, ())
    rare = draw(st.integers(0, 19))
    if rare < 2:
        return _as(task, ("succeeded", "failed")[rare], None, ())
    node = draw(st.sampled_from(home))
    shares = room.take(node, task.request)
    if shares is None:
        return _as(task, "pending", None, ())
    state = "releasing" if rare < 4 else starts
    # Some files don't say which devices are held.
    return _as(task, state, node, () if rare == 19 else shares)


def _as(task: Task, state: TaskState, node: str | None, shares: tuple[DeviceShare, ...]) -> Task:
    return Task(
        task.name, task.group, state, node, shares, task.priority, task.selector, task.affinity, task.tolerations,
        task.labels, request=task.request,
    )  # fmt: skip


def _affinity(draw: st.DrawFn) -> Affinity:
    wished = draw(
        st.sampled_from(
            (
                Expression("zone", "In", ("a",)),
                Expression("zone", "NotIn", ("a",)),
                Expression("zone", "Exists"),
            )
        )
    )
    term = NodeTerm((wished,))
    return Affinity((term,) if draw(st.booleans()) else None, ((10, term),))


@st.composite
def snapshots(
    draw: st.DrawFn, most_nodes: int = 8, most_workloads: int = 10, *, tied: bool = False
) -> Snapshot:
    """A cluster in the middle of its work. tied: as a rule tasks have others that they must be near, or away from."""
    kinds = st.sampled_from((4, 7, 8, 8, 9)) if tied else st.integers(0, 11)
    rows = tuple(
        draw(nodes(f"n{number}"))
        for number in range(draw(st.integers(1, draw(st.sampled_from((2, 3, most_nodes))))))
    )
    tree = draw(trees())
    parents = {queue.parent for queue in tree}
    leaves = tuple(queue.name for queue in tree if queue.name not in parents)
    room = Room(rows)
    work = tuple(
        draw(workloads(f"w{number}", leaves, room, kinds))
        for number in range(draw(st.integers(1, most_workloads)))
    )
    packs: tuple[Strategy, ...] = ("pack", "pack", "spread", "dense")
    strategy = st.sampled_from(packs)
    policy = Policy(
        placement=Placement(draw(strategy), draw(strategy)),
        stale_grace_ms=draw(st.sampled_from((60_000, 60_000, 0, 60 * MINUTE_MS))),
        reserve_after_ms=draw(st.sampled_from((60, 60, 60, 0, 600))) * MINUTE_MS,
        max_evictions=draw(st.sampled_from((0, 0, 0, 2))),
        pools={"p": Placement("spread")} if draw(st.integers(0, 5)) == 0 else {},
    )
    work = tuple(sorted(work, key=lambda workload: workload.name))
    return Snapshot(NOW_MS, rows, tree, work, policy, (TOPOLOGY,))
