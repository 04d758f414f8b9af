"""A scenario played under each policy: what they are known for, and what no policy changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from gpumax.errors import BadFile
from gpumax.loop.journal import FileJournal
from gpumax.loop.replay import replay as decide_again
from gpumax.model.study import Effort, Failures, Run, Saving
from gpumax.study.replay import replay
from gpumax.study.replay.table import POLICIES
from study.replay_kit import MINUTE_MS, nodes, play, queue, scenario, work

ALL = tuple(POLICIES)
BURST = tuple(
    work(f"w{number:02}", number, 37 + number % 5, 1 + number % 8, "ab"[number % 2]) for number in range(40)
)


def same(run: Run) -> Run:
    """Without the seconds that deciding took."""
    return changed(run, scheduler=Effort(run.scheduler.cycles, 0.0, 0.0))


@pytest.mark.parametrize("policy", ALL)
class TestEveryPolicy:
    def test_work_that_has_room_runs_at_once_and_for_its_time(self, policy: str) -> None:
        """Where there is room for all, nobody waits, and everybody ends when its time is over."""
        run = play(policy, work("x", 0, 30, 4), work("y", 10, 60, 8, "b"))
        assert run.wait_s.max == 0
        assert (run.completion_s.mean, run.completion_s.max) == (45 * 60, 60 * 60)
        assert run.makespan_s == 70 * 60
        assert (run.arrived.workloads, run.arrived.never, run.stuck) == (2, 0, 0)

    def test_use_is_what_was_asked_for_and_ran_in_the_window(self, policy: str) -> None:
        """Four of 16 GPUs for half of the window are an eighth."""
        run = play(policy, work("x", 0, 30, 4), work("y", 0, 30, 0), window_ms=60 * MINUTE_MS)
        assert run.use.requested == pytest.approx(1 / 8)
        assert run.use.allocated == pytest.approx(1 / 8)
        assert run.window_s == 3600

    def test_the_same_seed_gives_the_same_to_the_last_digit(self, policy: str) -> None:
        """Two runs are equal, but for the seconds; failures and sizes come from the seed alone."""
        fields = {"failures": Failures(600 * MINUTE_MS, 20 * MINUTE_MS), "sizes": {500: 1, 1000: 1}}
        first, again = (play(policy, *BURST, seed=7, **fields) for _ in range(2))
        assert same(first) == same(again)
        assert first.stuck == 0

    def test_what_no_empty_cluster_holds_is_counted_and_left_out(self, policy: str) -> None:
        """A workload of more GPUs than there are keeps nobody else from running."""
        run = play(policy, work("huge", 0, 10, 32), work("x", 0, 10))
        assert (run.arrived.workloads, run.arrived.never) == (2, 1)
        assert run.completion_s.max == 600

    def test_a_gang_runs_when_all_its_tasks_do(self, policy: str) -> None:
        """Sixteen GPUs are two tasks on two nodes that work together."""
        run = play(policy, work("gang", 0, 10, 16), queues=(queue("a", 16),))
        assert run.completion_s.max == 600
        assert run.use.requested == 1

    def test_work_may_say_how_many_devices_a_task_of_its_own_has(self, policy: str) -> None:
        """Four tasks of two GPUs stand on two nodes of four, where a task of eight stands nowhere."""
        rows = (work("small", 0, 10, 8, devices_per_task=2), work("large", 20, 10, 8))
        run = play(policy, *rows, nodes=nodes(2, 4), queues=(queue("a", 8),))
        assert (run.arrived.workloads, run.arrived.never) == (2, 1)
        assert run.completion_s.max == 600

    def test_a_failing_node_takes_its_work_back_to_the_last_checkpoint(self, policy: str) -> None:
        """Every workload ends all the same, later by what was lost; tasks that a node took along are counted."""
        long = [work(f"w{number}", 0, 600, 8, "ab"[number]) for number in range(2)]
        failures = Failures(300 * MINUTE_MS, 10 * MINUTE_MS)
        saving = Saving(30 * MINUTE_MS, MINUTE_MS)
        run = play(policy, *long, failures=failures, checkpoint=saving)
        assert run.evictions.failure > 0
        assert run.stuck == 0
        assert run.completion_s.max > 36_000
        assert 0 < run.lost < 0.5
        lost_s = run.lost * run.use.requested
        assert lost_s > 0

    def test_progress_is_told_and_may_end_a_run(self, policy: str) -> None:
        """The last part is 1; whoever raises in it is let through."""
        told: list[float] = []
        replay(scenario(*BURST), policy, 1, told.append)
        assert told[-1] == 1
        assert told == sorted(told)

        def enough(part: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            replay(scenario(*BURST), policy, 1, enough)


def test_a_policy_that_there_is_not_is_refused_in_words() -> None:
    """The names of those that there are stand in the message."""
    with pytest.raises(BadFile, match="static-fifo"):
        play("best", work("x", 0, 1))


def test_partitions_lend_nothing() -> None:
    """In a partition one waits for its own devices, though the others' are idle; in gpumax nobody waits."""
    both = (work("x", 0, 60, 8), work("y", 1, 60, 8))
    assert play("static-fifo", *both).wait_s.max == 59 * 60
    assert play("hard-quota", *both).wait_s.max == 59 * 60
    assert play("gpumax", *both).wait_s.max == 0


