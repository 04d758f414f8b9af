"""What an API server's audit log proves: that at no moment a node was over-full, a gang in parts for too long, or a limit broken.

Reads the log alone, after the fact, and knows nothing of who decided. A pod holds room from when its bind was *received* until the end of it
was *received*: whoever binds on what they saw end does so later, so sound schedules pass whatever the order in which writes were completed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

Entry = Mapping[str, Any]
GPU = "nvidia.com/gpu"
QUEUE = "gpumax.dev/queue"
GIVEN = "gpumax.dev/devices"
DRIVER = "gpu.gpumax.dev"


class Gang(NamedTuple):
    """Of which gang a pod is, and how many of it run together."""

    name: str
    min: int


@dataclass
class _Pod:
    name: str
    gpus: int
    queue: str
    gang: Gang | None
    grace_s: int
    claim: str = ""  # to a part of a device
    node: str = ""
    parts: Mapping[int, int] = field(default_factory=dict)  # thousandths of devices


@dataclass
class _State:
    """What is true at one moment of the log."""

    pods: dict[str, _Pod] = field(default_factory=dict)  # by uid
    names: dict[str, str] = field(default_factory=dict)  # uid by name
    room: dict[str, int] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    parts: Counter[tuple[str, int]] = field(default_factory=Counter)  # thousandths, by node and device
    claims: dict[str, Any] = field(default_factory=dict)  # what was allocated, by namespace and name
    queues: Counter[str] = field(default_factory=Counter)
    gangs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def check(
    entries: Iterable[Entry],
    *,
    limits: Mapping[str, int] | None = None,
    gang_of: Callable[[Mapping[str, Any]], Gang | None] = lambda pod: gang_by_label(pod),
    deadline_s: float = 120.0,
) -> list[str]:
    """Every violation, as a sentence. limits: GPUs by queue; deadline_s: how long a gang may be in parts."""
    state, found = _State(), []
    since: dict[str, float] = {}
    last_s = 0.0
    for entry in sorted(entries, key=lambda one: one["requestReceivedTimestamp"]):
        # Requests for no object, like /readyz, and those that were refused, changed nothing.
        if (
            "objectRef" not in entry
            or entry.get("stage") != "ResponseComplete"
            or entry["responseStatus"]["code"] not in range(200, 300)
        ):
            continue
        last_s = _seconds(entry["requestReceivedTimestamp"])
        found += _apply(state, entry, gang_of)
        found += _overfull(state, entry)
        for queue, most in (limits or {}).items():
            if state.queues[queue] > most:
                found.append(
                    f"queue {queue} holds {state.queues[queue]} GPUs, over its limit of {most}, {_at(entry)}"
                )
        found += _in_parts(state, since, last_s, deadline_s, entry)
    found += [
        f"gang {name} was left in parts for {last_s - began:.0f} s"
        for name, began in since.items()
        if last_s - began > deadline_s
    ]
    return found


def gang_by_label(pod: Mapping[str, Any]) -> Gang | None:
    """A gang of plain pods: the label, and the annotation with its minimum."""
    meta = pod["metadata"]
    name = (meta.get("labels") or {}).get("gpumax.dev/gang")
    least = (meta.get("annotations") or {}).get("gpumax.dev/min")
    return Gang(f"{meta['namespace']}/{name}", int(least)) if name and least else None


def _apply(state: _State, entry: Entry, gang_of: Callable[[Mapping[str, Any]], Gang | None]) -> list[str]:
    about, verb = entry["objectRef"], entry["verb"]
    resource, part = about["resource"], about.get("subresource", "")
    answer = entry.get("responseObject") or {}
    if resource == "nodes" and answer.get("kind") == "Node":
        amount = ((answer.get("status") or {}).get("allocatable") or {}).get(GPU, "0")
        state.room[about["name"] if "name" in about else answer["metadata"]["name"]] = int(amount)
        return []
    if resource == "resourceclaims":
        state.claims[_name(about)] = ((answer.get("status") or {}).get("allocation") or {}).get("devices")
    if resource != "pods":
        return []
    if verb == "create" and not part and answer.get("kind") == "Pod":
        _add(state, answer, gang_of)
    elif verb == "create" and part == "binding":
        return _bind(state, entry)
    elif verb == "create" and part == "eviction":
        uid = state.names.get(_name(about), "")
        if uid in state.pods and not state.pods[uid].grace_s:
            _end(state, uid)
    elif verb == "delete" and not part:
        meta = answer.get("metadata") or {}
        # With a grace that is not over yet it holds its room; what is gone at once has none.
        if answer.get("kind") != "Pod" or not meta.get("deletionGracePeriodSeconds"):
            _end(state, state.names.get(_name(about), ""))
    elif answer.get("kind") == "Pod" and (answer.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        _end(state, answer["metadata"]["uid"])
    return []


def _add(state: _State, pod: Mapping[str, Any], gang_of: Callable[[Mapping[str, Any]], Gang | None]) -> None:
    meta = pod["metadata"]
    gpus = sum(
        int(((container.get("resources") or {}).get("limits") or {}).get(GPU, "0"))
        for container in pod["spec"]["containers"]
    )
    row = _Pod(
        f"{meta['namespace']}/{meta['name']}",
        gpus,
        (meta.get("labels") or {}).get(QUEUE, ""),
        gang_of(pod),
        pod["spec"].get("terminationGracePeriodSeconds", 30),
        next(
            (
                row["resourceClaimName"]
                for row in pod["spec"].get("resourceClaims", ())
                if row["name"] == "gpumax"
            ),
            "",
        ),
    )
    state.pods[meta["uid"]] = row
    state.names[row.name] = meta["uid"]
    if pod["spec"].get("nodeName"):
        _hold(state, meta["uid"], pod["spec"]["nodeName"])


def _bind(state: _State, entry: Entry) -> list[str]:
    name = _name(entry["objectRef"])
    asked = entry["requestObject"]
    uid = (asked.get("metadata") or {}).get("uid") or state.names.get(name, "")
    pod = state.pods.get(uid)
    if pod is None:
        return [f"{name} was bound, and nobody made it, {_at(entry)}"]
    node = asked["target"]["name"]
    if pod.node:
        return [f"{name} was bound to {node} while it was on {pod.node}, {_at(entry)}"]
    record = ((asked.get("metadata") or {}).get("annotations") or {}).get(GIVEN)
    given = json.loads(record)["devices"] if record else {}
    pod.parts = {int(index): part["milli"] for index, part in given.items()}
    _hold(state, uid, node)
    if pod.claim:
        claim = f"{entry['objectRef']['namespace']}/{pod.claim}"
        if (found := _allocated(state.claims.get(claim), node)) != given:
            return [f"{name} was bound with {given}, and its claim says {found}, {_at(entry)}"]
    return []


def _allocated(devices: Any, node: str) -> Any:
    """What the claim's parameters say, where its devices are those, and on that node; None where they contradict each other."""
    if not devices:
        return None
    (config,) = devices["config"]
    given = config["opaque"]["parameters"]["devices"]
    there = {(row["driver"], row["pool"], row["device"]) for row in devices["results"]}
    return given if there == {(DRIVER, node, f"gpu-{index}") for index in given} else None


