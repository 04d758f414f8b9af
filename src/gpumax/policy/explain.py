"""Why a workload waits, in sentences and as data."""

from __future__ import annotations

import msgspec

from gpumax.model.decision import Decision, Eviction, Hold, Share
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Workload
from gpumax.policy.gang import Gang
from gpumax.policy.order import Order
from gpumax.policy.world import World
from gpumax.units import UNLIMITED, format_count, format_memory


class Explanation(msgspec.Struct, frozen=True):
    """What is known of one workload's wait. queue: its queue's shares; ahead: who is served before it, first to last."""

    workload: str
    state: str
    sentences: tuple[str, ...]
    hold: Hold | None = None
    queue: tuple[Share, ...] = ()
    ahead: tuple[str, ...] = ()


def explain(snapshot: Snapshot, decision: Decision, name: str) -> Explanation | None:
    """Why `name` is where it is, from the snapshot and what was decided on it; None where there is no such workload."""
    workload = next((workload for workload in snapshot.workloads if workload.name == name), None)
    if workload is None:
        return None
    tasks = {task.name for task in workload.tasks}
    places = [place for place in decision.places if place.task in tasks]
    evictions = [eviction for eviction in decision.evictions if eviction.task in tasks]
    hold = next((hold for hold in decision.holds if hold.workload == name), None)
    shares = tuple(share for share in decision.shares if share.queue == workload.queue)
    ahead = _ahead(snapshot, name) if hold is not None else ()
    sentences: list[str] = []
    if places:
        sentences.append(_placed(len(places), sorted({place.node for place in places}), places[0].after))
    if hold is not None:
        sentences.append(f"It waits ({hold.code}): {hold.message}.")
    if evictions:
        sentences.append(_evicted(evictions))
    if not sentences:
        sentences.append(_otherwise(workload))
    if hold is not None:
        if hold.nodes:
            sentences.append(
                "Nodes that can't take it: " + ", ".join(f"{n} {why}" for why, n in hold.nodes.items()) + "."
            )
        sentences += [_share(share) for share in shares if share.resource == "gpu" or share.demand]
        sentences.append(_who(ahead))
    state = (
        "placed" if places else "held" if hold is not None else "evicted" if evictions else _state(workload)
    )
    return Explanation(name, state, tuple(sentences), hold, shares, ahead)


def _evicted(evictions: list[Eviction]) -> str:
    count, cause = len(evictions), evictions[0].cause
    if cause == "stale":
        return f"{count} of its tasks go: it has been below its minimum for longer than its grace."
    for_whom = ", ".join(sorted({eviction.beneficiary for eviction in evictions}))
    return f"{count} of its tasks make way for {for_whom} ({cause})."


def _ahead(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    """Waiting workloads that are served before it, were each served in turn."""
    world = World(snapshot)
    order = Order(world.waiting)
    before: list[str] = []
    seen: set[str] = set()
    gang: Gang | None
    while (gang := order.pop()) is not None and gang.workload.name != name:
        if gang.workload.name not in seen:
            seen.add(gang.workload.name)
            before.append(gang.workload.name)
        order.done(gang, again=False)
    return tuple(before) if gang is not None else ()


def _placed(count: int, nodes: list[str], after: tuple[str, ...]) -> str:
    where = nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more nodes"
    what = f"{count} task{'s' if count > 1 else ''} of it {'go' if count > 1 else 'goes'} to {where}"
    if not after:
        return f"{what} now."
    names = ", ".join(after[:3]) + (f" and {len(after) - 3} more" if len(after) > 3 else "")
    return f"{what} as soon as {names} {'has' if len(after) == 1 else 'have'} left."


def _share(share: Share) -> str:
    say = format_memory if share.resource == "memory" else format_count
    quota = "unlimited" if share.quota >= UNLIMITED else say(share.quota)
    over = share.share - min(share.quota, share.demand)
    how = (
        f"its quota of {quota}"
        if over <= 0
        else f"{say(share.share - over)} of its quota and {say(over)} beyond it"
    )
    return (
        f"Queue {share.queue} holds {say(share.allocated)} {share.resource} and wants {say(share.demand)}; "
        f"its share is {say(share.share)} ({how})."
    )


def _who(ahead: tuple[str, ...]) -> str:
    if not ahead:
        return "Nobody is ahead of it."
    more = f" and {len(ahead) - 5} more" if len(ahead) > 5 else ""
    return f"Ahead of it: {', '.join(ahead[:5])}{more}."


def _state(workload: Workload) -> str:
    states = {task.state for task in workload.tasks}
    if states & ACTIVE:
        return "running"
    return "gated" if "gated" in states else "pending" if "pending" in states else "finished"


def _otherwise(workload: Workload) -> str:
    running = sum(1 for task in workload.tasks if task.state in ACTIVE)
    if running:
        return f"It runs: {running} of {len(workload.tasks)} tasks."
    return "It is not to be placed yet." if _state(workload) == "gated" else "It waits for nothing."
