"""Rule 8 over cycles: whoever made way for another looks for room when that one has its own."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from gpumax.model.amounts import Amounts
from gpumax.model.node import Node
from loop.kit import MINUTE_MS, Rig, machine, queue, spec


def test_a_victim_does_not_take_its_room_back_before_its_beneficiary(tmp_path: Path) -> None:
    """The head of the owner's queue asks for more than fits, which puts the other queue first; the owner still gets the
    room that was freed for it, and the victim is evicted once, not again and again."""
    nodes: tuple[Node, ...] = (machine("n1", 2), machine("n2", 2))
    no_more = replace(queue("a", 2), weight=Amounts(0, 1000, 1000))
    rig = Rig(tmp_path, nodes, (no_more, queue("b", 0)))
    rig.submit(spec("v", "b", 2), spec("u", "b", 2))
    rig.settle()
    rig.submit(spec("big", "a", 2, 20, priority=75), spec("owner", "a", 2))
    for _ in range(20):
        rig.cycle()
        rig.clock.advance(MINUTE_MS)
    assert rig.states("owner") == ["running"]
    assert rig.record("v").evictions + rig.record("u").evictions == 1


def test_a_victim_goes_elsewhere_when_its_beneficiary_is_served(tmp_path: Path) -> None:
    """It waits for one start, not for ever."""
    rig = Rig(tmp_path, (machine("n1", 2),), (queue("a", 2), queue("b", 0)))
    rig.submit(spec("v", "b", 2))
    rig.settle()
    rig.submit(spec("owner", "a", 2))
    rig.settle()
    assert rig.states("v") == ["pending"]
    hold = rig.record("v").hold
    assert hold is not None
    assert hold.code == "NoRoom"
    rig.engine.nodes = (*rig.engine.nodes, machine("n2", 2))
    rig.settle()
    assert rig.states("v") == ["running"]
    assert rig.tasks("v")[0].node == "n2"
