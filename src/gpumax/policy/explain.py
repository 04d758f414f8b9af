"""Why a workload is where it is, in sentences and as data."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from gpumax.model.decision import Decision, Eviction, Hold, Place
from gpumax.model.explanation import Derived, Explanation, Need, State, Tried
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Workload
from gpumax.policy.closed import UNHEALTHY, ill
from gpumax.policy.decide import PASSES, decided
from gpumax.policy.derive import derived, share_words
from gpumax.policy.forecast import THOROUGH, forecasts
from gpumax.policy.gang import Gang
from gpumax.policy.hold import NOT_ENOUGH, Reasons
from gpumax.policy.needs import Needs
from gpumax.policy.order import Order
from gpumax.policy.tried import ends, tried
from gpumax.policy.words import NEVER, count, some
from gpumax.policy.world import World
from gpumax.units import format_duration, format_wait


def explain(
    snapshot: Snapshot, decision: Decision, name: str, passes: Iterable[str] = tuple(PASSES)
) -> Explanation | None:
    """Why `name` is where it is, from the snapshot and what was decided on it; None where there is no such workload.

    Of work that waits the decision is looked at again, closely; changes that would let it start are tried out.
    """
    workload = next((workload for workload in snapshot.workloads if workload.name == name), None)
    if workload is None:
        return None
    tasks = {task.name for task in workload.tasks}
    places = [place for place in decision.places if place.task in tasks]
    evictions = [eviction for eviction in decision.evictions if eviction.task in tasks]
    hold = next((hold for hold in decision.holds if hold.workload == name), None)
    wait = _Wait() if hold is None else _look(snapshot, hold, tuple(passes))
    ran_ms = snapshot.now_ms - workload.started_ms if workload.started_ms is not None else None
    said: list[str] = []
    if places:
        said.append(_placed(places))
    if hold is not None:
        said.append(_held(hold, ran_ms, wait))
    if evictions:
        said += _leaves(evictions)
    if not said:
        said.append(_otherwise(workload, ran_ms))
    if hold is not None:
        if hold.forecast_ms is None and wait.forecast_ms is not None:
            hold = replace(hold, forecast_ms=wait.forecast_ms)
        said += _starts(hold, snapshot.now_ms)
        said += _closely(hold, wait, snapshot)
    return Explanation(
        workload=name,
        state="placed"
        if places
        else "held"
        if hold is not None
        else "evicted"
        if evictions
        else _state(workload),
        sentences=tuple(said),
        hold=hold,
        queue=tuple(share for share in decision.shares if share.queue == workload.queue),
        ahead=wait.ahead,
        started_ms=workload.started_ms if _runs(workload) else None,
        derived=wait.derived,
        tried=wait.tried,
        needs=wait.needs,
    )


class _Wait(NamedTuple):
    """What a close look at a decision finds. never: only a change of the cluster, the queues or the work itself helps."""

    never: bool = True
    ahead: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()
    tried: tuple[Tried, ...] = ()
    needs: tuple[Need, ...] = ()
    forecast_ms: int | None = None


def _look(snapshot: Snapshot, hold: Hold, passes: tuple[str, ...]) -> _Wait:
    """Decide once more, and look at what the decision came to for one workload; farther ahead, too, where it is told nothing."""
    name = hold.workload
    world = decided(snapshot, passes)
    gang = next((gang for gang in world.waiting if gang.workload.name == name), None)
    if gang is None or gang.placed or gang.incomplete:
        return _Wait()
    reasons = Reasons(world)
    never = reasons.never(gang)
    steps = tuple(derived(world, gang.account, gang.asked()))
    # What ends in this decision begins anew, whatever else there is.
    ended = name in world.ended
    told = never or hold.forecast_ms is not None
    return _Wait(
        never,
        () if never else _ahead(world, reasons, name),
        steps,
        () if never or ended else tried(world, gang, passes),
        ()
        if ended
        else tuple(Needs(world, gang, passes).found(reasons.lacks.of(gang.chunk()), ends(world, gang))),
        # Last: what is played forward enters the scopes of those who wait.
        None if told else _forecast(world, reasons, name, passes),
    )


def _forecast(world: World, reasons: Reasons, name: str, passes: tuple[str, ...]) -> int | None:
    """When it starts, found with more effort than every decision spends."""
    again = partial(decided, wanted=passes)
    return forecasts(world, lambda gang: not reasons.never(gang), again, THOROUGH).get(name)


def _ahead(world: World, reasons: Reasons, name: str) -> tuple[str, ...]:
    """What waits, could start, and would be served before it, were each served in turn."""
    order = Order(world.waiting)
    before: list[str] = []
    gang: Gang | None
    while (gang := order.pop()) is not None and gang.workload.name != name:
        if not reasons.never(gang) and gang.workload.name not in world.ended:
            before.append(gang.workload.name)
        order.done(gang, again=False)
    return tuple(dict.fromkeys(before)) if gang is not None else ()


def _placed(places: list[Place]) -> str:
    nodes = list(dict.fromkeys(place.node for place in places))
    after = sorted({task for place in places for task in place.after})
    go = "go" if len(places) > 1 else "goes"
    what = f"{count(len(places), 'task')} of it {go} to {some(nodes)}"
    if not after:
        return f"{what} now."
    return f"{what} as soon as {some(after)} {'has' if len(after) == 1 else 'have'} left."


def _held(hold: Hold, ran_ms: int | None, wait: _Wait) -> str:
    message = hold.message
    if wait.tried:  # why nobody was evicted follows
        message = message.removesuffix(f"; {NOT_ENOUGH}")
    if wait.needs and message.endswith(NEVER):  # as does what would have to be another
        message = f"{message.removesuffix(NEVER)}, so it can't start as things are"
    head, _, rest = message.partition("; ")
    if head.startswith("runs with ") and rest and ran_ms is not None:
        return f"{_has_run(ran_ms)}, {head.removeprefix('runs ')}; more wait ({hold.code}): {rest}."
    return f"It waits ({hold.code}): {message}."


def _starts(hold: Hold, now_ms: int) -> list[str]:
    """When it starts, where that is known; a hold for which room is kept says so itself."""
    if hold.forecast_ms is None or hold.reserved:
        return []
    return [f"It starts {format_wait(hold.forecast_ms - now_ms)} if nothing else comes."]


def _leaves(evictions: list[Eviction]) -> list[str]:
    """One sentence for those that are moved and one for those that are stopped."""
    said = []
    for moved in (True, False):
        rows = [row for row in evictions if (row.restarts_on is not None) == moved]
        if not rows:
            continue
        if rows[0].cause == "stale":
            said.append(
                f"{len(rows)} of its tasks {'goes' if len(rows) == 1 else 'go'}: "
                "it has been below its minimum for longer than its grace."
            )
            continue
        takers = sorted({row.beneficiary for row in rows if row.beneficiary})
        for_whom = f" for {some(takers)}" if takers else ""
        nodes = some(sorted({row.restarts_on or "" for row in rows}))
        one = len(rows) == 1
        doing = f"{'moves' if one else 'move'} to {nodes}" if moved else f"{'makes' if one else 'make'} way"
        said.append(f"{len(rows)} of its tasks {doing}{for_whom} ({rows[0].cause}).")
    return said


def _closely(hold: Hold, wait: _Wait, snapshot: Snapshot) -> list[str]:
    """What is beyond the hold: its share, from whom nothing comes, what would help, who is ahead."""
    said = []
    others = [reason for reason in hold.nodes if not reason.startswith(("NotEnough", "TooMany"))]
    if others and len(hold.nodes) > 1:
        said.append(f"Nodes that can't take it: {', '.join(f'{n} {why}' for why, n in hold.nodes.items())}.")
    away = [words for node in snapshot.nodes if node.open and (words := ill(node))]
    if away and "gpu" in hold.short and UNHEALTHY not in hold.message:
        said.append(f"Unhealthy, so without new work: {some(away)}.")
    if not wait.never:
        said += share_words(wait.derived)
        notes = [row.message for row in wait.tried if row.reason != "over_share"]
        if notes:
            said.append(f"Nobody was evicted for it: {'; '.join(notes[:3])}.")
    if wait.needs:
        said.append(f"It would start {', or '.join(need.message for need in wait.needs)}.")
    if not wait.never:
        said.append(f"Ahead of it: {some(wait.ahead, 5)}." if wait.ahead else "Nobody is ahead of it.")
    return said


def _runs(workload: Workload) -> bool:
    return any(task.state in ACTIVE for task in workload.tasks)


def _state(workload: Workload) -> State:
    states = {task.state for task in workload.tasks}
    if states & ACTIVE:
        return "running"
    for state in ("releasing", "gated", "pending"):
        if state in states:
            return state
    return "finished"


def _otherwise(workload: Workload, ran_ms: int | None) -> str:
    """What is said of work about which nothing was decided."""
    states = [task.state for task in workload.tasks]
    running = sum(1 for state in states if state in ACTIVE)
    leaving = states.count("releasing")
    if running:
        some_leave = f"; {leaving} more {'is' if leaving == 1 else 'are'} on the way out" if leaving else ""
        many = (
            f"{running} of {count(len(states), 'task')}" if running < len(states) else f"all {running} tasks"
        )
        which = "" if len(states) == 1 else f": {many}"
        return f"{_has_run(ran_ms)}{which}{some_leave}."
    if leaving:
        return f"It is on its way out: {count(leaving, 'task')} of it {'has' if leaving == 1 else 'have'} yet to leave."
    if "gated" in states:
        return "It is not to be placed yet."
    return "It is done: it holds nothing and waits for nothing."


def _has_run(ran_ms: int | None) -> str:
    """For how long, in whole seconds. A clock that is ahead makes no time negative."""
    if ran_ms is None:
        return "It runs"
    return (
        f"It has run for {format_duration(ran_ms // 1000 * 1000)}"
        if ran_ms >= 1000
        else "It has just begun to run"
    )
