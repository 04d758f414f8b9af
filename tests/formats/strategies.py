"""Random nouns for round trips: all that a snapshot, a decision and a workload file can say in this version."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from gpumax.model.amounts import RESOURCES, Amounts
from gpumax.model.decision import HOLD_CODES, Cause, Decision, Eviction, Hold, NodeReason, Place, Share
from gpumax.model.names import natural
from gpumax.model.node import Device, Node, Taint
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot, Topology
from gpumax.model.spec import Checkpoint, GroupSpec, WorkloadSpec
from gpumax.model.workload import (
    HOLDING,
    QUEUE_NAME,
    Affinity,
    Company,
    DeviceAsk,
    DeviceShare,
    Expression,
    Group,
    NodeTerm,
    Request,
    Segments,
    Task,
    TaskTerm,
    Toleration,
    TopologyWish,
    Workload,
)
from gpumax.units import LARGEST, UNLIMITED

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,12}", fullmatch=True)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
).filter(str.strip)
MODELS = st.sampled_from(("", "H100", "NVIDIA A100-SXM4 40GB", "MI300X"))
TIMES = st.integers(0, 253_402_300_799_999)
DURATIONS = st.integers(1, 10_000_000_000)
COUNTS = st.integers(0, LARGEST)
MAPS = st.dictionaries(NAMES, TEXT, max_size=3).map(lambda entries: dict(sorted(entries.items())))
EXTENDED = st.dictionaries(NAMES, COUNTS, max_size=2).map(lambda entries: dict(sorted(entries.items())))


def _amounts(*, unlimited: bool = False) -> st.SearchStrategy[Amounts]:
    one = COUNTS | st.just(UNLIMITED) if unlimited else COUNTS
    return st.builds(Amounts, one, one, one)


def _unique(rows: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    """Rows with different names, in the order of names."""
    return st.lists(rows, max_size=most, unique_by=lambda row: row.name).map(
        lambda found: tuple(sorted(found, key=lambda row: row.name))
    )


DEVICES = st.lists(st.integers(0, 4095), unique=True, max_size=5).flatmap(
    lambda indexes: st.tuples(
        *(
            st.builds(Device, st.just(index), MODELS, st.integers(0, 1 << 20), st.booleans())
            for index in sorted(indexes)
        )
    )
)
ALIKE = st.builds(
    lambda count, model, memory: tuple(Device(index, model, memory) for index in range(count)),
    st.integers(0, 8), MODELS, st.integers(0, 1 << 20),
)  # fmt: skip
TAINTS = st.builds(Taint, NAMES, TEXT, st.sampled_from(("NoSchedule", "PreferNoSchedule", "NoExecute")))
NODES = st.builds(
    Node, NAMES, NAMES | st.just(""), COUNTS, COUNTS, st.none() | COUNTS, DEVICES | ALIKE, EXTENDED, MAPS,
    st.lists(TAINTS, max_size=2).map(tuple), st.booleans(), st.booleans(),
)  # fmt: skip
QUEUES = st.builds(
    Queue, NAMES, st.none(), st.integers(-(1 << 31), (1 << 31) - 1), _amounts(unlimited=True), _amounts(unlimited=True),
    _amounts(), TIMES, st.none() | DURATIONS, st.none() | DURATIONS, _amounts(),
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> tuple[Queue, ...]:
    """Queues that form a tree."""
    import msgspec

    queues = draw(_unique(QUEUES, 6))
    order = draw(st.permutations(queues))
    parents = {
        queue.name: draw(st.sampled_from([None, *(above.name for above in order[:number])]))
        for number, queue in enumerate(order)
    }
    return tuple(msgspec.structs.replace(queue, parent=parents[queue.name]) for queue in queues)


WHOLE = st.builds(DeviceAsk, st.integers(1, 64), st.just(1000), st.just(0), MODELS)
PARTS = st.builds(DeviceAsk, st.integers(1, 8), st.integers(1, 999), st.just(0), MODELS)
MEMORY = st.builds(DeviceAsk, st.integers(1, 8), st.just(1000), st.integers(1, 1 << 20), MODELS)
REQUESTS = st.builds(
    Request, st.lists(WHOLE | PARTS | MEMORY, max_size=3).map(tuple), COUNTS, COUNTS, EXTENDED
)

EXPRESSIONS = (
    st.builds(
        Expression, NAMES, st.sampled_from(("In", "NotIn")), st.lists(TEXT, min_size=1, max_size=2).map(tuple)
    )
    | st.builds(Expression, NAMES, st.sampled_from(("Exists", "DoesNotExist")))
    | st.builds(
        Expression, NAMES, st.sampled_from(("Gt", "Lt")), st.integers().map(lambda number: (str(number),))
    )
)
FIELDS = st.builds(
    Expression, st.just("metadata.name"), st.just("In"), st.lists(TEXT, min_size=1, max_size=2).map(tuple)
)
TERMS = st.builds(
    NodeTerm, st.lists(EXPRESSIONS, max_size=2).map(tuple), st.lists(FIELDS, max_size=1).map(tuple)
).filter(lambda term: term != NodeTerm())
_SELECTORS = st.none() | st.lists(
    EXPRESSIONS.filter(lambda row: row.operator not in ("Gt", "Lt")), max_size=2
).map(tuple)
_KEYS = st.lists(NAMES, max_size=1).map(tuple)
TASK_TERMS = st.builds(
    TaskTerm, NAMES, _SELECTORS, _KEYS,
    st.none() | st.lists(EXPRESSIONS.filter(lambda row: row.operator == "In"), max_size=1).map(
        lambda rows: tuple(Expression(QUEUE_NAME, row.operator, row.values) for row in rows)
    ),
    _KEYS, _KEYS,
).filter(lambda term: term.labels is not None or not (term.same or term.other))  # fmt: skip
COMPANY = st.builds(
    Company,
    st.lists(TASK_TERMS, max_size=2).map(tuple),
    st.lists(st.tuples(st.integers(1, 100), TASK_TERMS), max_size=1).map(tuple),
)
AFFINITY = st.builds(
    Affinity,
    st.none() | st.lists(TERMS, max_size=2).map(tuple),
    st.lists(st.tuples(st.integers(1, 100), TERMS), max_size=2).map(tuple),
    COMPANY,
    COMPANY,
).filter(lambda affinity: affinity != Affinity())
TOLERATIONS = st.builds(
    Toleration, NAMES, st.just("Equal"), TEXT, st.sampled_from(("", "NoSchedule"))
) | st.builds(
    Toleration, NAMES | st.just(""), st.just("Exists"), st.just(""), st.sampled_from(("", "NoExecute"))
)


TOPOLOGIES = (Topology("default", ("zone", "rack", "host")),)
_LEVELS = st.sampled_from((None, "zone", "rack", "host"))
_SEGMENTS = st.builds(Segments, st.integers(1, 100), _LEVELS.filter(bool), _LEVELS)
WISHES = st.builds(TopologyWish, st.just("default"), _LEVELS, _LEVELS, st.none() | _SEGMENTS).filter(
    lambda wish: wish != TopologyWish("default")
)


@st.composite
def workloads(
    draw: st.DrawFn, name: str, nodes: tuple[Node, ...], room: dict[tuple[str, int], int]
) -> Workload:
    """A workload whose running tasks take of `room`, in milli-devices by node and index."""
    groups = draw(st.lists(NAMES | st.just(""), min_size=1, max_size=3, unique=True))
    tasks = [
        draw(_tasks(f"{name}-{number}", groups[number % len(groups)], nodes, room))
        for number in range(draw(st.integers(len(groups), 5)))
    ]
    present = {group: sum(task.group == group for task in tasks) for group in groups}
    inner = "all of them"
    rows = [Group(group, draw(st.integers(1, present[group] + 2)), None) for group in groups]
    if draw(st.booleans()):
        inner = "zz-all"
        if inner not in groups:
            rows = [Group(row.name, row.min, inner) for row in rows] + [Group(inner, 0)]
    rows = [Group(row.name, row.min, row.parent, draw(st.none() | WISHES)) for row in rows]
    return Workload(
        name, draw(NAMES), draw(st.integers(-(1 << 31), (1 << 31) - 1)), draw(st.booleans()), draw(TIMES),
        draw(st.none() | TIMES), draw(st.none() | TIMES), draw(st.none() | DURATIONS), draw(NAMES | st.just("")), draw(MAPS),
        tuple(sorted(rows, key=lambda row: row.name)), tuple(sorted(tasks, key=lambda task: (natural(task.name), task.name))),
        draw(st.none() | TIMES),
        draw(st.none() | WISHES),
    )  # fmt: skip


@st.composite
def _tasks(
    draw: st.DrawFn, name: str, group: str, nodes: tuple[Node, ...], room: dict[tuple[str, int], int]
) -> Task:
    states = ("pending", "gated", "succeeded", "failed") + (tuple(sorted(HOLDING)) if nodes else ())
    state: Any = draw(st.sampled_from(states))
    node = draw(st.sampled_from(nodes)) if state in HOLDING else None
    shares: list[DeviceShare] = []
    for device in node.devices[: draw(st.integers(0, 3))] if node is not None else ():
        free = room.setdefault((node.name, device.index), 1000) if node is not None else 0
        if free:
            shares.append(DeviceShare(device.index, draw(st.integers(1, free))))
            room[node.name if node else "", device.index] -= shares[-1].milli
    return Task(
        name, group, state, node.name if node else None, tuple(shares), draw(st.integers(-5, 5)), draw(MAPS),
        draw(st.none() | AFFINITY), draw(st.lists(TOLERATIONS, max_size=2).map(tuple)), draw(MAPS), draw(REQUESTS),
        state == "pending" and draw(st.booleans()),
    )  # fmt: skip


_STRATEGIES = st.sampled_from(("pack", "spread", "dense"))
PLACEMENTS = st.builds(Placement, _STRATEGIES, _STRATEGIES)
POLICIES = st.builds(
    Policy, PLACEMENTS, st.integers(0, 10**9), st.integers(0, 10**6), st.integers(1, 10**6),
    st.dictionaries(NAMES, PLACEMENTS, max_size=2).map(lambda entries: dict(sorted(entries.items()))),
    reserve_after_ms=st.integers(0, 10**9),
)  # fmt: skip


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A snapshot that a file can say."""
    nodes = draw(_unique(NODES))
    room: dict[tuple[str, int], int] = {}
    names = sorted(draw(st.sets(LABELS, max_size=3)))
    return Snapshot(
        draw(TIMES),
        nodes,
        draw(trees()),
        tuple(draw(workloads(name, nodes, room)) for name in names),
        draw(POLICIES),
        TOPOLOGIES,
    )


