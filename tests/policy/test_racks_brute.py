"""Which racks, against every choice of them: few domains, close together, and the fullest."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from random import Random
from typing import NamedTuple

from board import Sketch, queue
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import TopologyWish
from gpumax.policy.decide import decide


def puzzle(number: int) -> tuple[Snapshot, TopologyWish]:
    """Nodes in two zones of racks, partly in use, some cordoned, and a gang of tasks of one or two GPUs that wishes to stand together."""
    chance = Random(number)
    rows = [
        "".join(chance.choice("b...") for _ in range(chance.randint(1, 4)))
        for _ in range(chance.randint(4, 8))
    ]
    sketch = (
        Sketch("\n".join(f"n{at}: {row}" for at, row in enumerate(rows)))
        .with_queues(queue("q", 64))
        .run("b", "q")
    )
    places: dict[str, list[str]] = {}
    for at in range(len(rows)):
        places.setdefault(chance.choice(("a__r1", "a__r2", "a__r3", "b__r4", "b__r5")), []).append(f"n{at}")
    sketch.stand(**{where: " ".join(names) for where, names in places.items()})
    required, preferred = chance.choice(
        (("rack", None), ("zone", None), ("zone", "rack"), (None, "rack"), (None, "zone"), (None, "rack"))
    )
    wish = TopologyWish("default", required, preferred)
    for at in range(len(rows)):
        sketch.node(f"n{at}", cordoned=chance.random() < 0.15)
    size = chance.choice((1, 1, 2))
    sketch.wait("A", "q", tasks=chance.randint(2, 7 if size == 1 else 4), gpu=size).change("A", topology=wish)
    return sketch.snapshot(), wish


class _Domain(NamedTuple):
    """What a domain has free, and how many tasks of the gang it holds."""

    free: int
    holds: int


def _domains(snapshot: Snapshot, level: str, size: int) -> dict[tuple[str, ...], _Domain]:
    """Each domain of a level; cordoned nodes hold nobody."""
    taken = Counter(task.node for row in snapshot.workloads for task in row.tasks if task.node)
    found: dict[tuple[str, ...], _Domain] = {}
    for node in snapshot.nodes:
        labels = (node.labels["zone"],) if level == "zone" else (node.labels["zone"], node.labels["rack"])
        free, (before, holds) = len(node.devices) - taken[node.name], found.get(labels, _Domain(0, 0))
        found[labels] = _Domain(before + free, holds + (0 if node.cordoned else free // size))
    return found


def _fewest(snapshot: Snapshot, wish: TopologyWish, tasks: int, size: int) -> tuple[int, int] | None:
    """Over how few domains of the preferred level a gang can stand, and over how few zones then; None: nowhere as required."""
    level = wish.preferred or wish.required or ""
    there = _domains(snapshot, level, size)
    for count in range(1, 2 if wish.required == level else len(there) + 1):
        zones = [
            len({domain[0] for domain in chosen})
            for chosen in combinations(there, count)
            if sum(there[domain].holds for domain in chosen) >= tasks
        ]
        if wish.required == "zone":
            zones = [number for number in zones if number == 1]
        if zones:
            return count, min(zones)
    return None


def test_a_gang_stands_in_as_few_domains_as_it_can_and_these_close_together() -> None:
    """What is required holds; of what is preferred no assignment has fewer; a single domain is the fullest that holds all."""
    for number in range(400):
        snapshot, wish = puzzle(number)
        (asker,) = [row for row in snapshot.workloads if row.name == "A"]
        tasks, size = len(asker.tasks), asker.tasks[0].request.gpu[0].devices
        decision = decide(snapshot, ("allocate",))
        assert verify(snapshot, decision) == (), number
        fewest = _fewest(snapshot, wish, tasks, size)
        labels = {node.name: (node.labels["zone"], node.labels["rack"]) for node in snapshot.nodes}
        level = wish.preferred or wish.required or ""
        used = {labels[place.node][: 1 if level == "zone" else 2] for place in decision.places}
        found = (len(used), len({domain[0] for domain in used})) if used else None
        assert found == fewest, f"{number} {wish} {snapshot}\n{decision.places}"
        if len(used) == 1 and (wish.preferred is None or wish.required is None):
            there = _domains(snapshot, level, size)
            best = min((row.free, domain) for domain, row in there.items() if row.holds >= tasks)
            assert used == {best[1]}, f"{number} {wish} {snapshot}\n{decision.places}"
