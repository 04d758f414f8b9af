"""Queues, and the tree that they form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumax.formats.lines import Key
from gpumax.formats.scalars import (
    NAME,
    Amount,
    Decimal,
    Duration,
    Time,
    Whole,
    write_amount,
    write_duration,
    write_number,
    write_time,
)
from gpumax.formats.shape import ByType, Field, Object, Rows, Shape, Then, Wrongs, show, wrong
from gpumax.model.amounts import BOUNDLESS, NONE, RESOURCES, Amounts
from gpumax.model.queue import Queue
from gpumax.model.workload import Document
from gpumax.units import MILLI, UNLIMITED

MOST_DEEP: Final = 64
"""The most queues from the root to a leaf."""

PRIORITY: Final = Whole(-(1 << 31), (1 << 31) - 1)
"""A priority as a number."""

MILLION: Final = 1_000_000

MOST_STEPS: Final = 16
"""The most steps by which one queue demotes work."""

_QUOTA: Final = Object(
    "Quota",
    {
        name: Field(Amount(name, "down", unlimited=True), "Guaranteed; unset: 0; `unlimited` is allowed.")
        for name in RESOURCES
    },
    Amounts,
)


def _limit(gpu: int = UNLIMITED, cpu: int = UNLIMITED, memory: int = UNLIMITED) -> Amounts:
    return Amounts(gpu, cpu, memory)


_LIMIT: Final = Object(
    "Limit",
    {
        name: Field(Amount(name, "down", unlimited=True), "Never exceeded; unset: unlimited.")
        for name in RESOURCES
    },
    _limit,
)
_WEIGHT_NUMBER: Final = Decimal(MILLI)


def _same(weight: int) -> dict[str, int]:
    return dict.fromkeys(RESOURCES, weight)


_WEIGHT: Final[Shape[dict[str, int]]] = ByType(
    "a number, or one for each resource like {gpu: 2}",
    number=Then(_WEIGHT_NUMBER, _same),
    text=Then(_WEIGHT_NUMBER, _same),
    object=Object(
        "Weight",
        {
            name: Field(_WEIGHT_NUMBER, "Unset: the quota, or 1 where that is 0 or unlimited.")
            for name in RESOURCES
        },
        dict,
    ),
)
_USAGE: Final = Object(
    "Usage",
    {name: Field(Decimal(MILLION), "Decayed past use as a part of the cluster.") for name in RESOURCES},
    Amounts,
)


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if any(step <= before for before, step in zip((0, *steps), steps, strict=False)):
        found = ", ".join(str(write_number(step)) for step in steps)
        raise wrong(found, "numbers above 0, each larger than the one before")
    return steps


def _default_weight(quota: Amounts) -> dict[str, int]:
    """The quota as a plain number: devices, cores, GiB. Thousandths."""
    plain = {
        "gpu": quota.gpu,
        "cpu": quota.cpu,
        "memory": max(quota.memory * 1000 // 1024, min(quota.memory, 1)),
    }
    return {
        name: plain[name] if 0 < amount < UNLIMITED else 1000
        for name, amount in zip(RESOURCES, quota.vector(), strict=True)
    }


def _queue(
    name: str,
    parent: str | None = None,
    priority: int = 100,
    quota: Amounts = NONE,
    limit: Amounts = BOUNDLESS,
    weight: Mapping[str, int] | None = None,
    created_ms: int = 0,
    preempt_min_runtime_ms: int | None = None,
    reclaim_min_runtime_ms: int | None = None,
    usage: Amounts = NONE,
    demote: tuple[int, ...] | None = None,
    fresh: str | None = None,
) -> Queue:
    weights = Amounts(**{**_default_weight(quota), **(weight or {})})
    return Queue(
        name, parent, priority, quota, limit, weights, created_ms, preempt_min_runtime_ms, reclaim_min_runtime_ms, usage,
        demote, fresh,
    )  # fmt: skip


QUEUE_FIELDS: Final[dict[str, Field]] = {
    "name": Field(NAME, "Unique among queues.", required=True),
    "parent": Field(NAME, "The queue that it shares the quota of; unset: it stands at the root."),
    "priority": Field(PRIORITY, "Higher is served first; unset: 100."),
    "quota": Field(_QUOTA, "What it is guaranteed."),
    "limit": Field(_LIMIT, "What it never exceeds."),
    "weight": Field(_WEIGHT, "Its part of what is left when every quota is served; 0: no share beyond the quota, only what others leave."),
    "created": Field(Time(), "The older queue comes first where all else is equal.", to="created_ms"),
    "preempt_min_runtime": Field(
        Duration(), "Work younger than this is not preempted; unset: the parent's, or 0s.", to="preempt_min_runtime_ms"
    ),
    "reclaim_min_runtime": Field(
        Duration(), "Work younger than this is not reclaimed; unset: the parent's, or 0s.", to="reclaim_min_runtime_ms"
    ),
    "usage": Field(_USAGE, "Past use, for time-based fairness."),
    "demote": Field(
        Then(Rows(Decimal(MILLI), most=MOST_STEPS), _rising),
        "GPU hours, rising: with each that work has held its priority falls by one; unset: the parent's.",
    ),
    "fresh": Field(
        NAME, "A queue in which work that may be evicted counts until the first step of `demote`; unset: the parent's."
    ),
}  # fmt: skip

make_queue = _queue
QUEUE: Final = Object(
    "Queue", QUEUE_FIELDS, _queue, about="A node of the quota tree. Work goes to leaves only."
)


def check_tree(queues: Mapping[int, Queue], names: frozenset[str], wrongs: Wrongs, *outer: Key) -> None:
    """Faults of the tree: missing queues, cycles, too deep. `queues`: by the key of their row; `names`: all that exist."""
    parents = {queue.name: queue.parent for queue in queues.values()}
    for key, queue in queues.items():
        if queue.fresh is not None and queue.fresh not in names:
            wrongs.add((*outer, key, "fresh"), show(queue.fresh), "a queue that exists", queue.fresh, names)
        if queue.parent is None:
            continue
        if queue.parent not in names:
            wrongs.add(
                (*outer, key, "parent"), show(queue.parent), "a queue that exists", queue.parent, names
            )
            continue
        chain = {queue.name: None}  # in its order
        above: str | None = queue.parent
        while above is not None and above not in chain and len(chain) <= MOST_DEEP:
            chain[above] = None
            above = parents.get(above)
        if above == queue.name:
            wrongs.add((*outer, key, "parent"), f"a cycle: {' > '.join([*chain, queue.name][:8])}", "a tree")
        elif above is not None and len(chain) > MOST_DEEP:
            wrongs.add(
                (*outer, key, "parent"), f"more than {MOST_DEEP} queues above each other", "a flatter tree"
            )


def dump_queue(queue: Queue) -> Document:
    """As it is read."""
    document: Document = {"name": queue.name}
    if queue.parent is not None:
        document["parent"] = queue.parent
    document["priority"] = queue.priority
    for key, amounts, unset in (("quota", queue.quota, 0), ("limit", queue.limit, UNLIMITED)):
        set_ones = {
            name: write_amount(name, amount)
            for name, amount in zip(RESOURCES, amounts.vector(), strict=True)
            if amount != unset
        }
        if set_ones:
            document[key] = set_ones
    document["weight"] = _numbers(queue.weight, MILLI)
    if queue.created_ms:
        document["created"] = write_time(queue.created_ms)
    if queue.preempt_min_runtime_ms is not None:
        document["preempt_min_runtime"] = write_duration(queue.preempt_min_runtime_ms)
    if queue.reclaim_min_runtime_ms is not None:
        document["reclaim_min_runtime"] = write_duration(queue.reclaim_min_runtime_ms)
    if queue.usage != NONE:
        document["usage"] = _numbers(queue.usage, MILLION)
    if queue.demote is not None:
        document["demote"] = [write_number(step) for step in queue.demote]
    if queue.fresh is not None:
        document["fresh"] = queue.fresh
    return document


def _numbers(amounts: Amounts, scale: int) -> Document:
    return {
        name: write_number(amount, scale) for name, amount in zip(RESOURCES, amounts.vector(), strict=True)
    }
