"""The loop on fakes: share, give back, go on later, and nothing done twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gpumax.errors import Stale
from gpumax.loop.troubles import Troubles
from gpumax.model.decision import Decision, Place
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceShare
from gpumax.ports.engine import Launch, Refusal
from loop.kit import MINUTE_MS, Rig, machine, queue, spec


def test_a_submitted_workload_runs_after_one_cycle(tmp_path: Path) -> None:
    """Placed, recorded, started; the next cycle sees it run, and the one after its end that it is done."""
    rig = Rig(tmp_path)
    rig.submit(spec("w", "a", 2))
    rig.cycle()
    assert rig.states("w") == ["bound"]
    assert rig.started() == ["w-0"]
    rig.cycle()
    assert rig.states("w") == ["running"]
    rig.engine.exit("w-0")
    rig.cycle()
    assert rig.record("w").state == "succeeded"
    assert rig.engine.observe().attempts == ()


def test_idle_quota_is_lent_and_given_back(tmp_path: Path) -> None:
    """b runs on all eight GPUs while a is idle; when a submits, b gives four back and goes on with four."""
    rig = Rig(tmp_path)
    rig.submit(spec("lent", "b", 1, 8, least=1))
    rig.settle()
    assert rig.states("lent") == ["running"] * 8
    rig.submit(spec("owner", "a", 4))
    rig.settle()
    assert rig.states("owner") == ["running"]
    assert rig.states("lent").count("running") == 4
    assert rig.record("lent").evictions == 1
    assert rig.record("lent").failures == 0


def test_evicted_work_starts_again_when_there_is_room_and_loses_nothing(tmp_path: Path) -> None:
    """Evictions never count as failures, so a workload without retries survives any number of them."""
    rig = Rig(tmp_path, queues=(queue("a", 8), queue("b", 0)))
    (lent,) = rig.submit(spec("lent", "b", 8))
    rig.settle()
    for round_ in range(3):
        rig.submit(spec(f"owner-{round_}", "a", 8))
        rig.settle()
        assert rig.states("lent") == ["pending"]
        rig.engine.exit(f"owner-{round_}-0")
        rig.settle()
        assert rig.states("lent") == ["running"]
    record = rig.record("lent")
    assert (record.failures, record.evictions, record.runs) == (0, 3, 4)
    runs = [launch.env for launch in rig.engine.launches.values() if launch.task == "lent-0"]
    assert {env["GPUMAX_RUN"] for env in runs} == {lent.id}
    assert len({env["GPUMAX_CHECKPOINT_DIR"] for env in runs}) == 1


def test_an_owner_waits_for_those_who_leave_and_says_so(tmp_path: Path) -> None:
    """While its victims take their grace, the owner's hold says that room is being freed; it starts when they are gone."""
    rig = Rig(tmp_path, queues=(queue("a", 8), queue("b", 0)), stops=False)
    rig.submit(spec("lent", "b", 8))
    rig.settle()
    rig.submit(spec("owner", "a", 8))
    rig.settle()
    hold = rig.record("owner").hold
    assert hold is not None
    assert hold.code == "WaitsForEvictions"
    assert rig.states("lent") == ["releasing"]
    rig.engine.exit("lent-0", 143)
    rig.settle()
    assert rig.states("owner") == ["running"]
    assert rig.record("owner").hold is None


def test_of_two_victims_the_one_that_saved_lately_goes(tmp_path: Path) -> None:
    """What the engine sees of checkpoints reaches the decision."""
    rig = Rig(tmp_path, (machine(gpus=2),), (queue("a", 1), queue("b", 1)))
    rig.submit(spec("v", "b"))
    rig.cycle()
    rig.clock.advance(MINUTE_MS)
    rig.submit(spec("w", "b"))
    rig.settle()
    rig.clock.advance(10 * MINUTE_MS)
    rig.engine.checkpoint("v-0")
    rig.submit(spec("owner", "a"))
    rig.settle()
    assert rig.record("v").evictions == 1
    assert rig.record("w").evictions == 0


