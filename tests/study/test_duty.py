"""Tasks that share devices by what they really do: how many devices they need, and how often that is too few."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumax.errors import BadFile
from gpumax.study.duty import Curve, by_memory, outcome, read_curves, swapped

GIB = 1024


def curve(task: str, duty: list[float], memory: int = 20) -> Curve:
    return Curve(task, np.array(duty), memory * GIB)


CURVES = st.lists(
    st.tuples(st.lists(st.sampled_from((0.0, 0.3, 0.6, 1.0)), min_size=4, max_size=4), st.integers(1, 90)),
    min_size=1,
    max_size=12,
).map(lambda rows: [curve(f"t{at}", duty, memory) for at, (duty, memory) in enumerate(rows)])


def tasks(packing: list[list[Curve]]) -> list[list[str]]:
    return [[each.task for each in here] for here in packing]


def test_tasks_share_a_device_as_long_as_its_memory_suffices() -> None:
    """Largest first, each on the first device that has room."""
    rows = [curve("a", [0], 20), curve("b", [0], 50), curve("c", [0], 40), curve("d", [0], 30)]
    assert tasks(by_memory(rows, 80 * GIB)) == [["b", "d"], ["c", "a"]]


def test_a_task_that_needs_more_memory_than_a_device_has_is_alone() -> None:
    """It would have to be swapped; nobody joins it."""
    assert tasks(by_memory([curve("a", [0], 90), curve("b", [0], 1)], 80 * GIB)) == [["a"], ["b"]]


def test_overload_is_counted_in_minutes_and_in_work() -> None:
    """Two devices, four minutes: in one of eight more is wanted than there is, half a device of the three and a half that are wanted."""
    packing = [[curve("a", [1, 0.5, 0, 0]), curve("b", [0.5, 0.5, 0, 0])], [curve("c", [1, 0, 0, 0])]]
    found = outcome(packing)
    assert (found.devices, found.factor) == (2, 1.5)
    assert (found.use, found.over) == (3.5 / 8, 1 / 8)
    assert found.excess == pytest.approx(0.5 / 3.5)


def test_whoever_looks_at_peaks_keeps_apart_what_is_busy_at_once() -> None:
    """a and b are, c is when they are not."""
    rows = [curve("a", [1, 0]), curve("b", [1, 0]), curve("c", [0, 1])]
    assert tasks(by_memory(rows, 80 * GIB)) == [["a", "b", "c"]]
    assert tasks(by_memory(rows, 80 * GIB, over=0.0)) == [["a", "c"], ["b"]]
    assert tasks(swapped(rows[:2], 1)) == [["a", "b"]]
    assert outcome(swapped(rows, 2, peaks=True)).over == 0


@settings(deadline=None)
@given(CURVES)
def test_nobody_is_lost_and_memory_is_kept(rows: list[Curve]) -> None:
    """Whatever the knobs."""
    for over in (None, 0.0, 0.25):
        packing = by_memory(rows, 80 * GIB, over=over)
        assert sorted(chain(*tasks(packing))) == sorted(each.task for each in rows)
        assert all(len(here) == 1 or sum(each.memory for each in here) <= 80 * GIB for here in packing)
        if over is not None:
            sums = [np.sum([each.duty for each in here], axis=0) for here in packing if len(here) > 1]
            assert all((each > 1.0).mean() <= over for each in sums)
    assert sorted(chain(*tasks(swapped(rows, 3, peaks=True)))) == sorted(each.task for each in rows)


def test_what_was_learnt_from_is_not_what_is_judged_by() -> None:
    """In the first half they are never busy at once, in the second always."""
    rows = [curve("a", [1, 0, 1, 1]), curve("b", [0, 1, 1, 1])]
    packing = by_memory(rows, 80 * GIB, over=0.0, learn=0.5)
    assert tasks(packing) == [["a", "b"]]
    assert outcome(packing, learn=0.5).over == 1.0


def test_curves_are_read_from_a_table(tmp_path: Path) -> None:
    """Minutes that are missing are idle; memory counts by its peak."""
    path = tmp_path / "curves.csv"
    path.write_text("task,minute,duty,memory_mib\nb,0,50,10\na,2,100,7\na,0,25.5,9\n")
    first, second = read_curves(path)
    assert (first.task, first.duty.tolist(), first.memory) == ("a", [0.255, 0, 1], 9)
    assert (second.task, second.duty.tolist()) == ("b", [0.5, 0, 0])


def test_every_bad_cell_is_named(tmp_path: Path) -> None:
    """With its line and its column."""
    path = tmp_path / "curves.csv"
    path.write_text("task,minute,duty,memory_mib\na,0,101,1\na,1,x,1\na,2,1,-1\na,3,1,1\na,3,1,1\na,4\n")
    with pytest.raises(BadFile) as caught:
        read_curves(path)
    assert [(fault.line, fault.path) for fault in caught.value.faults] == [
        (2, "duty"), (3, "duty"), (4, "memory_mib"), (6, "minute"), (7, "duty"), (7, "memory_mib"),
    ]  # fmt: skip


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    """In words."""
    path = tmp_path / "curves.csv"
    path.write_text("task,duty\n")
    with pytest.raises(BadFile, match="no column minute, memory_mib"):
        read_curves(path)