def test_a_partition_is_as_large_as_its_queues_quota_in_parts_of_nodes_where_it_must_be() -> None:
    """Four queues of four devices share two nodes of eight; each runs four and no more."""
    names = "abcd"
    rows = [work(f"{name}{number}", 0, 10, 1, name) for name in names for number in range(5)]
    run = play("static-backfill", *rows, queues=tuple(queue(name, 4) for name in names))
    assert [row.wait_p99_s for row in run.queues] == [600] * 4
    assert run.use.requested == 1.0


def test_strict_order_and_backfill() -> None:
    """Strictly nobody passes one who waits; with backfill whoever has room does."""
    rows = (work("first", 0, 60, 6), work("wide", 1, 60, 8), work("small", 2, 10, 2))
    strict, free = (play(policy, *rows) for policy in ("static-fifo", "static-backfill"))
    assert strict.completion_s.p50 == (60 + 60 - 1) * 60
    assert free.completion_s.p50 == 60 * 60
    assert free.makespan_s == strict.makespan_s - 10 * 60


def test_kubernetes_places_tasks_one_by_one_and_gangs_may_wait_for_each_other_for_ever() -> None:
    """Two gangs hold a part of what the other needs: neither ever runs, and what they hold is allocated and not used."""
    rows = (work("x", 0, 10, 4), work("p", 1, 10, 16), work("q", 2, 10, 12))
    run = play("kubernetes-default", *rows, queues=(queue("a", 16),), window_ms=30 * MINUTE_MS)
    assert run.stuck == 2
    assert run.use.requested == pytest.approx(4 * 10 / (16 * 30))
    assert run.use.allocated > run.use.requested
    assert play("gpumax", *rows, queues=(queue("a", 16),)).stuck == 0


def test_kubernetes_priority_makes_others_go() -> None:
    """A workload of a higher priority takes the devices of the lowest, which starts again later."""
    low = work("low", 0, 60, 8, priority=10)
    lower = work("lower", 0, 60, 8, priority=5)
    high = work("high", 10, 10, 8, priority=60)
    run = play("kubernetes-default", low, lower, high)
    assert run.evictions.preempt == 1
    assert run.wait_s.max == 10 * 60
    assert run.completion_s.max == (60 + 10 + 10) * 60
    assert run.lost == pytest.approx(10 / (60 + 60 + 10 + 10))


def test_gpumax_gives_back_what_it_lent_and_loses_what_was_not_saved() -> None:
    """The owner starts the moment it comes; the borrower goes on from its last checkpoint when there is room."""
    saving = Saving(30 * MINUTE_MS, MINUTE_MS)
    lent = work("lent", 0, 100, 16, "b")
    owner = work("owner", 40, 20, 8, "a")
    run = play("gpumax", lent, owner, checkpoint=saving)
    (a, b) = run.queues
    assert a.wait_p99_s == 0
    assert b.wait_p99_s == 20 * 60
    assert (run.evictions.reclaim, b.evictions) == (2, 2)
    # 40 minutes, of which 30 were saved; 20 of waiting; one of restarting; the other 70.
    assert run.completion_s.max == (40 + 20 + 1 + 70) * 60
    assert run.lost == pytest.approx((10 + 1) * 16 / (111 * 16 + 20 * 8))
    assert run.violations == 0


def test_short_work_waits_for_less_where_much_held_work_makes_way() -> None:
    """Two long ones hold all; short ones come every ten minutes. No rule is broken, and all of it ends."""
    saving = Saving(10 * MINUTE_MS, MINUTE_MS)
    long = [work(f"long-{name}", 0, 600, 8, name) for name in "ab"]
    short = [work(f"short-{number:02}", 10 * number + 5, 5, 2, "ab"[number % 2]) for number in range(40)]
    plain = play("gpumax", *long, *short, checkpoint=saving)
    steps = {"demote": (1_000, 20_000), "fresh": "f"}
    queues = (queue("a", 8, **steps), queue("b", 8, **steps), queue("f", 8, priority=200))
    found = play("gpumax", *long, *short, queues=queues, checkpoint=saving)
    assert plain.evictions.reclaim + plain.evictions.preempt == 0
    assert found.evictions.reclaim + found.evictions.preempt > 0
    assert found.wait_s.p50 < plain.wait_s.p50 / 10
    assert found.completion_s.mean < plain.completion_s.mean
    assert (found.rule_breaks, found.stuck) == (0, 0)


