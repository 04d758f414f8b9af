"""Records into nouns, and decisions into records and orders."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from msgspec.structs import replace

from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.loop.assemble import assemble
from gpumax.loop.bind import Binding, bind, unbind
from gpumax.loop.launch import Master
from gpumax.loop.roster import Roster
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision, Eviction, Hold, Place
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import DeviceShare, Group
from gpumax.policy.decide import decide
from gpumax.ports.engine import Refusal, Start, Stop
from gpumax.ports.store_rules import begin
from loop.kit import NOW_MS, machine, queue, spec

NODES = (machine("n1"),)
QUEUES = (queue("q", 8),)


def live(*specs: WorkloadSpec) -> Live:
    """Workloads as they are when they have just been submitted; ids are their names."""
    return Live(QUEUES, tuple(begin(row, row.name, NOW_MS)[:2] for row in specs))


def do(state: Live, decision: Decision) -> tuple[Live, Binding]:
    """Bind a decision; the attempts are a1, a2, ..."""
    ids = count(1)
    binding = bind(
        Roster(state), decision, NOW_MS,
        data=Path("/data"), new_id=lambda: f"a{next(ids)}", meet=lambda *_: Master("127.0.0.1", 4000),
    )  # fmt: skip
    return Roster(state).merge(binding.changes), binding


def at(task: str, index: int, after: tuple[str, ...] = ()) -> Place:
    return Place(task, "n1", (DeviceShare(index, 1000),), after)


def rows(state: Live, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]]:
    return next((record, tasks) for record, tasks in state.workloads if record.name == name)


def test_a_place_becomes_a_bound_task_and_a_start() -> None:
    """Under an attempt of its own, with what the program needs to know."""
    after, binding = do(live(spec("w", "q", 1, 2)), Decision((at("w-0", 0), at("w-1", 1))))
    record, tasks = rows(after, "w")
    assert (record.state, record.runs, record.started_ms) == ("running", 1, NOW_MS)
    assert [(task.state, task.attempt) for task in tasks] == [("bound", "a1"), ("bound", "a2")]
    starts = [order for order in binding.orders if isinstance(order, Start)]
    assert [start.launch.env["RANK"] for start in starts] == ["0", "1"]
    assert {start.launch.env["WORLD_SIZE"] for start in starts} == {"2"}
    assert {start.launch.env["MASTER_PORT"] for start in starts} == {"4000"}
    assert starts[1].launch.log == "/data/logs/w/1.log"


def test_a_place_that_waits_is_not_bound() -> None:
    """The workload holds with the reason; a later cycle places it when the others have left."""
    after, binding = do(live(spec("w", "q"), spec("x", "q")), Decision((at("w-0", 0, ("x-0",)),)))
    record, tasks = rows(after, "w")
    assert [task.state for task in tasks] == ["pending"]
    assert record.hold is not None
    assert record.hold.code == "WaitsForEvictions"
    assert binding.orders == ()


def test_an_eviction_becomes_a_leaving_task_and_a_stop() -> None:
    """For whom and why is on record; however many tasks go, it is one eviction."""
    state, _ = do(live(spec("w", "q", 1, 2)), Decision((at("w-0", 0), at("w-1", 1))))
    rows_ = tuple(Eviction(f"w-{rank}", "reclaim", "x") for rank in range(2))
    after, binding = do(state, Decision((), rows_))
    record, tasks = rows(after, "w")
    assert record.evictions == 1
    assert {(task.state, task.cause, task.beneficiary) for task in tasks} == {("releasing", "reclaim", "x")}
    assert binding.orders == (Stop("a1", 30_000), Stop("a2", 30_000))


def test_a_hold_is_written_when_it_says_something_new() -> None:
    """An equal one, or one with other counts of nodes, is no news."""
    hold = Hold("w", "NoRoom", "needs 1 GPU", {"NotEnoughGpu": 3}, {"gpu": 1000})
    after, binding = do(live(spec("w", "q")), Decision(holds=(hold,)))
    assert [event.kind for event in binding.changes.events] == ["Held"]
    for same in (hold, replace(hold, nodes={"NotEnoughGpu": 2})):
        assert do(after, Decision(holds=(same,)))[1] == Binding()
    assert do(after, Decision(holds=(replace(hold, message="needs 2"),)))[1] != Binding()


def test_a_new_forecast_is_written_and_is_no_event() -> None:
    hold = Hold("w", "NoRoom", "needs 1 GPU", forecast_ms=NOW_MS)
    after, _ = do(live(spec("w", "q")), Decision(holds=(hold,)))
    again, binding = do(after, Decision(holds=(replace(hold, forecast_ms=NOW_MS + 1),)))
    assert again.workloads[0][0].hold == replace(hold, forecast_ms=NOW_MS + 1)
    assert binding.changes.events == ()


def test_equal_decisions_bind_equally() -> None:
    """Events come in the order of the decision, whatever a set would make of it."""
    names = [f"w{number}" for number in range(20)]
    state = live(*(spec(name, "q") for name in names), spec("x", "q"))
    decision = Decision(tuple(at(f"{name}-0", 0, ("x-0",)) for name in names))
    _, binding = do(state, decision)
    assert [event.workload for event in binding.changes.events] == names


def test_a_refused_start_is_given_back() -> None:
    """As if it had never been tried, but for the reason."""
    state, _ = do(live(spec("w", "q")), Decision((at("w-0", 0),)))
    binding = unbind(Roster(state), (Refusal("a1", "no such directory"),), NOW_MS)
    record, tasks = rows(Roster(state).merge(binding.changes), "w")
    assert (record.state, record.runs, record.started_ms) == ("pending", 0, None)
    assert "no such directory" in record.reason
    assert (tasks[0].state, tasks[0].attempt, tasks[0].devices) == ("pending", None, ())


def test_a_gang_with_a_refused_task_is_stopped_and_an_elastic_one_runs_on() -> None:
    """Below its minimum it can't go on; above it, it can."""
    for least, others in ((2, "releasing"), (1, "bound")):
        state, _ = do(live(spec("w", "q", 1, 2, least=least)), Decision((at("w-0", 0), at("w-1", 1))))
        binding = unbind(Roster(state), (Refusal("a2", "no"),), NOW_MS)
        _, tasks = rows(Roster(state).merge(binding.changes), "w")
        assert [task.state for task in tasks] == [others, "pending"]
        assert bool(binding.orders) is (others == "releasing")