SHARES = st.lists(st.integers(0, 4095), unique=True, max_size=3).flatmap(
    lambda indexes: st.tuples(
        *(st.builds(DeviceShare, st.just(index), st.integers(1, 1000)) for index in sorted(indexes))
    )
)
PLACES = st.builds(Place, NAMES, NAMES, SHARES, st.lists(NAMES, max_size=2).map(tuple))
CAUSES = st.sampled_from(get_args(Cause))
EVICTIONS = st.builds(Eviction, NAMES, CAUSES, NAMES | st.just("")) | st.builds(
    Eviction, NAMES, CAUSES, NAMES, NAMES, SHARES
)
BOUNDED = st.integers(0, LARGEST) | st.just(UNLIMITED)
SHORT = st.dictionaries(
    st.sampled_from((*RESOURCES, "rdma/hca", "tasks")), st.integers(0, LARGEST), max_size=3
)
REASONS = st.dictionaries(st.sampled_from(get_args(NodeReason)), st.integers(0, 10**6), max_size=3)
HOLDS = st.builds(Hold, NAMES, st.sampled_from(tuple(HOLD_CODES)), TEXT, REASONS, SHORT, st.none() | TIMES)
DECISIONS = st.builds(
    Decision,
    st.lists(PLACES, max_size=3).map(tuple),
    st.lists(EVICTIONS, max_size=3).map(tuple),
    st.lists(HOLDS, max_size=3).map(tuple),
    st.lists(
        st.builds(Share, NAMES, st.sampled_from(RESOURCES), BOUNDED, BOUNDED, BOUNDED, BOUNDED), max_size=3
    ).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)