def test_grace_keeps_the_owner_waiting_and_no_longer() -> None:
    """Room is free when the grace of an eviction is over; that is no breach of the guarantee."""
    run = play("gpumax", work("lent", 0, 100, 16, "b"), work("owner", 40, 20, 8, "a"), grace_ms=90_000)
    assert run.queues[0].wait_p99_s == 90
    assert run.violations == 0


def test_slow_starts_hold_devices_that_do_not_work_yet() -> None:
    """Five minutes from a place to the first work: allocated, not used."""
    run = play("gpumax", work("x", 0, 10, 16), start_ms=5 * MINUTE_MS, window_ms=15 * MINUTE_MS)
    assert run.wait_s.max == 0
    assert run.completion_s.max == 15 * 60
    assert run.use.requested == pytest.approx(2 / 3)
    assert run.use.allocated == 1


def test_a_breach_of_the_guarantee_is_counted() -> None:
    """Kubernetes' scheduler knows no quota: an owner waits while others hold more than theirs."""
    rows = [work(f"w{number:02}", 0, 60, 1, "b") for number in range(16)]
    run = play("kubernetes-default", *rows, work("owner", 10, 10, 1, "a"), work("late", 20, 1, 1, "b"))
    assert run.violations > 0
    assert play("gpumax", *rows, work("owner", 10, 10, 1, "a"), work("late", 20, 1, 1, "b")).violations == 0


def test_fractions_are_drawn_from_the_seed_for_work_of_one_device() -> None:
    """Halves share devices; work of several devices keeps whole ones."""
    rows = [work(f"w{number:02}", 0, 10, 1, "ab"[number % 2]) for number in range(32)]
    run = play("gpumax-fractions", *rows, sizes={500: 1}, window_ms=10 * MINUTE_MS)
    assert run.wait_s.max == 0
    assert run.use.requested == 1.0
    assert play("gpumax", *rows, sizes={500: 1}).wait_s.max == 600
    wide = play("gpumax-fractions", work("x", 0, 10, 16), work("y", 0, 10, 2), sizes={500: 1})
    assert wide.wait_s.max == 600


def test_whole_devices_for_fractions_where_a_policy_knows_no_others() -> None:
    """What was asked for is used; the whole device is allocated."""
    run = play("static-backfill", work("x", 0, 10, 1, milli=250), window_ms=10 * MINUTE_MS)
    assert run.use.requested == pytest.approx(0.25 / 16)
    assert run.use.allocated == pytest.approx(1 / 16)


def test_a_scenario_without_queues_has_one_for_each_name_in_its_trace() -> None:
    """Work of no tenant goes to one queue."""
    run = play("gpumax", work("x", 0, 10, 16, ""), work("y", 0, 10, 1, "team"), queues=())
    assert [row.name for row in run.queues] == ["default", "team"]
    assert run.stuck == 0


def test_a_journalled_run_can_be_decided_again(tmp_path: Path) -> None:
    """Every decision of a run comes out the same, byte for byte, when it is made again from its journal."""
    journal = FileJournal(tmp_path / "journal", most_files=1_000)
    written = replay(scenario(*BURST), "gpumax", 1, journal=journal)
    journal.close()
    verdicts = list(decide_again(tmp_path))
    assert len(verdicts) >= len(BURST)
    assert [verdict for verdict in verdicts if verdict.difference or verdict.torn] == []
    assert same(written) == same(replay(scenario(*BURST), "gpumax", 1))


def test_a_run_told_of_as_time_passes_adds_up() -> None:
    """Steps of the series and of every queue hold the same GPU time as the use of the whole window."""
    run = play("gpumax", *BURST, window_ms=120 * MINUTE_MS)
    assert run.series is not None
    steps = round(120 * 60 / run.series.step_s)
    assert sum(run.series.requested[:steps]) / steps == pytest.approx(run.use.requested)
    held = sum(sum(row.held[:steps]) for row in run.queues) / steps
    assert held / 16 == pytest.approx(run.use.requested)
    assert sum(row.served for row in run.queues) == pytest.approx(run.use.requested * 16 * 2)


@pytest.mark.parametrize("policy", ["static-backfill", "gpumax"])
def test_work_that_failing_nodes_throw_back_for_ever_is_stuck(policy: str) -> None:
    """Ten hours that are never saved, on nodes of which each fails every half an hour: the run comes to an end, and says so."""
    rows = (work("long", 0, 600), work("short", 0, 5, queue="b"))
    run = play(policy, *rows, failures=Failures(30 * 60_000, 60_000))
    assert run.stuck == 1
    assert run.evictions.failure > 100
