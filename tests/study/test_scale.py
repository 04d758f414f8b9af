"""A cluster of another size: nodes of every kind, quotas and limits go along."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gpumax.model.amounts import Amounts
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.study import Scenario
from gpumax.study.run import Turn, run_study, turns
from gpumax.study.scale import scaled
from gpumax.units import UNLIMITED
from study.plays import SCENARIO, killed, sound

_NODES = tuple(Node(f"n{number:03}", cpu_milli=1 + number // 60) for number in range(120))
_QUEUE = Queue("a", quota=Amounts(10_000, UNLIMITED, 333), limit=Amounts(20_001, UNLIMITED, UNLIMITED))
_CLUSTER = Scenario("s", nodes=_NODES, queues=(_QUEUE,))


@given(st.fractions(Fraction(1, 50), 5))
def test_every_kind_of_node_keeps_its_part(part: Fraction) -> None:
    """As nearly as whole nodes allow, under names of their own."""
    nodes = scaled(_CLUSTER, part).nodes
    kinds = Counter(node.cpu_milli for node in nodes)
    assert all(abs(kinds[kind] - 60 * part) < 1 for kind in (1, 2))
    assert len({node.name for node in nodes}) == len(nodes)


def test_quotas_and_limits_go_along() -> None:
    """Rounded down; without a bound stays without one."""
    (queue,) = scaled(_CLUSTER, Fraction(1, 2)).queues
    assert queue.quota == Amounts(5_000, UNLIMITED, 166)
    assert queue.limit == Amounts(10_000, UNLIMITED, UNLIMITED)


def test_the_whole_is_the_scenario_itself() -> None:
    """Not a copy that may differ."""
    assert scaled(_CLUSTER, Fraction(1)) is _CLUSTER


def test_a_study_of_several_sizes_makes_every_run() -> None:
    """Policy by policy; a run that breaks says on which size."""
    scales = (Fraction(1, 2), Fraction(1))
    assert [str(turn) for turn in turns(SCENARIO, scales)][:3] == [
        "static-fifo, seed 1, scale 0.5", "static-fifo, seed 2, scale 0.5", "static-fifo, seed 1",
    ]  # fmt: skip
    assert len(run_study(SCENARIO, scales=scales, play=sound).runs) == 8
    errors = [failed.error for failed in run_study(SCENARIO, scales=scales, jobs=2, play=killed).failed]
    assert [error.partition(": ")[0] for error in errors[:1]] == ["at scale 0.5"]
    assert errors[1].startswith("its process ended")


def test_a_turn_of_the_whole_does_not_speak_of_scales() -> None:
    """Nobody asked for another size."""
    assert str(Turn("gpumax", 42)) == "gpumax, seed 42"