VARIABLES = st.from_regex(r"MY_[A-Z0-9_]{1,6}", fullmatch=True)
ENV = st.dictionaries(VARIABLES, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), max_size=2).map(
    lambda entries: dict(sorted(entries.items()))
)  # fmt: skip


@st.composite
def specs(draw: st.DrawFn) -> WorkloadSpec:
    """A workload as a person may have submitted it."""
    names = draw(st.just([""]) | st.lists(LABELS, min_size=1, max_size=3, unique=True))
    groups = []
    for name in names:
        least = draw(st.integers(1, 20))
        run = draw(WORDS | st.lists(WORDS, min_size=1, max_size=3).map(tuple))
        groups.append(
            GroupSpec(
                name, least, least + draw(st.integers(0, 5)), draw(REQUESTS), run, draw(ENV) if name else {},
                draw(st.integers(0, LARGEST)), draw(MAPS) if name else {}, draw(st.none() | AFFINITY),
            )
        )  # fmt: skip
    checkpoint = st.builds(Checkpoint, st.sampled_from(("", "ckpt", "/abs/x y")), st.none() | DURATIONS)
    return WorkloadSpec(
        draw(LABELS), "team-a", tuple(groups), "training", draw(st.integers(-1000, 1000)), draw(st.booleans()),
        draw(st.sampled_from(("/", "/a b/c", "/é"))), draw(st.sampled_from(("", "python:3.12"))), draw(ENV),
        tuple(sorted(draw(st.sets(st.from_regex(r"S_[A-Z]{1,4}", fullmatch=True), max_size=2)))), draw(st.just("") | WORDS),
        draw(st.none() | DURATIONS), draw(st.integers(0, 10**9)), draw(st.integers(0, 1000)), draw(st.none() | checkpoint),
        draw(MAPS),
    )  # fmt: skip
