"""What a gang is told that has to stand on one rack, against every rack."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from board import Sketch, gpus, queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import TopologyWish
from gpumax.policy.decide import decide


def crowded(number: int) -> tuple[Snapshot, dict[str, list[str]]]:
    """Racks of one or two nodes, mostly taken, and a gang of tasks of one GPU or two that has to stand on one of them."""
    chance = Random(number)
    names = [f"n{at}" for at in range(chance.randint(2, 5))]
    rows = {name: "".join(chance.choice("bb.") for _ in range(chance.randint(2, 4))) for name in names}
    sketch = Sketch("\n".join(f"{name}: {row}" for name, row in rows.items())).with_queues(queue("q", 64))
    sketch.run("b", "q", preemptible=False)
    racks: dict[str, list[str]] = {}
    for name in names:
        racks.setdefault(f"r{chance.randint(1, 3)}", []).append(name)
    sketch.stand(**{rack: " ".join(members) for rack, members in racks.items()})
    sketch.wait("A", "q", tasks=chance.randint(2, 5), gpu=chance.choice((1, 1, 2)))
    return sketch.change("A", topology=TopologyWish("default", "rack")).snapshot(), racks


def test_what_the_fullest_rack_lacks_is_exact() -> None:
    """Of the racks that could hold all of it if they were empty: how many GPUs are short where most of its tasks fit now."""
    met = 0
    for number in range(300):
        snapshot, racks = crowded(number)
        decision = decide(snapshot, ("allocate",))
        (asker,) = [row for row in snapshot.workloads if row.name == "A"]
        size, count = asker.tasks[0].request.gpu[0].devices, len(asker.tasks)
        taken = [task.node for row in snapshot.workloads for task in row.tasks if task.node]
        whole = {node.name: len(node.devices) for node in snapshot.nodes}
        free = {name: devices - taken.count(name) for name, devices in whole.items()}
        holds = {rack: sum(free[name] // size for name in names) for rack, names in racks.items()}
        could = {rack: sum(whole[name] // size for name in names) for rack, names in racks.items()}
        if decision.places or max(could.values()) < count:
            continue
        (hold,) = decision.holds
        assert hold.code == "Topology", number
        if size == 1:
            met += count - max(holds.values()) > 1
            assert hold.short == {"gpu": 1_000 * (count - max(holds.values()))}, f"{number} {hold}"
        best = max(holds.values())
        told = [
            rack
            for rack in racks
            if f"rack ({rack}) has {sum(free[n] for n in racks[rack])} free" in hold.message
        ]
        assert told, f"{number} {hold}"
        assert holds[told[0]] == best, f"{number} {hold}"
    assert met > 20


def test_the_largest_take_their_room_first() -> None:
    """Four and two of the seven fit, and the last one lacks a GPU; placed the other way round the largest would lack two."""
    sketch = Sketch("n1: ....\nn2: ..b").with_queues(queue("q", 64)).run("b", "q", preemptible=False)
    sketch.stand(r1="n1 n2").wait("A", "q", tasks=3)
    sizes = zip(sketch.workloads["A"].tasks, (1, 2, 4), strict=True)
    sketch.change("A", tasks=tuple(replace(task, request=gpus(size)) for task, size in sizes))
    sketch.change("A", topology=TopologyWish("default", "rack"))
    (hold,) = decide(sketch.snapshot(), ("allocate",)).holds
    assert (hold.code, hold.short) == ("Topology", {"gpu": 1_000})


def test_a_node_that_would_take_one_more_stands_in_the_wrong_place() -> None:
    """n2 has a GPU and a slot for one task: it is only not where the other is."""
    sketch = Sketch("n1: .b\nn2: .").with_queues(queue("q", 64)).run("b", "q", preemptible=False)
    sketch.stand(r1="n1", r2="n2").node("n2", tasks=1).wait("A", "q", tasks=2)
    (hold,) = decide(
        sketch.change("A", topology=TopologyWish("default", "rack")).snapshot(), ("allocate",)
    ).holds
    assert hold.nodes == {"NotEnoughGpu": 1, "TopologyMismatch": 1}
