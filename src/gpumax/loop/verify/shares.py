"""The shares that a decision reports: what they rest on, and that they are no more than there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Share
from gpumax.units import UNLIMITED
from gpumax.words import plural

Rows = dict[tuple[str, str], Share]


def share_rows(facts: Facts) -> Rows:
    """The rows by queue and resource."""
    return {(share.queue, share.resource): share for share in facts.decision.shares}


def most(facts: Facts, rows: Rows, queue: str, position: int, *, gpus: bool) -> int:
    """What a queue that reclaims may hold of a resource: its share; of cores and memory, where it asks for GPUs, too, and its quota of them
    is unlimited, its limit."""
    unlimited = facts.queues[queue].quota.vector()[position] >= UNLIMITED
    if position and gpus and unlimited:
        return facts.queues[queue].limit.vector()[position]
    return rows[queue, RESOURCES[position]].share


def check_shares(facts: Facts) -> Iterator[Violation]:
    """One row for each queue and resource, as the snapshot has it; shares within limits, demand and what there is."""
    rows = share_rows(facts)
    known, due = facts.known, len(facts.queues) * len(RESOURCES)
    if len(facts.decision.shares) != due or rows.keys() != set(product(facts.queues, RESOURCES)):
        yield Violation(0, f"{plural(len(facts.decision.shares), 'row')} of shares for {due} that are due")
        return
    held = facts.allocated()
    for position, resource in enumerate(RESOURCES):
        wants: dict[str, int] = {}
        for name, limit in known.limits.items():
            row = rows[name, resource]
            if row.allocated != held[name][position] or row.quota != known.quotas[name][position]:
                yield Violation(
                    0, f"queue {name} is said to hold {row.allocated} {resource}, quota {row.quota}"
                )
            wants[name] = min(row.demand, limit[position])
            if row.share > wants[name]:
                yield Violation(
                    0, f"the share of queue {name}, {row.share} {resource}, is above what it may use"
                )
        yield from _sums(facts, rows, position, wants, known.capacity[position])


def _sums(facts: Facts, rows: Rows, position: int, wants: dict[str, int], all_: int) -> Iterator[Violation]:
    """Children get no more than their parent; where quotas fit, each gets its own as far as it wants it."""
    resource = RESOURCES[position]
    quotas = facts.known.quotas
    for parent, names in facts.known.children.items():
        there_is = all_ if parent is None else rows[parent, resource].share
        given = sum(rows[name, resource].share for name in names)
        owner = "the cluster" if parent is None else f"queue {parent}"
        if given > there_is:
            yield Violation(0, f"shares of {resource} in {owner} sum to {given}; there are {there_is}")
        due = {name: min(quotas[name][position], wants[name]) for name in names}
        if sum(due.values()) <= there_is:
            for name in names:
                if rows[name, resource].share < due[name]:
                    share = rows[name, resource].share
                    yield Violation(0, f"queue {name} gets {share} {resource} of the {due[name]} it is due")
