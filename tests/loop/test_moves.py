"""A move on an engine is a stop and a start: whoever moved runs again, and nobody moves without end."""

from __future__ import annotations

from pathlib import Path

from loop.kit import MINUTE_MS, Rig, machine, queue, spec


def scattered(tmp_path: Path) -> Rig:
    """Two nodes of two GPUs, on each of which one task is left over."""
    rig = Rig(tmp_path, (machine("n1", 2), machine("n2", 2)), (queue("q", 4),))
    for name in ("b", "x", "c"):
        rig.submit(spec(name, "q"))
        rig.settle()
    rig.wish("x", "stop")
    rig.settle()
    assert {rig.tasks("b")[0].node, rig.tasks("c")[0].node} == {"n1", "n2"}
    return rig


def test_moved_work_and_whom_it_moved_for_both_run_in_the_end(tmp_path: Path) -> None:
    """One move, one start for the asker, one new start for the mover; then nothing happens any more."""
    rig = scattered(tmp_path)
    rig.submit(spec("wide", "q", 2))
    for _ in range(20):
        rig.cycle()
        rig.clock.advance(MINUTE_MS)
    assert [rig.states(name) for name in ("b", "c", "wide")] == [["running"]] * 3
    assert rig.record("b").evictions + rig.record("c").evictions == 1
    assert rig.started().count("b-0") + rig.started().count("c-0") == 3
    (said,) = rig.events("Evicted")
    assert said == "evicted for wide (consolidate)"


def test_new_work_that_takes_the_new_place_makes_the_mover_wait_not_the_asker(tmp_path: Path) -> None:
    """A move is a prediction: the asker has its room, and nobody is moved to and fro."""
    rig = scattered(tmp_path)
    rig.submit(spec("wide", "q", 2))
    rig.cycle()
    rig.submit(spec("new", "q", priority=90))
    for _ in range(20):
        rig.cycle()
        rig.clock.advance(MINUTE_MS)
    assert rig.states("wide") == ["running"]
    assert rig.states("new") == ["running"]
    assert sorted(rig.states("b") + rig.states("c")) == ["pending", "running"]
    assert rig.record("b").evictions + rig.record("c").evictions == 1
