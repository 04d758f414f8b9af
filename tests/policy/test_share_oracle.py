"""Shares against an independent solver: exact water-filling in rational numbers, on thousands of random trees.

The solver finds the water level at which everything is dealt, from the sorted levels at which each queue is full; the
policy deals in rounds. Only the rules are the same (policy.md, "Shares").
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, Group, Request, Task, Workload
from gpumax.policy.decide import decide
from gpumax.units import MILLI, UNLIMITED
from thorough import examples

TREES = examples(2_000, 10_000)
PARTS = 10  # test items, so that they run side by side


@dataclass
class Branch:
    """A queue of the solver, in milli-devices. asks: what its own work asks for; leaves only."""

    name: str
    quota: int
    limit: int
    weight: int
    priority: int
    created: int
    asks: list[int] = field(default_factory=list)
    below: list[Branch] = field(default_factory=list)

    def demand(self) -> int:
        return sum(self.asks) + sum(branch.demand() for branch in self.below)

    def want(self) -> int:
        return min(self.demand(), self.limit)


def fill(amount: Fraction, needs: dict[str, int], pulls: dict[str, int]) -> dict[str, Fraction]:
    """min(need, level x pull) each, at the level at which the amount is used up, or everybody is full."""
    full = sorted((Fraction(needs[name], pulls[name]), name) for name in needs)
    poured, pull = Fraction(0), sum(pulls[name] for name in needs)
    level = Fraction(0)
    for at, name in full:
        if poured + (at - level) * pull >= amount:
            level += (amount - poured) / pull
            return {name: min(Fraction(needs[name]), level * pulls[name]) for name in needs}
        poured += (at - level) * pull
        level = at
        pull -= pulls[name]
    return {name: Fraction(need) for name, need in needs.items()}


def whole(parts: dict[str, Fraction], needs: dict[str, int], most: int, unit: int, branches: dict[str, Branch]) -> dict[str, int]:  # fmt: skip
    """Parts in whole units; who is full gets just that; what is over goes a unit each by largest remainder, oldest, name."""
    given = {
        name: needs[name] if part == needs[name] else int(part // unit) * unit for name, part in parts.items()
    }
    over = most - sum(given.values())
    rest = [name for name in parts if parts[name] > given[name]]
    for name in sorted(rest, key=lambda name: (given[name] - parts[name], branches[name].created, name)):
        more = min(unit, over, needs[name] - given[name])
        given[name] += more
        over -= more
    return given


def solve(total: int, siblings: list[Branch], shares: dict[str, int]) -> None:
    """The shares of the siblings and of everything below them."""
    by_name = {branch.name: branch for branch in siblings}
    left = total
    for priority in sorted({branch.priority for branch in siblings}, reverse=True):
        alike = [branch for branch in siblings if branch.priority == priority]
        needs = {branch.name: min(branch.quota, branch.want()) for branch in alike}
        if sum(needs.values()) > left:
            needs = {name: need for name, need in needs.items() if need}
            quota = {
                name: by_name[name].quota if by_name[name].quota < UNLIMITED else total for name in needs
            }
            needs = whole(fill(Fraction(left), needs, quota), needs, left, 1, by_name) if left else {}
        shares.update({branch.name: needs.get(branch.name, 0) for branch in alike})
        left -= sum(needs.values())
    for priority in sorted({branch.priority for branch in siblings}, reverse=True):
        while left > 0:
            needs = {
                branch.name: branch.want() - shares[branch.name]
                for branch in siblings
                if branch.priority == priority and branch.weight and branch.want() > shares[branch.name]
            }
            if not needs:
                break
            parts = fill(Fraction(left), needs, {name: by_name[name].weight for name in needs})
            given = whole(parts, needs, left, MILLI, by_name)
            if not sum(given.values()):
                break
            for name, more in given.items():
                shares[name] += more
            left -= sum(given.values())
    for branch in siblings:
        if branch.below:
            solve(shares[branch.name], branch.below, shares)


def grow(chance: random.Random, names: list[str], depth: int) -> list[Branch]:
    """Siblings with everything below them."""
    found = []
    for _ in range(chance.randint(1, 4)):
        name = f"q{len(names):02d}"
        names.append(name)
        branch = Branch(
            name,
            quota=chance.choice([0, 0, 500, 1000, 2000, 3000, 4000, 8000, UNLIMITED]),
            limit=chance.choice([UNLIMITED, UNLIMITED, 0, 1000, 2500, 5000, 9000]),
            weight=chance.choice([0, 1, 1000, 1000, 2000, 3000, 7000]),
            priority=chance.choice([50, 100, 100, 100, 200]),
            created=chance.randint(0, 2),
        )
        if depth and chance.random() < 0.4:
            branch.below = grow(chance, names, depth - 1)
        else:
            branch.asks = [
                chance.choice([1000, 1000, 2000, 4000, 300, 500]) for _ in range(chance.randint(0, 4))
            ]
        found.append(branch)
    return found


def rows(branches: list[Branch], parent: str | None = None) -> list[Queue]:
    """The queues of a snapshot."""
    found = []
    for branch in branches:
        amounts = Amounts(branch.quota, UNLIMITED, UNLIMITED), Amounts(branch.limit, UNLIMITED, UNLIMITED)
        weight = Amounts(branch.weight, MILLI, MILLI)
        found.append(
            Queue(
                branch.name,
                parent,
                branch.priority,
                amounts[0],
                amounts[1],
                weight,
                created_ms=branch.created,
            )
        )
        found += rows(branch.below, branch.name)
    return found


def leaves(branches: list[Branch]) -> list[Branch]:
    return [leaf for branch in branches for leaf in (leaves(branch.below) if branch.below else [branch])]


def workload(leaf: Branch, number: int, milli: int) -> Workload:
    name = f"{leaf.name}-w{number}"
    ask = DeviceAsk(max(1, milli // MILLI), min(milli, MILLI))
    return Workload(
        name, leaf.name, groups=(Group("", 1),), tasks=(Task(f"{name}-0", request=Request(gpu=(ask,))),)
    )


@pytest.mark.deep
@pytest.mark.parametrize("part", range(PARTS))
def test_shares_are_those_of_an_independent_solver(part: int) -> None:
    """Any depth, priorities, limits, weights, quotas that exceed what there is: the same shares, to the milli-device."""
    for seed in range(part * TREES // PARTS, (part + 1) * TREES // PARTS):
        chance = random.Random(seed)
        tree = grow(chance, [], depth=3)
        devices = chance.choice([0, 1, 2, 3, 5, 8, 13, 16])
        node = Node("n1", devices=tuple(Device(index) for index in range(devices)))
        work = [
            workload(leaf, number, milli) for leaf in leaves(tree) for number, milli in enumerate(leaf.asks)
        ]
        queues = sorted(rows(tree), key=lambda queue: queue.name)
        snapshot = Snapshot(
            nodes=(node,), queues=tuple(queues), workloads=tuple(sorted(work, key=lambda w: w.name))
        )
        wanted: dict[str, int] = {}
        solve(devices * MILLI, tree, wanted)
        decision = decide(snapshot, passes=())
        found = {share.queue: share.share for share in decision.shares if share.resource == "gpu"}
        assert found == wanted, f"tree {seed}"
