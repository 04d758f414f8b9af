"""What if: what is asked, every fault at once, and the same work under other settings and on other nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from formats.kit import faults_of
from gpumax.model.whatif import Difference, Found, Pair, QueueDifference, Try
from gpumax.study.replay import replay
from gpumax.study.whatif import Wish, ask, compare
from gpumax.study.whatif.words import difference_in_words, found_in_words
from study.kit import scenario as scenario_file
from study.replay_kit import scenario, work
from study.whatif_kit import asked, drawn, written


def told(folder: Path, **wish: Any) -> list[str]:
    """The faults of a question about a small scenario."""
    path = written(folder, scenario(work("x", 0, 5)))
    return [str(fault) for fault in faults_of(ask, path, Wish(**wish))]


class TestDifference:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_larger_quota_shortens_the_waits_of_its_queue(self, tmp_path: Path, seed: int) -> None:
        """Where both queues have more to do than there is room for, the one with more quota waits less, and that is said."""
        question = asked(
            tmp_path, scenario(*drawn(seed)), settings=("queue.a.quota.gpu=14", "queue.b.quota.gpu=2")
        )
        found = compare(question)
        a, b = found.queues
        assert (a.quota, b.quota) == (Pair(8.0, 14.0), Pair(8.0, 2.0))
        assert a.wait_mean_s.after < 0.8 * a.wait_mean_s.before
        assert b.wait_mean_s.after > b.wait_mean_s.before
        assert found.changes == ("queue.a.quota.gpu: 8 -> 14", "queue.b.quota.gpu: 8 -> 2")
        assert found.finding[0].startswith("On average a waits ")
        assert " less (" in found.finding[0]
        assert "b waits " in found.finding[0]
        assert "longer" in found.finding[0]

    def test_no_change_makes_no_difference(self, tmp_path: Path) -> None:
        """A setting that is what it was: every figure is the same on both sides, and that is said."""
        found = compare(asked(tmp_path, scenario(*drawn(1)), settings=("queue.a.quota.gpu=8",)))
        pairs = [value for value in (getattr(found, name) for name in found.__struct_fields__) if isinstance(value, Pair)]  # fmt: skip
        pairs += [
            getattr(row, name) for row in found.queues for name in row.__struct_fields__ if name != "name"
        ]
        assert len(pairs) > 25
        assert [pair for pair in pairs if pair.before != pair.after] == []
        assert found.finding == (
            "It makes no difference: every wait, all use and all evictions are the same.",
        )

    def test_what_is_played_is_what_a_scenario_with_the_change_in_it_plays(self, tmp_path: Path) -> None:
        """Both sides are the runs that `simulate` makes of the two scenarios."""
        played = scenario(*drawn(2))
        question = asked(
            tmp_path, played, settings=("queue.b.limit.gpu=4", "grace=30s", "start=5s"), added=("1xA100:8",)
        )
        found = compare(question)
        before, after = (replay(one, "gpumax", 42) for one in (question.before, question.after))
        assert found.wait_p99_s == Pair(before.wait_s.p99, after.wait_s.p99)
        assert found.use == Pair(before.use.requested, after.use.requested)
        assert found.gpus == Pair(16, 24)
        assert [row.evictions.after for row in found.queues] == [row.evictions for row in after.queues]
        assert (question.after.grace_ms, question.after.start_ms) == (30_000, 5_000)
        (_, b) = question.after.queues
        assert b.limit.gpu == 4000

    def test_less_work_is_no_shorter_wait(self, tmp_path: Path) -> None:
        """A queue whose work can't run any more is said to be so, and not to wait less."""
        played = scenario(*drawn(1, 20))
        question = asked(tmp_path, played, settings=("queue.a.quota.gpu=",), policy="static-backfill")
        found = compare(question)
        mine = sum(row.queue == "a" for row in played.arrivals)
        assert found.never == Pair(0, mine)
        assert found.finding[0].startswith(f"{mine} workloads can never run there, 0 as it is")
        assert not any("a waits" in sentence for sentence in found.finding)

    def test_options_of_the_policy_hold(self, tmp_path: Path) -> None:
        """With one eviction in a decision nobody can take eight GPUs back from eight tasks; without the bound they can."""
        rows = [work(f"b{number}", 0, 600, 1, "b") for number in range(16)]
        question = asked(
            tmp_path, scenario(*rows, work("mine", 1, 10, 8, "a")), settings=("policy.max_evictions=1",)
        )
        found = compare(question)
        a, _ = found.queues
        assert found.evictions == Pair(8, 0)
        assert a.wait_mean_s.before == 0
        assert a.wait_mean_s.after > 3600

    def test_whoever_is_told_how_far_it_is_may_end_it(self, tmp_path: Path) -> None:
        """Both runs are told of, to their ends; a KeyboardInterrupt goes through."""
        question = asked(tmp_path, scenario(*drawn(1, 10)), added=("1x8",))
        seen: dict[str, float] = {}
        compare(question, seen.__setitem__)
        assert seen == {"as it is": 1.0, "as changed": 1.0}

        def enough(what: str, part: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compare(question, enough)


class TestQuestion:
    def test_every_fault_is_told_at_once(self, tmp_path: Path) -> None:
        """Of settings, nodes, goal and policy, each with what was wanted, before anything is played."""
        found = told(
            tmp_path,
            settings=("queue.c.quota.gpu=1", "queue.a.quota.gpu=-4", "queue.a.quotas=1", "queue.a.name=z", "quta=1", "x", "checkpoint.every=0", "grace=-1", "start.x=1", "queue.b=1", "queue.b.weight.gpu=x"),
            added=("4xH100", "0xH100:8", "1xA100:999", "H100"),
            removed=("9xA100:8", "1xH100"),
            goal="cheapest",
            policy="fifo",
        )  # fmt: skip
        assert len(found) == 19
        for part in (
            '--set queue.c.quota.gpu: found no queue "c"; wanted a queue that exists',
            "--set queue.a.quota.gpu: found -4; wanted 0 or more",
            "--set queue.a.quotas: found an unknown field",
            "--set queue.a.name: found no field of it; wanted one of parent, priority, quota",
            '--set quta: found "quta"; wanted one of queue, policy',
            '--set: found "x"; wanted NAME=VALUE',
            "--set checkpoint.every: found 0; wanted a duration",
            "--set grace: found -1; wanted a duration",
            "--set start.x: found a field of a duration",
            "--set queue.b: found no field of it",
            '--set queue.b.weight.gpu: found "x"; wanted a number',
            '--add-nodes: found no number of GPUs in "4xH100"',
            "--add-nodes: found 0 nodes",
            "--add-nodes: found 999 GPUs in a node",
            '--add-nodes: found "H100"',
            "--remove-nodes: found 9 nodes of 8 A100; wanted at most the 2 of that kind; there are 2xA100:8",
            "--remove-nodes: found 1 node of H100; wanted at most the 0 of that kind",
            '--find: found "cheapest"; wanted "smallest cluster with MEASURE < TIME"',
            '--policy: found "fifo"; wanted one of static-fifo',
        ):
            assert [text for text in found if text.startswith(part)], part

    def test_faults_of_the_file_are_told_with_those_of_the_question(self, tmp_path: Path) -> None:
        """One look mends both."""
        (tmp_path / "study.yaml").write_text("nodes: [{count: 0}]\narrivals: {csv: gone.csv}\n")
        found = [
            str(fault) for fault in faults_of(ask, tmp_path / "study.yaml", Wish(goal="best", added=("x",)))
        ]
        assert any("nodes[0].count" in text and "study.yaml" in text for text in found)
        assert any("gone.csv" in text for text in found)
        assert [text.partition(":")[0] for text in found[-2:]] == ["--add-nodes", "--find"]

    def test_a_scenario_without_time_is_refused(self, tmp_path: Path) -> None:
        """Nobody waits in it."""
        scenario_file(tmp_path, "protocol: inflate\nqueues: null\n")
        found = [str(fault) for fault in faults_of(ask, tmp_path / "study.yaml", Wish(goal="smallest cluster with p99 wait < 1h"))]  # fmt: skip
        assert found == [f"protocol of {tmp_path / 'study.yaml'}: found inflate; wanted protocol replay: inflate knows no tenants and no time"]  # fmt: skip

    @pytest.mark.parametrize(
        ("wish", "fault"),
        [
            ({"settings": ("queue.a.parent=b",)}, '--set queue.a.parent: found "b", to which work comes'),
            ({"settings": ("queue.b.parent=b",)}, "--set queue.b.parent: found a cycle"),
            ({"settings": ("queue.b.fresh=x",)}, '--set queue.b.fresh: found "x"; wanted a queue that exists'),
            ({"settings": ("queue.b.parent=x",)}, '--set queue.b.parent: found "x"; wanted a queue that exists'),
            ({"settings": ("queue.a.quota.gpu=1", "queue.a.quota.gpu=2")}, "--set queue.a.quota.gpu: found a second value"),
            ({"settings": ("policy.max_evictions=1",), "policy": "static-fifo"}, "--set policy.max_evictions: found an option of gpumax"),
            ({"removed": ("2xA100:8",)}, "--remove-nodes: found no GPU left"),
        ],
    )  # fmt: skip
    def test_what_could_not_be_played_is_refused(self, tmp_path: Path, wish: Any, fault: str) -> None:
        """Trees that are none, settings that contradict each other, clusters of nothing."""
        played = scenario(work("x", 0, 5, queue="b"), work("y", 0, 5))
        (found,) = faults_of(ask, written(tmp_path, played), Wish(**wish))
        assert str(found).startswith(fault)

    def test_a_weight_that_nobody_chose_follows_the_quota(self, tmp_path: Path) -> None:
        """As `gpumax queue set` has it; one that was chosen stays."""
        played = scenario(work("x", 0, 5))
        question = asked(tmp_path, played, settings=("queue.a.quota.gpu=12", "queue.b.weight.gpu=3"))
        a, b = question.after.queues
        assert (a.weight.gpu, b.weight.gpu, b.quota.gpu) == (12_000, 3000, 8000)
        assert question.changes == ("queue.a.quota.gpu: 8 -> 12", "queue.b.weight.gpu: unset -> 3")

    def test_names_of_queues_may_have_dots(self, tmp_path: Path) -> None:
        """The longest name that fits is meant."""
        scenario_file(tmp_path, "queues: [{name: a}, {name: a.quota, quota: {gpu: 3}}, {name: b}]\n")
        question = ask(tmp_path / "study.yaml", Wish(("queue.a.quota.quota.gpu=5", "queue.a.priority=7")))
        assert [(row.name, row.quota.gpu, row.priority) for row in question.after.queues] == [
            ("a", 0, 7), ("a.quota", 5000, 100), ("b", 0, 100)
        ]  # fmt: skip

    def test_more_quota_than_there_is_is_told(self, tmp_path: Path) -> None:
        """Nobody finds out from the figures alone."""
        question = asked(tmp_path, scenario(work("x", 0, 5)), settings=("queue.a.quota.gpu=12",))
        assert (
            "Quotas add up to 20 of 16 GPUs: each is cut, by priority and then in proportion."
            in question.assumed
        )

    def test_work_that_was_too_large_to_be_read_is_told_where_a_larger_cluster_is_asked_for(
        self, tmp_path: Path
    ) -> None:
        """A larger one might have held it; of the same cluster nobody asks."""
        path = written(tmp_path, scenario(work("huge", 0, 5, 17), work("x", 0, 5)))
        told_of = [
            any("more GPUs than the scenario's own cluster" in sentence for sentence in ask(path, wish).assumed)
            for wish in (Wish(added=("1x8",)), Wish(goal="smallest cluster with p99 wait < 1h"), Wish(("grace=1s",)))
        ]  # fmt: skip
        assert told_of == [True, True, False]

    def test_faults_stand_in_the_order_of_the_question(self, tmp_path: Path) -> None:
        """Settings as they were written, whatever is wrong with them; then nodes, the goal and the policy, with those that there are."""
        faults = told(
            tmp_path,
            settings=("queue.a.quota.gpu=-4", "nope=1", "queue.zz.quota.gpu=1", "queue.b.quota.gpu=-1"),
            added=("H100",),
            removed=("9x8",),
            goal="best",
            policy="nope",
        )
        assert [fault.partition(": found")[0] for fault in faults] == [
            "--set queue.a.quota.gpu", "--set nope", "--set queue.zz.quota.gpu", "--set queue.b.quota.gpu", "--add-nodes",
            "--remove-nodes", "--find", "--policy",
        ]  # fmt: skip
        assert faults[-1] == (
            '--policy: found "nope"; wanted one of static-fifo, static-backfill, hard-quota, kubernetes-default, gpumax, gpumax-fractions'
        )


class TestWords:
    def test_the_queues_that_gain_and_lose_most_are_named_and_the_rest_counted(self) -> None:
        """Two on each side; that nobody loses is said."""
        changes = {"a": (60, 10), "b": (60, 30), "c": (60, 50), "d": (60, 55), "e": (60, 60.5), "f": (0, 30)}
        rows = tuple(_row(name, before, after) for name, (before, after) in changes.items())
        who, together = difference_in_words(_difference(rows))
        assert who == "On average a waits 50 s less (1 min -> 10 s), b waits 30 s less (1 min -> 30 s), f waits 30 s longer (0 s -> 30 s) and 2 more wait less."  # fmt: skip
        assert together.endswith("5 evictions instead of 9.")
        who, _ = difference_in_words(_difference(rows[:1]))
        assert who == "On average a waits 50 s less (1 min -> 10 s); no queue waits longer."

    def test_decisions_that_broke_a_rule_are_told(self) -> None:
        """Figures that rest on them can't be trusted."""
        found = changed(_difference((_row("a", 1, 1),)), rule_breaks=Pair(1, 2))
        assert list(difference_in_words(found))[-1].startswith("3 decisions broke a rule of the policy")

    def test_a_larger_cluster_that_does_worse_is_told(self) -> None:
        """Bisection rests on that there is none."""
        tries = tuple(Try(number, 8 * number, 60.0 * number, 0, 0, number == 3) for number in (2, 3, 4))
        found = Found("s", "gpumax", 1, "p99 wait < 4m", (), (), 3, 24, tries, scaled_quotas=False)
        answer, near, doubt = found_in_words(found, "p99 wait", hopeless=False)
        assert answer == "The smallest cluster with p99 wait < 4m has 3 nodes (24 GPUs): p99 wait 3 min."
        assert (
            near
            == "Next to it: with 2 nodes (16 GPUs) p99 wait 2 min; with 4 nodes (32 GPUs) p99 wait 4 min."
        )
        assert doubt.startswith("Larger is not always better here: 4 nodes don't meet the goal")
        held = changed(found, tries=(*tries[:2], changed(tries[2], met=True)))
        assert list(found_in_words(held, "p99 wait", hopeless=False))[-1] == (
            "Found by bisection, which holds where a larger cluster does no worse; 1 of 2 smaller sizes was played."
        )


def _row(name: str, before: float, after: float) -> QueueDifference:
    same = Pair(1, 1)
    return QueueDifference(name, same, same, Pair(before, after), same, same, same)


def _difference(rows: tuple[QueueDifference, ...]) -> Difference:
    pairs: dict[str, Any] = {
        name: Pair(1, 1) for name, kind in Difference.__annotations__.items() if kind in (Pair, "Pair")
    } | {"evictions": Pair(9, 5), "rule_breaks": Pair(0, 0)}
    return Difference("s", "gpumax", 1, (), (), queues=rows, **pairs)
