"""What users are told on their pods: why each waits, what is wrong with it, and for whom it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.settings import NotAllowed
from gpumax.errors import Fault
from gpumax.formats.lines import printable
from gpumax.model.decision import Cause, Decision, Eviction, Hold, HoldCode
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Task, Workload
from gpumax.units import format_wait

SCHEDULED: Final = "PodScheduled"
TARGET: Final = "DisruptionTarget"
UNSCHEDULABLE: Final = "Unschedulable"
"""The reason by which autoscalers know that more nodes would help."""
INVALID: Final = "Invalid"
NOT_ALLOWED: Final = "NotAllowed"
"""It asks for a queue that it may not use."""
LONGEST: Final = 1000
"""The most characters of a message; an event's may have 1,024 bytes."""

MORE_NODES_HELP: Final[frozenset[HoldCode]] = frozenset(
    ("NoNodeMatches", "NoRoom", "GangNoRoom", "Topology", "TaskAffinity")
)
"""Holds that a larger cluster would end. The others wait for quota, for others, or for a person: new nodes would stay idle."""
_RIGHT: Final[dict[HoldCode, str]] = {
    "QueueNotFound": f"; wanted one that does, by the label {keys.QUEUE[0]}",
    "QueueInvalid": "; whoever keeps the queue has to correct it, nothing is wrong with the pod",
}
"""What would be right, where a hold is of something that is written wrongly."""
WHY_GO: Final[dict[Cause, str]] = {
    "reclaim": "Reclaimed",
    "preempt": "Preempted",
    "consolidate": "Moved",
    "stale": "GangBelowMinimum",
}
"""The reason of the condition, by the cause."""
UNFENCED: Final = "Unfenced"
"""The reason of an event of an agent: a process uses a GPU and hasn't said so."""
UNFENCED_GOES: Final = "UnfencedEvicted"
"""The same of a pod that goes for it."""
GONE: Final = frozenset((*WHY_GO.values(), UNFENCED_GOES))
"""All reasons of events of pods that were evicted."""


Find = Callable[[str], Workload | None]


class Told(NamedTuple):
    """A condition of a pod, and the event that says the same. task: its name; code: of the hold, or the cause for which it goes."""

    task: str
    condition: str
    reason: str
    message: str
    code: str = ""


def told(
    snapshot: Snapshot,
    decision: Decision,
    faults: Mapping[str, tuple[Fault, ...]],
    workload_of: Find,
) -> dict[str, Told]:
    """What each task is to be told by this decision: those who wait, those with faults, those who go.

    workload_of: a workload of the snapshot by its name, None where it has gone since.
    """
    holds, goes = _holds(snapshot, decision, workload_of), _goes(snapshot, decision, workload_of)
    found = {row.task: row for row in (*holds, *_waits(decision), *goes)}
    return found | {name: invalid(name, own) for name, own in faults.items()}


def _holds(snapshot: Snapshot, decision: Decision, workload_of: Find) -> Iterator[Told]:
    said: dict[tuple[str, str, int | None], str] = {}  # much may wait for the same reason
    for hold in decision.holds:
        workload = workload_of(hold.workload)
        if workload is None:
            continue
        reason = UNSCHEDULABLE if hold.code in MORE_NODES_HELP else hold.code
        key = (hold.code, hold.message, hold.forecast_ms)
        message = said.get(key)
        if message is None:
            message = said[key] = short(_why(hold, snapshot.now_ms))
        for task in workload.tasks:
            if task.state == "pending":
                hint = _by_whom(task, snapshot) if hold.code == "NoNodeMatches" else ""
                words = short(_why(hold, snapshot.now_ms) + hint) if hint else message
                yield Told(task.name, SCHEDULED, reason, words, hold.code)


def _why(hold: Hold, now_ms: int) -> str:
    """Why a workload waits, what would be right, and when it starts, where that is known."""
    message = hold.message + _RIGHT.get(hold.code, "")
    if hold.forecast_ms is not None:
        message += f"; starts {format_wait(hold.forecast_ms - now_ms)} if nothing else comes"
    return message