def test_a_cycle_that_finds_nothing_new_decides_nothing(tmp_path: Path) -> None:
    """The journal holds a decision once, however often the loop looks."""
    rig = Rig(tmp_path)
    rig.submit(spec("w", "a", 9))
    rig.settle()
    entries, decisions = len(rig.journal.entries), rig.loop.status["decisions"]
    rig.clock.advance(MINUTE_MS)
    rig.cycle(5)
    assert len(rig.journal.entries) == entries
    assert rig.loop.status["decisions"] == decisions
    assert rig.loop.last is not None
    assert rig.loop.last.snapshot.now_ms == rig.clock.now_ms()


def test_a_minimum_runtime_ends_by_itself(tmp_path: Path) -> None:
    """Nothing happens but time: the victim is protected until its minute, then it goes."""
    young = queue("b", 0, reclaim_min_runtime_ms=5 * MINUTE_MS)
    rig = Rig(tmp_path, queues=(queue("a", 8), young))
    rig.submit(spec("lent", "b", 8))
    rig.settle()
    rig.submit(spec("owner", "a", 8))
    rig.settle()
    assert rig.states("lent") == ["running"]
    rig.clock.advance(5 * MINUTE_MS - 1)
    rig.settle()
    assert rig.states("lent") == ["running"]
    rig.clock.advance(1)
    rig.settle()
    assert rig.states("owner") == ["running"]


def test_a_run_ends_at_its_max_duration(tmp_path: Path) -> None:
    """It is told to go, and fails with the reason."""
    rig = Rig(tmp_path)
    rig.submit(spec("w", "a", max_duration_ms=MINUTE_MS, retries=3))
    rig.settle()
    rig.clock.advance(MINUTE_MS)
    rig.settle()
    record = rig.record("w")
    assert record.state == "failed"
    assert "max_duration of 1m" in record.reason


def test_a_refused_start_is_given_back_and_tried_again_later(tmp_path: Path) -> None:
    """The pause doubles; while it lasts nothing is started, and the reason is on record."""
    rig = Rig(tmp_path)
    rig.engine.refuse = "no space left on device"
    rig.submit(spec("w", "a"))
    tries = []
    for second in range(16):
        before = len(rig.engine.orders)
        rig.cycle(3)
        if len(rig.engine.orders) > before:
            tries.append(second)
        rig.clock.advance(1000)
    assert tries == [0, 1, 3, 7, 15]
    record = rig.record("w")
    assert record.state == "pending"
    assert record.runs == 0
    assert record.failures == 0
    assert "no space left on device" in rig.tasks("w")[0].reason
    rig.engine.refuse = ""
    rig.clock.advance(MINUTE_MS)
    rig.settle()
    assert rig.states("w") == ["running"]


def test_nobody_makes_way_for_work_that_the_engine_objects_to(tmp_path: Path) -> None:
    """It waits with the reason, asks for nothing, and starts once that is mended; a plan says it, too."""
    rig = Rig(tmp_path)
    rig.submit(spec("lent", "b", 2, 4, least=1))
    rig.settle()
    rig.engine.object = "there is no secret X"
    assert rig.loop.what_if([spec("mine", "a", 4)]).objections == {"mine": "there is no secret X"}
    rig.submit(spec("mine", "a", 4))
    for _ in range(20):
        rig.cycle()
        rig.clock.advance(MINUTE_MS)
    record = rig.record("mine")
    assert (rig.record("lent").evictions, record.objection, record.state) == (
        0,
        "there is no secret X",
        "pending",
    )
    assert rig.events("Refused", "mine") == ["there is no secret X"]
    rig.engine.object = ""
    rig.clock.advance(10_000)
    rig.settle()
    assert rig.states("mine") == ["running"]
    assert rig.record("mine").objection == ""


def test_a_start_that_is_refused_again_and_again_costs_others_little(tmp_path: Path) -> None:
    """Where only the start shows it, nobody is evicted for it again at once: after a minute, then two, then four."""
    rig = Rig(tmp_path)
    rig.submit(spec("lent", "b", 2, 4, least=1))
    rig.settle()
    start = rig.engine._start

    def never_mine(launch: Launch) -> Refusal | None:
        return Refusal(launch.attempt, "not today") if launch.task == "mine-0" else start(launch)

    rig.engine._start = never_mine  # type: ignore[method-assign]
    rig.submit(spec("mine", "a", 4))
    evicted = []
    for second in range(500):
        before = rig.record("lent").evictions
        rig.settle()
        if rig.record("lent").evictions > before:
            evicted.append(second)
        rig.clock.advance(1000)
    assert evicted == [0, 60, 180, 420]
    assert rig.states("lent") == ["running"] * 4


