"""The smallest cluster that meets a goal: clusters of other sizes, the search, and how goals are written."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from gpumax.formats.shape import Bad
from gpumax.model.node import Node
from gpumax.study.replay import replay
from gpumax.study.replay.measure import spread
from gpumax.study.scale import scaled_queue
from gpumax.study.whatif import find
from gpumax.study.whatif.cluster import Kind, read_kind, so_many, with_added, without
from gpumax.study.whatif.goal import Goal, read_goal
from gpumax.study.whatif.question import Question
from gpumax.study.whatif.search import smallest
from gpumax.study.whatif.sizes import sized
from gpumax.units import UNLIMITED
from study.replay_kit import nodes, queue, scenario, work
from study.whatif_kit import asked, drawn

HOUR_MS = 3_600_000


class TestCluster:
    def test_an_added_node_is_like_those_that_are_most_like_it(self) -> None:
        """Of its model first, then of its size; cores and memory in proportion to its GPUs, and that is told."""
        there = (*nodes(2, 8), changed(nodes(1, 4)[0], name="small", cpu_milli=10_000))
        found, words = with_added(there, read_kind("2xP100:4", whole=True), there)
        new = [node for node in found if node not in there]
        assert [(node.name, node.cpu_milli, len(node.devices)) for node in new] == [("added-00001", 10_000, 4), ("added-00002", 10_000, 4)]  # fmt: skip
        assert words.endswith("in proportion to small.")
        found, _ = with_added(there, read_kind("1xH100:2:80Gi", whole=True), there)
        (new_one,) = [node for node in found if node not in there]
        assert {(row.model, row.memory_mib) for row in new_one.devices} == {("H100", 81_920)}
        assert new_one.cpu_milli == 24_000  # a quarter of the largest

    def test_the_last_nodes_of_a_kind_go(self) -> None:
        """By name; others stay."""
        there = (*nodes(3, 8), *(changed(node, name=f"s{node.name}") for node in nodes(2, 4)))
        assert [node.name for node in without(there, Kind(2, "P100", 8))] == ["n0", "sn0", "sn1"]
        with pytest.raises(Bad):
            without(there, Kind(3, "P100", 4))

    @given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 60))
    def test_a_larger_cluster_holds_every_smaller_one_and_each_kind_in_proportion(
        self, sizes: list[int], number: int
    ) -> None:
        """However many kinds there are; at a multiple of what is there each kind is that many times as large."""
        there = tuple(
            Node(f"k{kind}-{row}", cpu_milli=kind) for kind, size in enumerate(sizes) for row in range(size)
        )
        small, large = ({node.name for node in so_many(there, count)} for count in (number, number + 1))
        assert len(small) == number
        assert small < large
        assert so_many(there, len(there)) == there
        twice = Counter(node.cpu_milli for node in so_many(there, 2 * len(there)))
        assert [twice[kind] for kind in range(len(sizes))] == [2 * size for size in sizes]

    def test_quotas_and_limits_follow_the_cluster(self) -> None:
        """In proportion, rounded down; what is unlimited stays so, and weights are proportions already."""
        found = scaled_queue(queue("a", 5), Fraction(1, 3))
        assert (found.quota.gpu, found.quota.cpu, found.limit.gpu, found.weight.gpu) == (1666, UNLIMITED, UNLIMITED, 5000)  # fmt: skip


class TestFind:
    @pytest.mark.parametrize("seed", range(3))
    def test_bisection_finds_what_trying_all_sizes_finds(self, tmp_path: Path, seed: int) -> None:
        """The smallest size of which all larger ones meet the goal, too; its neighbours were played."""
        question = asked(
            tmp_path, scenario(*drawn(seed, 40)), goal="smallest cluster with mean wait < 20 min"
        )
        sizes = range(1, 9)
        met = [_met(question, size) for size in sizes]
        brute = next(size for size in sizes if all(met[size - 1 :]))
        assert not any(met[: brute - 1])  # else the smallest of all is a matter of luck
        found = find(question)
        assert found.nodes == brute
        assert found.gpus == 8 * brute
        tried = {row.nodes: row.met for row in found.tries}
        assert {brute, brute + 1} <= tried.keys()
        assert brute == 1 or tried[brute - 1] is False
        assert found.finding[0].startswith(f"The smallest cluster with mean wait < 20m has {brute} node")

    def test_a_cluster_on_which_less_work_can_run_meets_no_goal(self, tmp_path: Path) -> None:
        """A gang of sixteen GPUs keeps two nodes, however short the waits of the rest."""
        rows = [
            work("gang", 0, 10, 16, "a"),
            *(work(f"w{number}", 60 * number, 5, 1, "b") for number in range(1, 9)),
        ]
        found = find(asked(tmp_path, scenario(*rows), goal="smallest cluster with p50 wait < 1m"))
        assert found.nodes == 2
        (one,) = [row for row in found.tries if row.nodes == 1]
        assert (one.met, one.never) == (False, 1)
        assert "1 workload could never run" in found.finding[1]

    def test_a_goal_that_no_cluster_meets_is_said_to_be_one(self, tmp_path: Path) -> None:
        """Work takes its time wherever it runs; the search ends where nobody waits."""
        found = find(
            asked(tmp_path, scenario(*drawn(1, 20)), goal="smallest cluster with mean completion < 1 min")
        )
        assert (found.nodes, found.gpus) == (None, None)
        assert found.finding[0].startswith("No cluster of up to ")
        assert "nobody waits there" in found.finding[0]
        assert found.tries[-1].nodes <= 32

    def test_a_size_that_is_much_too_small_is_not_played_to_its_end(self, tmp_path: Path) -> None:
        """It is told by how much it misses the goal at least, which is true; the answer is that of playing everything."""
        rows = [
            work(f"w{number:03}", number, 30 + number % 60, 1 + number % 3, "ab"[number % 2])
            for number in range(600)
        ]
        goal = "smallest cluster with p90 wait < 30 min"
        question = asked(tmp_path, scenario(*rows), goal=goal, policy="static-fifo")
        found = find(question)
        assert [row for row in found.tries if row.at_least]
        for row in found.tries:
            sized_one = sized(question.after, row.nodes, scale_quotas=True)
            wait_s = replay(sized_one, "static-fifo", 42).wait_s.p90
            assert row.value_s == (3600 if row.at_least else wait_s)
            assert wait_s >= row.value_s
            assert row.met == (wait_s < 1800)

    def test_nor_is_one_on_which_work_takes_much_too_long(self, tmp_path: Path) -> None:
        """Goals for completion end such a run, too."""
        rows = [
            work(f"w{number:03}", number, 30 + number % 60, 1 + number % 3, "ab"[number % 2])
            for number in range(600)
        ]
        goal = "smallest cluster with p90 completion < 2 h"
        question = asked(tmp_path, scenario(*rows), goal=goal, policy="static-fifo")
        found = find(question)
        assert [row for row in found.tries if row.at_least]
        for row in found.tries:
            sized_one = sized(question.after, row.nodes, scale_quotas=True)
            took_s = replay(sized_one, "static-fifo", 42).completion_s.p90
            assert took_s >= row.value_s
            assert row.met == (took_s < 7200)

    def test_quotas_stay_where_they_are_to(self, tmp_path: Path) -> None:
        """With --keep-quotas; else they follow."""
        played = scenario(*drawn(1, 10))
        kept, scaled_ones = (sized(played, 4, scale_quotas=scale).queues for scale in (False, True))
        assert [row.quota.gpu for row in kept] == [8000, 8000]
        assert [row.quota.gpu for row in scaled_ones] == [16_000, 16_000]
        goal = "smallest cluster with p99 wait < 1d"
        for scale in (False, True):
            found = find(asked(tmp_path, played, goal=goal, scale_quotas=scale))
            assert ("Quotas and limits were scaled with the GPUs." in found.finding) == scale

    @given(st.integers(1, 200), st.integers(1, 50))
    def test_the_threshold_is_found_wherever_it_lies(self, threshold: int, start: int) -> None:
        """From any start, in steps that grow with the logarithm."""
        tried: list[int] = []

        def meets(number: int) -> bool:
            tried.append(number)
            return number >= threshold

        assert smallest(meets, start, 10_000, lambda: False) == threshold
        assert len(tried) <= 20

    @given(st.sets(st.integers(1, 40)), st.integers(1, 40))
    def test_what_is_found_meets_and_the_one_below_does_not(self, good: set[int], start: int) -> None:
        """Even where larger is not always better."""
        found = smallest(lambda number: number in good, start, 40, lambda: False)
        if found is None:
            assert start not in good
        else:
            assert found in good
            assert found - 1 not in good


def _met(question: Question, nodes: int) -> bool:
    assert question.goal is not None
    run = replay(sized(question.after, nodes, scale_quotas=True), "gpumax", 42)
    return run.arrived.never == 0 and run.stuck == 0 and question.goal.met(run)


class TestGoal:
    @given(
        st.sampled_from(("mean", "p50", "p90", "p99", "max")), st.lists(st.integers(0, 50), min_size=1, max_size=120), st.integers(0, 20),
        st.integers(1, 120),
    )  # fmt: skip
    def test_far_is_never_said_of_times_that_are_not(
        self, statistic: Any, waits: list[int], bound: int, so_far: int
    ) -> None:
        """Of waits so far, which only grow: whatever comes, the goal is missed by as much in the end. Of all waits, it is said if so."""
        goal = Goal(statistic, "wait", bound)
        part = [wait // 2 for wait in waits[:so_far]]
        whole = spread(waits)
        in_the_end = round(1000 * getattr(whole, statistic), 6) >= goal.miss_ms
        assert in_the_end or not goal.far_missed(part, len(waits))
        assert goal.far_missed(waits, len(waits)) == in_the_end

    @pytest.mark.parametrize(
        ("text", "goal"),
        [
            ("smallest cluster with p99 wait < 2.5 h", Goal("p99", "wait", 9_000_000)),
            ("the smallest cluster with a mean wait below 90 min", Goal("mean", "wait", 5_400_000)),
            ("Smallest  cluster with average completion time <= 1 day", Goal("mean", "completion", 24 * HOUR_MS, True)),
            ("smallest cluster where median wait is at most 45s", Goal("p50", "wait", 45_000, True)),
            ("smallest cluster with max completion<2h30m", Goal("max", "completion", 9_000_000)),
            ("smallest cluster with p90 wait under .5 hours", Goal("p90", "wait", HOUR_MS // 2)),
        ],
    )  # fmt: skip
    def test_goals_are_understood_as_people_write_them(self, text: str, goal: Goal) -> None:
        """Hours, minutes, seconds and days; less, or at most."""
        assert read_goal(text) == goal
        assert read_goal(f"smallest cluster with {goal}") == goal

    @pytest.mark.parametrize(
        "text",
        ["", "smallest cluster", "fewest nodes with p99 wait < 1h", "smallest cluster with p99 wait > 1h", "smallest cluster with p99 wait < 1",
         "smallest cluster with p98 wait < 1h", "smallest cluster with p99 fun < 1h", "smallest cluster with p99 wait < 1 lightyear",
         "smallest cluster with p99 wait < -1h", "smallest cluster with p99 wait < 1h and more"],
    )  # fmt: skip
    def test_others_are_answered_with_what_is_understood(self, text: str) -> None:
        """Never guessed at."""
        with pytest.raises(Bad) as error:
            read_goal(text)
        assert all(wrong.wanted for wrong in error.value.wrongs)
