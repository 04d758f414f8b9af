"""The figures of a run: quantiles, fairness, numbers over time, partitions and lines, each by itself."""

from __future__ import annotations

import pytest

from gpumax.study.replay.baselines import partitions
from gpumax.study.replay.curve import Curve
from gpumax.study.replay.measure import jain, quantile
from gpumax.study.replay.waiting import Line
from study.replay_kit import nodes, queue


def test_a_quantile_is_the_nearest_rank() -> None:
    """The smallest value that at least so many percent do not exceed; no value between two is made up."""
    values = [10, 20, 30, 40]
    assert [quantile(values, percent) for percent in (0, 25, 26, 50, 75, 76, 99, 100)] == [
        10, 10, 20, 20, 30, 40, 40, 40,
    ]  # fmt: skip
    assert quantile([], 50) == 0


def test_jain_is_one_where_all_are_equal_and_one_over_n_where_one_has_all() -> None:
    """As Jain, Chiu and Hawe define it."""
    assert jain([0.3, 0.3, 0.3]) == pytest.approx(1)
    assert jain([5, 0, 0, 0]) == pytest.approx(1 / 4)
    assert jain([1, 2]) == pytest.approx(9 / 10)
    assert jain([]) == 1


def test_a_curve_adds_up_exactly() -> None:
    """Area inside the window, all of it, and the mean of each step."""
    curve = Curve(1000, 1600, 200, 10)
    curve.add(3, 1100)
    curve.add(-2, 1500)
    curve.pass_to(1900)
    assert (curve.area, curve.whole) == (3 * 400 + 100, 3 * 400 + 400)
    assert curve.means(5) == [1.5, 3, 2, 1, 0.5]


def test_partitions_have_what_quotas_say_and_no_device_twice() -> None:
    """Whole nodes first; where quotas are more than there is, all are cut alike."""
    for quotas in ((8, 8), (5, 11), (16, 16), (3, 3), (0, 16)):
        found = partitions(nodes(2), [queue("a", quotas[0]), queue("b", quotas[1])])
        sizes = [sum(len(piece.idle) for piece in found[name]) for name in "ab"]
        most = min(16, sum(quotas))
        assert sizes == [most * quota // sum(quotas) for quota in quotas]
        taken = [(piece.node, index) for name in "ab" for piece in found[name] for index in piece.idle]
        assert len(set(taken)) == len(taken)


def test_a_line_is_served_in_order_and_passes_who_waits_in_vain_once() -> None:
    """Equal wishes are tried once; strict: nobody passes; who comes back stands where it stood."""
    tried: list[str] = []

    def start(name: str) -> bool:
        tried.append(name)
        return name.startswith("small")

    line: Line[str] = Line()
    for rank, name in enumerate(("large1", "small1", "large2", "small2")):
        line.join((rank,), name[:-1], name)
    line.serve(start, strict=True)
    assert tried == ["large1"]
    line.room_came()
    tried.clear()
    line.serve(start, strict=False)
    assert tried == ["large1", "small1", "small2"]
    line.join((1,), "small", "small1")
    line.join((0,), "small", "small0")
    tried.clear()
    line.serve(start, strict=False)
    assert tried == ["small0", "small1"]
    assert len(line) == 2