def test_a_refused_start_is_made_on_free_room_before_anybody_makes_way(tmp_path: Path) -> None:
    """What it may not take from others yet, it takes when it is free."""
    rig = Rig(tmp_path, (machine(gpus=2),), (queue("a", 1), queue("b", 1)))
    rig.submit(spec("v", "b"), spec("w", "b"))
    rig.settle()
    start = rig.engine._start

    def never_owner(launch: Launch) -> Refusal | None:
        return Refusal(launch.attempt, "not today") if launch.task == "owner-0" else start(launch)

    rig.engine._start = never_owner  # type: ignore[method-assign]
    rig.submit(spec("owner", "a"))
    rig.settle()
    rig.engine._start = start  # type: ignore[method-assign]
    rig.clock.advance(2000)
    rig.settle()
    assert rig.states("owner") == ["pending"]
    assert sorted(rig.states("v") + rig.states("w")) == ["running", "running"]
    rig.engine.exit("v-0")
    rig.settle()
    assert rig.states("owner") == ["running"]


def test_a_failed_run_pauses_before_it_starts_again(tmp_path: Path) -> None:
    """Also for a loop that comes anew; its room is for others meanwhile."""
    rig = Rig(tmp_path, (machine(gpus=1),))
    rig.submit(spec("w", "a", retries=1000))
    starts = []
    for second in range(32):
        before = len(rig.started())
        rig.settle()
        if len(rig.started()) > before:
            starts.append(second)
            rig.engine.exit("w-0", 1)
            rig.settle()
            assert rig.states("w") == ["pending"]
        rig.restart()
        rig.clock.advance(1000)
    assert starts == [0, 1, 3, 7, 15, 31]


def test_a_refused_workload_does_not_stand_in_the_way_of_others(tmp_path: Path) -> None:
    """Its room is for others while it waits to be tried again."""
    rig = Rig(tmp_path, (machine(gpus=1),))
    rig.submit(spec("first", "a"))
    rig.engine.refuse = "its work directory is gone"
    rig.cycle()
    rig.engine.refuse = ""
    rig.submit(spec("second", "b"))
    rig.settle()
    assert rig.states("second") == ["running"]
    assert rig.states("first") == ["pending"]


def test_a_gang_whose_one_task_is_refused_starts_whole_or_not_at_all(tmp_path: Path) -> None:
    """The tasks that were started are stopped, and none of them counts as done, whatever it exits with."""
    rig = Rig(tmp_path, stops=False)
    rig.submit(spec("gang", "a", 1, 3))
    refused: list[str] = []
    start = rig.engine._start

    def one_refused(launch):  # type: ignore[no-untyped-def]
        from gpumax.ports.engine import Refusal

        if launch.task == "gang-2" and not refused:
            refused.append(launch.attempt)
            return Refusal(launch.attempt, "not today")
        return start(launch)

    rig.engine._start = one_refused  # type: ignore[method-assign]
    rig.cycle()
    assert rig.states("gang") == ["releasing", "releasing", "pending"]
    rig.engine.exit("gang-0", 0)
    rig.engine.exit("gang-1", 143)
    rig.cycle()
    assert rig.states("gang") == ["pending"] * 3
    rig.clock.advance(MINUTE_MS)
    rig.settle()
    assert rig.states("gang") == ["running"] * 3