def _hold(state: _State, uid: str, node: str) -> None:
    pod = state.pods[uid]
    pod.node = node
    state.held[node] += pod.gpus
    for index, milli in pod.parts.items():
        state.parts[node, index] += milli
    state.queues[pod.queue] += pod.gpus
    if pod.gang is not None:
        state.gangs[pod.gang.name][uid] = pod.gang.min


def _end(state: _State, uid: str) -> None:
    pod = state.pods.pop(uid, None)
    if pod is None:
        return
    if state.names.get(pod.name) == uid:
        del state.names[pod.name]
    if pod.node:
        state.held[pod.node] -= pod.gpus
        for index, milli in pod.parts.items():
            state.parts[pod.node, index] -= milli
        state.queues[pod.queue] -= pod.gpus
        if pod.gang is not None:
            state.gangs[pod.gang.name].pop(uid, None)


def _overfull(state: _State, entry: Entry) -> list[str]:
    if entry["objectRef"].get("subresource") != "binding":
        return []
    node = entry["requestObject"]["target"]["name"]
    held, room = state.held[node], state.room.get(node, 0)
    found = [f"node {node} holds {held} GPUs of {room}, {_at(entry)}"] if held > room else []
    return found + [
        f"device {index} of node {node} holds {milli} of 1000 thousandths, {_at(entry)}"
        for (where, index), milli in state.parts.items()
        if where == node and milli > 1000
    ]


def _in_parts(
    state: _State, since: dict[str, float], now_s: float, deadline_s: float, entry: Entry
) -> list[str]:
    found = []
    for name, held in state.gangs.items():
        least = max(held.values(), default=0)
        if not held or len(held) >= least:
            since.pop(name, None)
        elif now_s - since.setdefault(name, now_s) > deadline_s:
            found.append(
                f"gang {name} has {len(held)} of {least} for {now_s - since.pop(name):.0f} s, {_at(entry)}"
            )
    return found


def _name(about: Mapping[str, Any]) -> str:
    return f"{about.get('namespace', '')}/{about.get('name', '')}"


def _at(entry: Entry) -> str:
    return f"at {entry['requestReceivedTimestamp']}"


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()
