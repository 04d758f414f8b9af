"""What ends mean: facts in, records and orders out. Every test is one step of one workload."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gpumax.loop.lifecycle import Step, advance
from gpumax.loop.roster import Roster
from gpumax.model.records import Live, TaskRecord, Wish, WorkloadRecord
from gpumax.model.workload import DeviceShare, TaskState
from gpumax.ports.engine import AttemptSeen, Forget, Observation, Stop
from loop.kit import MINUTE_MS, NOW_MS, spec


def workload(*states: TaskState, wish: Wish = "run", **fields: Any) -> Live:
    """A workload whose tasks are in these states; those that hold something hold one GPU each, under attempt a0, a1, ..."""
    record = WorkloadRecord(
        "w-1", spec("w", "q", 1, len(states), **fields), NOW_MS - 60 * MINUTE_MS, "running", wish,
        started_ms=NOW_MS - 10 * MINUTE_MS, runs=1,
    )  # fmt: skip
    tasks = []
    for index, state in enumerate(states):
        task = TaskRecord("w-1", index, f"w-{index}", "", state)
        if state in ("bound", "running", "releasing"):
            task = replace(task, attempt=f"a{index}", node="n1", devices=(DeviceShare(index, 1000),))
        tasks.append(task)
    return Live((), ((record, tuple(tasks)),))


def evicted(live: Live) -> Live:
    """The same with every leaving task evicted for x."""
    ((record, tasks),) = live.workloads
    rows = (
        replace(task, cause="reclaim", beneficiary="x") if task.state == "releasing" else task
        for task in tasks
    )
    return Live((), ((record, tuple(rows)),))


def see(live: Live, *attempts: AttemptSeen, now_ms: int = NOW_MS) -> tuple[Step, WorkloadRecord, list[str]]:
    """One step: what came of it, the record and the states afterwards."""
    step = advance(live, Observation((), attempts), now_ms)
    after = Roster(live).merge(step.changes)
    assert after.workloads or step.changes.deleted
    if not after.workloads:
        return step, live.workloads[0][0], []
    ((record, tasks),) = after.workloads
    return step, record, [task.state for task in tasks]


def exited(index: int, code: int, **fields: Any) -> AttemptSeen:
    return AttemptSeen(
        f"a{index}", "exited", code, **{"started_ms": NOW_MS - 5 * MINUTE_MS, "ended_ms": NOW_MS, **fields}
    )


def running(index: int) -> AttemptSeen:
    return AttemptSeen(f"a{index}", "running", started_ms=NOW_MS - 5 * MINUTE_MS)


def stopping(index: int) -> AttemptSeen:
    return AttemptSeen(f"a{index}", "stopping")


def test_a_start_that_is_seen_runs() -> None:
    """Bound until the process is there."""
    assert see(workload("bound"), AttemptSeen("a0", "starting"))[2] == ["bound"]
    assert see(workload("bound"), running(0))[2] == ["running"]


def test_a_start_that_was_never_made_is_given_back_and_counts_as_no_run() -> None:
    """The server died between record and start."""
    _, record, states = see(workload("bound"))
    assert (states, record.state, record.runs, record.failures) == (["pending"], "pending", 0, 0)


def test_a_start_that_was_not_made_beside_others_leaves_them_running() -> None:
    """The run goes on; the one that lacks is placed again."""
    _, record, states = see(workload("running", "bound"), running(0))
    assert (states, record.state, record.runs) == (["running", "pending"], "running", 1)


def test_success_is_when_every_task_is_done() -> None:
    """Exit code 0 of all; the time on devices is counted."""
    _, record, states = see(workload("running", "running"), exited(0, 0), running(1))
    assert (states, record.state) == (["succeeded", "running"], "running")
    _, record, states = see(workload("succeeded", "running"), exited(1, 0))
    assert (states, record.state) == (["succeeded", "succeeded"], "succeeded")
    assert record.device_ms == 1000 * 5 * MINUTE_MS


def test_an_end_is_on_record_before_it_is_forgotten() -> None:
    """The engine keeps it until then."""
    step, *_ = see(workload("running"), exited(0, 0))
    assert step.orders == (Forget("a0"),)


def test_a_failure_stops_the_run() -> None:
    """The others are told to go."""
    step, record, states = see(workload("running", "running"), exited(0, 1), running(1))
    assert states == ["failed", "releasing"]
    assert Stop("a1", 30_000) in step.orders
    assert record.state == "running"


def test_a_failed_run_starts_again_while_retries_are_left() -> None:
    """All of it, done tasks too; then no more."""
    _, record, states = see(workload("failed", "releasing", "succeeded", retries=1), exited(1, 143))
    assert (states, record.state, record.failures) == (["pending"] * 3, "pending", 1)
    _, record, states = see(workload("failed", "releasing"), exited(1, 143))
    assert (record.state, record.failures) == ("failed", 1)
    assert states == ["failed", "failed"]


def test_an_eviction_is_no_failure() -> None:
    """Whatever the exit code, it waits to be placed again; nothing counts against it."""
    for code in (143, 137, 1):
        _, record, states = see(evicted(workload("releasing")), exited(0, code))
        assert (states, record.state, record.failures, record.started_ms) == (["pending"], "pending", 0, None)


def test_an_evicted_task_that_is_lost_is_evicted_all_the_same() -> None:
    """Its supervisor died on the way out."""
    _, record, states = see(evicted(workload("releasing")), AttemptSeen("a0", "lost"))
    assert (states, record.failures) == (["pending"], 0)


def test_work_that_was_done_before_it_was_told_to_go_is_done() -> None:
    """It ended by itself; unless others of the gang were cut off, who need it to start again."""
    _, record, states = see(evicted(workload("releasing")), exited(0, 0))
    assert (states, record.state) == (["succeeded"], "succeeded")
    live = evicted(workload("releasing", "releasing"))
    _, record, states = see(live, exited(0, 0), exited(1, 143))
    assert (states, record.state) == (["pending", "pending"], "pending")


def test_a_program_that_saves_and_exits_with_0_when_told_to_go_is_not_done() -> None:
    """Evicted it waits for room, suspended it is put aside, stopped it has ended; an extra of it grows again."""
    saved = exited(0, 0, told=True)
    _, record, states = see(evicted(workload("releasing")), saved)
    assert (states, record.state, record.failures) == (["pending"], "pending", 0)
    _, record, states = see(workload("releasing", wish="suspend"), saved)
    assert (states, record.state) == (["gated"], "suspended")
    _, record, _ = see(workload("releasing", wish="stop"), saved)
    assert record.state == "stopped"
    _, record, states = see(evicted(workload("releasing", "running", least=1)), saved, running(1))
    assert (states, record.state) == (["pending", "running"], "running")


def test_whoever_is_told_to_go_by_somebody_else_has_failed() -> None:
    """As at the machine's shutdown; exit code 0 doesn't make it done."""
    _, record, _ = see(workload("running"), exited(0, 0, told=True))
    assert record.state == "failed"
    assert "told to end from outside" in record.reason


def test_a_new_run_is_one_of_all_tasks() -> None:
    """After an eviction or a resume those that were done start again with the others, who would wait for them."""
    live = evicted(workload("succeeded", "releasing", "releasing"))
    _, record, states = see(live, exited(1, 143), exited(2, 143))
    assert (states, record.state) == (["pending"] * 3, "pending")
    ((record, tasks),) = workload("succeeded", "gated").workloads
    _, record, states = see(Live((), ((replace(record, state="suspended"), tasks),)))
    assert (states, record.state) == (["pending"] * 2, "pending")


def test_what_is_done_stays_done_where_only_extras_are_left() -> None:
    """They need nobody."""
    live = evicted(workload("succeeded", "releasing", least=1))
    _, record, states = see(live, exited(1, 143))
    assert (states, record.state) == (["succeeded", "pending"], "pending")


def test_an_extra_goes_and_the_rest_runs_on() -> None:
    """The run is the same: its start and count stay."""
    live = evicted(workload("running", "releasing", least=1))
    _, record, states = see(live, running(0), exited(1, 143))
    assert (states, record.state, record.runs) == (["running", "pending"], "running", 1)
    assert record.started_ms == NOW_MS - 10 * MINUTE_MS


def failing(record: WorkloadRecord, now_ms: int, lasted_ms: int = 100) -> tuple[Step, WorkloadRecord]:
    """A run of this workload that fails."""
    task = replace(workload("running").workloads[0][1][0])
    live = Live((), ((replace(record, state="running", started_ms=now_ms - lasted_ms), (task,)),))
    step, record, _ = see(live, exited(0, 1), now_ms=now_ms)
    return step, record


def test_a_pause_before_a_retry_doubles_up_to_a_minute() -> None:
    """By failures in a row; a run that lasted longer than ten minutes starts the count anew."""
    record = workload("running", retries=100).workloads[0][0]
    pauses = []
    for lasted_ms in (*[100] * 8, 10 * MINUTE_MS + 1, 100):
        step, record = failing(record, NOW_MS, lasted_ms)
        assert step.next_ms == record.retry_ms
        pauses.append(((record.retry_ms or 0) - NOW_MS) // 1000)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]
    assert "starts again after 2s" in record.reason


def test_a_pause_ends_by_itself() -> None:
    """Its end is known beforehand; until then the record says when it starts again."""
    _, record = failing(workload("running", retries=1).workloads[0][0], NOW_MS)
    live = Live((), ((record, workload("pending").workloads[0][1]),))
    step, record, _ = see(live, now_ms=NOW_MS + 999)
    assert (step.changes.workloads, step.next_ms) == ((), NOW_MS + 1000)
    _, record, states = see(live, now_ms=NOW_MS + 1000)
    assert (record.retry_ms, record.reason, states) == (None, "", ["pending"])


def test_an_end_is_told_in_words() -> None:
    """Signals by name; what the supervisor knows of it; what else went wrong."""
    for seen, words in (
        (exited(0, 3), "exit code 3"),
        (exited(0, 139), "ended by SIGSEGV (exit code 139)"),
        (exited(0, 127, message="can't run x: no such command"), "can't run x: no such command"),
        (exited(0, 1, note="its log is incomplete: no room"), "exit code 1; its log is incomplete: no room"),
    ):
        step, record, _ = see(workload("running"), seen)
        assert record.reason == f"w-0: {words}"
        assert step.changes.tasks[0].reason == words
        assert step.changes.events[0].message == words


def test_a_lost_task_is_a_failure() -> None:
    """Its processes are gone by then; the run starts again by its retries."""
    _, record, states = see(workload("running", retries=1), AttemptSeen("a0", "lost", message="killed"))
    assert (states, record.failures) == (["pending"], 1)
    _, record, _ = see(workload("running"))
    assert record.state == "failed"
    assert "no longer knows it" in record.reason


def test_a_stop_is_repeated_until_the_engine_has_it() -> None:
    """The server may have died before the order went out."""
    step, *_ = see(evicted(workload("releasing")), running(0))
    assert step.orders == (Stop("a0", 30_000),)
    step, *_ = see(evicted(workload("releasing")), stopping(0))
    assert step.orders == ()


def test_suspended_work_keeps_its_place_in_line_and_nothing_else() -> None:
    """It is told to go, waits without asking, and asks again when it is resumed."""
    step, record, states = see(workload("running", wish="suspend"), running(0))
    assert (states, record.reason) == (["releasing"], "suspending")
    assert [event.kind for event in step.changes.events] == ["Suspending"]
    assert see(Roster(workload("running", wish="suspend")).merge(step.changes), stopping(0))[0] == Step()
    _, record, states = see(workload("releasing", wish="suspend"), exited(0, 143))
    assert (states, record.state, record.failures) == (["gated"], "suspended", 0)
    ((record, tasks),) = workload("gated").workloads
    live = Live((), ((replace(record, state="suspended", started_ms=None), tasks),))
    _, record, states = see(live)
    assert (states, record.state) == (["pending"], "pending")


def test_a_suspend_may_be_taken_back_while_tasks_are_leaving() -> None:
    """It is told, and they start again when they have ended."""
    ((record, tasks),) = workload("releasing").workloads
    live = Live((), ((replace(record, reason="suspending"), tasks),))
    step, record, states = see(live, stopping(0))
    assert [event.kind for event in step.changes.events] == ["Resumed"]
    assert record.reason.startswith("resumed")
    _, record, states = see(Roster(live).merge(step.changes), exited(0, 143, told=True))
    assert (states, record.state, record.reason) == (["pending"], "pending", "")


def test_stopped_work_is_finished() -> None:
    """Running or waiting; done tasks stay done."""
    _, record, states = see(workload("releasing", "succeeded", wish="stop"), exited(0, 143))
    assert (states, record.state) == (["failed", "succeeded"], "stopped")
    _, record, states = see(workload("pending", wish="stop"))
    assert (states, record.state) == (["failed"], "stopped")


def test_work_that_is_done_when_it_is_stopped_has_succeeded() -> None:
    """All tasks had ended well before anybody could be stopped."""
    _, record, _ = see(workload("running", wish="stop"), exited(0, 0))
    assert record.state == "succeeded"


def test_deleted_work_goes_when_nothing_of_it_runs() -> None:
    """Not before."""
    step, _, states = see(workload("running", wish="delete"), running(0))
    assert (states, step.changes.deleted) == (["releasing"], ())
    step, _, _ = see(workload("releasing", wish="delete"), exited(0, 143))
    assert step.changes.deleted == ("w-1",)
    assert step.changes.tasks == ()


def test_a_run_ends_at_its_max_duration_and_is_not_retried() -> None:
    """The moment is known beforehand; ending by it is final."""
    limit: dict[str, Any] = {"max_duration_ms": 10 * MINUTE_MS, "retries": 5}
    step, *_ = see(workload("running", **limit), running(0), now_ms=NOW_MS - 1)
    assert step.next_ms == NOW_MS
    step, record, states = see(workload("running", **limit), running(0))
    assert states == ["releasing"]
    live = Roster(workload("running", **limit)).merge(step.changes)
    _, record, _ = see(live, exited(0, 143))
    assert (record.state, record.failures) == ("failed", 0)
    assert record.reason == "max_duration of 10m reached"


def test_attempts_that_nobody_claims_are_ended_and_forgotten() -> None:
    """Left by a server that died, or by a record that was rolled back."""
    live = workload("pending")
    step, *_ = see(
        live, AttemptSeen("x1", "running"), AttemptSeen("x2", "exited", 0), AttemptSeen("x3", "stopping")
    )
    assert step.orders == (Stop("x1", 0), Forget("x2"))


def test_a_step_without_news_changes_nothing() -> None:
    """What is true already is not written again."""
    for live, attempt in ((workload("running"), running(0)), (evicted(workload("releasing")), stopping(0))):
        step, *_ = see(live, attempt)
        assert step == Step()


def test_a_gang_below_its_minimum_is_marked_until_it_reaches_it_again() -> None:
    """A start that was not carried out left it short; the moment is kept from cycle to cycle."""
    live = workload("running", "pending")
    _, record, _ = see(live, running(0))
    assert record.stale_since_ms is not None
    ((_, tasks),) = live.workloads
    marked = Live((), ((replace(record, stale_since_ms=5), tasks),))
    assert see(marked, running(0))[1].stale_since_ms == 5
    whole = Live((), ((replace(record, stale_since_ms=5), workload("running", "running").workloads[0][1]),))
    assert see(whole, running(0), running(1))[1].stale_since_ms is None