def test_a_decision_that_breaks_a_rule_is_not_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks it is dropped and told once; what doesn't is carried out; the journal holds the decision as it was."""
    rig = Rig(tmp_path)
    rig.submit(spec("good", "a"), spec("bad", "a"))
    wrong = Decision(
        places=(
            Place("good-0", "n1", (DeviceShare(0, 1000),)),
            Place("bad-0", "n1", (DeviceShare(0, 1000),)),
        ),
    )
    from gpumax.loop import cycle
    from gpumax.policy.decide import decide

    def mistaken(snapshot: Snapshot) -> Decision:
        return Decision(wrong.places, (), (), decide(snapshot).shares)

    monkeypatch.setattr(cycle, "decide", mistaken)
    rig.cycle()
    assert rig.states("good") == ["bound"]
    assert rig.states("bad") == ["pending"]
    assert rig.loop.status["rule_breaks"] == 1
    assert len(rig.events("RuleBroken", "bad")) == 1
    assert rig.journal.entries[-1][1].places == wrong.places
    assert rig.loop.last is not None
    assert [place.task for place in rig.loop.last.decision.places] == ["good-0"]


def test_what_a_decision_warns_of_is_told_once(tmp_path: Path) -> None:
    """Not in every cycle, nor when the amounts are others; of each node by itself, and again when it comes back."""
    rig = Rig(tmp_path, queues=(queue("a", 8), queue("b", 8)))
    rig.submit(spec("one", "a", gpu=8), spec("two", "b", gpu=6))
    rig.cycle()
    (told,) = rig.events("Warned")
    assert told.startswith("quotas of gpu in the cluster exceed what there is (14 of 8)")
    rig.submit(spec("three", "b"))
    rig.cycle(2)
    assert rig.loop.last is not None
    assert "(15 of 8)" in rig.loop.last.decision.warnings[0]
    assert rig.events("Warned") == [told]
    rig.wish("two", "suspend")
    rig.wish("three", "suspend")
    rig.settle()
    assert rig.loop.last.decision.warnings == ()
    rig.wish("two", "run")
    rig.cycle()
    assert rig.events("Warned") == [told, told]


def test_warnings_about_two_nodes_are_two(tmp_path: Path) -> None:
    """The numbers of their names count."""
    rig = Rig(tmp_path)
    troubles = Troubles(rig.store, rig.clock)
    one, two = "n1 holds 2 cores more than there are", "n2 holds 2 cores more than there are"
    assert [event.message for event in troubles.warned([one], 0)] == [one]
    assert [event.message for event in troubles.warned([one, two], 0)] == [two]


def test_files_of_deleted_work_go(tmp_path: Path) -> None:
    """Logs and checkpoints in the data directory; a checkpoint directory elsewhere is the user's own."""
    from gpumax.model.spec import Checkpoint

    own = tmp_path / "own"
    own.mkdir()
    rig = Rig(tmp_path / "data")
    kept, gone = rig.submit(spec("kept", "a"), spec("gone", "a", checkpoint=Checkpoint(str(own))))
    for record in (kept, gone):
        for kind in ("logs", "checkpoints"):
            (rig.data / kind / record.id).mkdir(parents=True)
            (rig.data / kind / record.id / "file").write_text("x")
    (rig.data / "logs" / gone.id / "link").symlink_to(own)
    rig.settle()
    rig.wish("gone", "delete")
    rig.settle()
    rig.loop._sweep.wait(10)
    assert rig.store.find("gone") is None
    assert not (rig.data / "logs" / gone.id).exists()
    assert not (rig.data / "checkpoints" / gone.id).exists()
    assert (rig.data / "logs" / kept.id / "file").exists()
    assert own.is_dir()


def test_files_that_a_killed_server_left_go_at_the_next_start(tmp_path: Path) -> None:
    """Known workloads keep theirs, finished ones too; what doesn't look like a workload's is left alone."""
    rig = Rig(tmp_path)
    (done,) = rig.submit(spec("done", "a"))
    rig.settle()
    rig.engine.exit("done-0")
    rig.settle()
    for name in (done.id, "unknown-000009", ".hidden"):
        (tmp_path / "logs" / name).mkdir(parents=True)
    (tmp_path / "logs" / "note.txt").write_text("x")
    rig.restart().cycle()
    rig.loop._sweep.wait(10)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [".hidden", done.id, "note.txt"]


