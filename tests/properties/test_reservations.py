"""What holds for reservations on every cluster: nobody who goes around one delays it, and none is made for nothing."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from board import gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import ACTIVE, DeviceShare, Group, Task, Workload
from gpumax.policy.decide import decide
from properties.carry_out import done
from properties.strategies import snapshots
from properties.test_decisions import profile

pytestmark = pytest.mark.deep
NOW_MS, MINUTE_MS = 1_000_000_000_000, 60_000
KEPT = "room is kept for it"


@st.composite
def crowded(draw: st.DrawFn) -> Snapshot:
    """Nodes of four GPUs that are mostly taken, by work of which mostly is known when it ends, and gangs that wait."""
    count = draw(st.integers(1, 4))
    nodes = tuple(
        Node(f"n{row}", cpu_milli=64_000, memory_mib=1 << 20, devices=tuple(Device(i, "H100", 81920) for i in range(4)))
        for row in range(count)
    )  # fmt: skip
    tree = tuple(queue(name, draw(st.sampled_from((0, 4, 8)))) for name in "pq"[: draw(st.integers(1, 2))])
    names = st.sampled_from([row.name for row in tree])
    spans = st.sampled_from((None, 35, 40, 40, 50, 60, 90, 120)).map(lambda m: m and m * MINUTE_MS)
    work = []
    for row, node in enumerate(nodes):
        taken = draw(st.integers(0, 4))
        for index in range(taken):
            task = Task(
                f"r{row}{index}-0", "", "running", node.name, (DeviceShare(index, 1000),), request=gpus(1)
            )
            work.append(
                Workload(
                    f"r{row}{index}", draw(names), started_ms=NOW_MS - 30 * MINUTE_MS,
                    max_duration_ms=draw(spans), groups=(Group("", 1),), tasks=(task,),
                )
            )  # fmt: skip
    for number in range(draw(st.integers(1, 6))):
        tasks = draw(st.integers(1, 3))
        ask = gpus(draw(st.sampled_from((0.5, 1, 1, 2, 3, 4))))
        waited = draw(st.sampled_from((10, 61, 70, 90)))
        work.append(
            Workload(
                f"w{number}", draw(names), submitted_ms=NOW_MS - waited * MINUTE_MS,
                priority=draw(st.sampled_from((50, 50, 50, 60))), max_duration_ms=draw(spans),
                groups=(Group("", draw(st.integers(1, tasks))),),
                tasks=tuple(Task(f"w{number}-{index}", request=ask) for index in range(tasks)),
            )
        )  # fmt: skip
    return Snapshot(NOW_MS, nodes, tree, tuple(sorted(work, key=lambda row: row.name)))


def kept(decision: Decision) -> dict[str, int]:
    """For whom room is kept, and from when on."""
    return {
        hold.workload: hold.forecast_ms
        for hold in decision.holds
        if KEPT in hold.message and hold.forecast_ms is not None
    }


def at(snapshot: Snapshot, moment: int) -> Snapshot:
    """The state at a moment: whatever has reached its max_duration is gone."""

    def over(work: Workload) -> bool:
        return (
            work.max_duration_ms is not None
            and work.started_ms is not None
            and any(task.state in ACTIVE for task in work.tasks)
            and snapshot.now_ms <= work.started_ms + work.max_duration_ms <= moment
        )

    return replace(snapshot, now_ms=moment, workloads=tuple(w for w in snapshot.workloads if not over(w)))


def starts(snapshot: Snapshot, names: list[str]) -> list[str]:
    """Those of these gangs whose minimum has room when nobody else waits."""
    rows = tuple(
        replace(work, tasks=work.tasks[: work.groups[0].min])
        for work in snapshot.workloads
        if work.name in names or all(task.state != "pending" for task in work.tasks)
    )
    alone = replace(snapshot, workloads=rows)
    placed = {place.task for place in decide(alone, ["allocate"]).places}
    return [work.name for work in rows if any(task.name in placed for task in work.tasks)]


@profile
@given(crowded())
def test_backfill_never_delays_a_gang_for_which_room_is_kept(snapshot: Snapshot) -> None:
    """Carry the decision out and wait: at its moment each has its room, and all of them together have theirs."""
    decision = decide(snapshot, ["allocate"])
    promised = kept(decision)
    assume(promised)
    state = done(snapshot, decision)
    for name, moment in promised.items():
        due = [other for other, when in promised.items() if when <= moment]
        assert name in starts(at(state, moment), due)


@profile
@given(crowded(), st.integers(1, 29))
def test_a_moment_does_not_move_back(snapshot: Snapshot, minutes: int) -> None:
    """Later a gang is told the same moment, or an earlier one, unless somebody before it in order gets room meanwhile."""
    decision = decide(snapshot, ["allocate"])
    promised = kept(decision)
    assume(promised)
    later_ms = snapshot.now_ms + minutes * MINUTE_MS
    assume(later_ms < min(promised.values()))
    found = decide(at(done(snapshot, decision), later_ms), ["allocate"])
    if not found.places and len(promised) == 1:
        assert all(moment <= promised.get(name, moment) for name, moment in kept(found).items())


@profile
@given(crowded())
def test_no_room_is_kept_for_whom_no_moment_is_known(snapshot: Snapshot) -> None:
    """Where nobody's end is known, decisions are as if there were no reservations; and who waits, waits for somebody."""
    decision = decide(snapshot)
    assert [str(found) for found in verify(snapshot, decision)] == []
    if any(hold.code == "Reserved" for hold in decision.holds):
        assert kept(decision)
    rows = tuple(replace(work, max_duration_ms=None) for work in snapshot.workloads)
    unknown = replace(snapshot, workloads=rows)
    assert decide(unknown) == decide(replace(unknown, policy=Policy(reserve_after_ms=1 << 50)))


@profile
@given(snapshots())
def test_reservations_break_no_rule(snapshot: Snapshot) -> None:
    """Everybody has waited for long enough."""
    snapshot = replace(snapshot, policy=replace(snapshot.policy, reserve_after_ms=0))
    assert [str(found) for found in verify(snapshot, decide(snapshot))] == []