def test_a_snapshot_says_what_is_on_record() -> None:
    """Queue, times, groups, what tasks hold, and the latest checkpoint of any task that runs."""
    elastic = spec("w", "q", 2, 3, least=1, priority=75, max_duration_ms=60_000)
    state, _ = do(live(elastic), Decision((at("w-0", 0), at("w-1", 1))))
    snapshot = assemble(state, NODES, NOW_MS, Policy(), {"a1": 5, "a2": 7, "other": 9})
    (workload,) = snapshot.workloads
    assert (workload.queue, workload.priority, workload.max_duration_ms) == ("q", 75, 60_000)
    assert (workload.started_ms, workload.checkpointed_ms) == (NOW_MS, 7)
    assert workload.groups == (Group("", 1),)
    assert [(task.state, task.node) for task in workload.tasks] == [
        ("bound", "n1"), ("bound", "n1"), ("pending", None),
    ]  # fmt: skip


def test_work_that_may_not_start_asks_for_nothing() -> None:
    """Suspended, barred, or with a failed task: its waiting tasks are gated."""
    state = live(spec("w", "q"))
    ((record, tasks),) = state.workloads
    states = {
        "barred": assemble(state, NODES, NOW_MS, Policy(), {}, ["w"]),
        "suspended": assemble(
            Live(QUEUES, ((replace(record, wish="suspend"), tasks),)), NODES, NOW_MS, Policy(), {}
        ),
    }
    for why, snapshot in states.items():
        assert [task.state for task in snapshot.workloads[0].tasks] == ["gated"], why


def test_work_on_a_node_that_is_gone_still_holds_its_room_there() -> None:
    """The node is in the snapshot, not ready, until what ran there has ended."""
    state, _ = do(live(spec("w", "q")), Decision((at("w-0", 0),)))
    snapshot = assemble(state, (machine("n2"),), NOW_MS, Policy(), {})
    assert [(node.name, node.ready) for node in snapshot.nodes] == [("n1", False), ("n2", True)]
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot
    assert verify(snapshot, decide(snapshot)) == ()


def test_a_device_that_is_gone_is_held_until_its_task_has_ended() -> None:
    """The machine came back with fewer GPUs: nothing new goes there, and what runs there counts."""
    state, _ = do(live(spec("w", "q")), Decision((at("w-0", 5),)))
    snapshot = assemble(state, (machine("n1", 2),), NOW_MS, Policy(), {})
    (node,) = snapshot.nodes
    assert [(device.index, device.healthy) for device in node.devices] == [(0, True), (1, True), (5, False)]
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot
    assert verify(snapshot, decide(snapshot)) == ()


def test_finished_work_is_no_part_of_a_snapshot() -> None:
    """It stays on record until it is deleted."""
    ((record, tasks),) = live(spec("w", "q")).workloads
    done = Live(QUEUES, ((replace(record, state="succeeded"), tasks),))
    assert assemble(done, NODES, NOW_MS, Policy(), {}).workloads == ()