def test_what_if_shows_the_answer_and_changes_nothing(tmp_path: Path) -> None:
    """A plan sees the cluster as the last cycle left it."""
    rig = Rig(tmp_path)
    with pytest.raises(Stale):
        rig.loop.what_if([spec("w", "a")])
    rig.submit(spec("lent", "b", 1, 8, least=1))
    rig.settle()
    before = rig.store.live()
    snapshot, decision, objections = rig.loop.what_if(
        [spec("plan", "a", 2), spec("more", "new", 1)], [queue("new", 1)]
    )
    assert {workload.name for workload in snapshot.workloads} == {"lent", "plan", "more"}
    assert objections == {}
    assert {place.task for place in decision.places} >= {"plan-0"}
    assert len(decision.evictions) >= 2
    assert rig.store.live() == before
    assert rig.started() == [f"lent-{rank}" for rank in range(8)]


def test_a_caller_waits_for_the_cycle_that_saw_its_change(tmp_path: Path) -> None:
    """A stamp is passed by a cycle that began after its wake, and by no earlier one."""
    rig = Rig(tmp_path)
    stamp = rig.loop.wake()
    assert not rig.loop.wait_past(stamp, 0)
    rig.cycle()
    assert rig.loop.wait_past(stamp, 0)
    assert not rig.loop.wait_past(rig.loop.wake(), 0)


def test_the_loop_runs_on_wakes_until_it_is_stopped(tmp_path: Path) -> None:
    """A submit and a wake from another thread are enough."""
    rig = Rig(tmp_path)
    rig.engine.wake = rig.loop.wake  # type: ignore[assignment]
    thread = threading.Thread(target=rig.loop.run)
    thread.start()
    try:
        rig.submit(spec("w", "a"))
        assert rig.loop.wait_past(rig.loop.wake(), 10)
        assert rig.started() == ["w-0"]
        rig.engine.exit("w-0")
        assert rig.loop.wait_past(rig.loop.wake(), 10)
        assert rig.record("w").state == "succeeded"
    finally:
        rig.loop.stop()
        thread.join(10)
    assert not thread.is_alive()


def test_a_loop_that_fails_says_so_and_goes_on(tmp_path: Path) -> None:
    """One event, however often it fails alike; when the trouble is over, work starts."""
    rig = Rig(tmp_path)
    observe = rig.engine.observe
    failed = threading.Semaphore(0)

    def broken():  # type: ignore[no-untyped-def]
        failed.release()
        raise OSError(5, "Input/output error", "/dev/x")

    rig.engine.observe = broken  # type: ignore[method-assign]
    rig.submit(spec("w", "a"))
    thread = threading.Thread(target=rig.loop.run)
    thread.start()
    try:
        assert failed.acquire(timeout=10)
        assert failed.acquire(timeout=10)
        assert "input/output error" in rig.loop.trouble
        assert len(rig.events("CycleFailed")) == 1
        rig.engine.observe = observe  # type: ignore[method-assign]
        assert rig.loop.wait_past(rig.loop.wake(), 10)
    finally:
        rig.loop.stop()
        thread.join(10)
    assert rig.started() == ["w-0"]
    assert rig.loop.trouble == ""


def test_nothing_is_started_that_is_not_on_record(tmp_path: Path) -> None:
    """A store that takes no more rows: no start, no loss; once it does again, the work starts."""
    rig = Rig(tmp_path)
    rig.submit(spec("w", "a"))
    commit = rig.store.commit

    def full(changes):  # type: ignore[no-untyped-def]
        raise OSError(28, "No space left on device")

    rig.store.commit = full  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            rig.cycle()
    assert rig.started() == []
    rig.store.commit = commit  # type: ignore[method-assign]
    rig.settle()
    assert rig.started() == ["w-0"]


def test_a_journal_that_fails_stops_nothing_and_is_told_once(tmp_path: Path) -> None:
    """Decisions go on without it."""
    rig = Rig(tmp_path)

    def full(snapshot: Snapshot, decision: Decision) -> None:
        raise OSError(28, "No space left on device")

    rig.journal.write = full  # type: ignore[method-assign]
    for name in ("v", "w"):
        rig.submit(spec(name, "a"))
        rig.settle()
        assert rig.states(name) == ["running"]
    assert len(rig.events("JournalFailed")) == 1
    assert "no space left" in rig.loop.trouble