def _by_whom(task: Task, snapshot: Snapshot) -> str:
    """By whom its devices would have to be given out, where that may be what is wrong."""
    if how := task.selector.get(keys.AGENT):
        others = {node.labels[keys.AGENT] for node in snapshot.nodes if keys.AGENT in node.labels}
        return _OTHERWISE[how] if others and how not in others else _WHERE
    if keys.VENDOR in task.selector and any(
        keys.AGENT in node.labels and keys.VENDOR not in node.labels for node in snapshot.nodes
    ):
        return f'; where gpumax\'s agent runs whole GPUs are asked for by {keys.FRACTION[0]}: "1"'
    return ""


_WHERE: Final = "; parts of a GPU are given out on nodes where gpumax's agent runs"
_AGAIN: Final = "then make the pod again"
_OTHERWISE: Final = {
    keys.DRIVER: "; it asks for its part by a claim, and gpumax's agents here are device plugins: have the webhook know (`gpumax webhook --plugin`, or the "
    f"chart's agent.plugin=true), {_AGAIN}",
    keys.PART: f"; it asks for its part by {keys.PART}, and gpumax's agents here take claims: have the webhook know (without `--plugin`, or the chart's "
    f"agent.plugin=false), {_AGAIN}",
}
"""Where all agents give parts out in another way than that by which the task asks."""


def _waits(decision: Decision) -> Iterator[Told]:
    """Those who have a place that others have yet to leave."""
    for place in decision.places:
        if place.after:
            others = ", ".join(place.after[:3]) + (
                f" and {len(place.after) - 3} more" if len(place.after) > 3 else ""
            )
            message = (
                f"gets room on {place.node} when {others} {'has' if len(place.after) == 1 else 'have'} left"
            )
            yield Told(place.task, SCHEDULED, "WaitsForEvictions", short(message), "WaitsForEvictions")


def _goes(snapshot: Snapshot, decision: Decision, workload_of: Find) -> Iterator[Told]:
    for row in decision.evictions:
        asker = workload_of(row.beneficiary)
        queue = asker.queue if asker is not None else "?"
        yield Told(row.task, TARGET, WHY_GO[row.cause], short(_sentence(row, queue, snapshot)), row.cause)


def _sentence(row: Eviction, queue: str, snapshot: Snapshot) -> str:
    """queue: of whom it goes for."""
    grace_s = snapshot.policy.stale_grace_ms // 1000
    if row.cause == "stale":
        return f"its gang was below its minimum for more than {grace_s} s, so it gives everything back"
    moved = f"; there is room for it on {row.restarts_on}" if row.restarts_on is not None else ""
    asker = f"{row.beneficiary} of queue {queue}"
    if row.cause == "reclaim":
        return f"its queue used more than its share, and {asker} takes back what it is due{moved}"
    if row.cause == "preempt":
        return f"{asker} has a higher priority in the same queue{moved}"
    return f"makes room for {asker} by moving{moved}"


def invalid(task: str, faults: tuple[Fault, ...]) -> Told:
    """A task that is written wrongly, with all that is wrong."""
    lines = "; ".join(str(fault) for fault in faults)
    code = NOT_ALLOWED if any(isinstance(fault, NotAllowed) for fault in faults) else INVALID
    return Told(task, SCHEDULED, code, short(lines), code)


def short(message: str) -> str:
    """In one line, safe to print, and bounded in bytes, too, whatever somebody named their things."""
    message = printable(message[:LONGEST])
    message = message.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
    return message if len(message.encode()) < LONGEST else f"{message[:-4]} ..."


def condition(row: Told, moment: str) -> dict[str, str]:
    """As it stands in the pod's status."""
    return {
        "type": row.condition,
        "status": "True" if row.condition == TARGET else "False",
        "reason": row.reason,
        "message": row.message,
        "lastTransitionTime": moment,
    }


def event(row: Told, pod: Mapping[str, str], moment: str, *, reporter: str = keys.OWN) -> dict[str, object]:
    """As an object of events.k8s.io/v1. pod: its namespace, name and uid."""
    going = row.condition == TARGET
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{pod['name'][:50].rstrip('-.')}-", "namespace": pod["namespace"]},
        "regarding": {"apiVersion": "v1", "kind": "Pod", **pod},
        "type": "Normal" if going else "Warning",
        "reason": row.reason if going else row.code or row.reason,
        "action": "Evict" if going else "Schedule",
        "note": row.message,
        "eventTime": moment,
        "reportingController": f"{reporter}/scheduler",
        "reportingInstance": f"{reporter}/scheduler",
    }
