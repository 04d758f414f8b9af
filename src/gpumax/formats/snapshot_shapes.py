"""Workloads and their tasks in a snapshot: fields alone; what they refer to is checked in snapshot_workloads.py."""

from __future__ import annotations

from typing import Any, Final

from gpumax.formats.affinity import AFFINITY, TOLERATIONS
from gpumax.formats.nodes import LABELS
from gpumax.formats.queues import PRIORITY
from gpumax.formats.requests import REQUEST, SLICES
from gpumax.formats.scalars import GROUP_NAME, NAME, Choice, Duration, Flag, Time, Whole
from gpumax.formats.shape import ByType, Field, Map, Object, Rows, Shared, Then, Wrongs, wrong
from gpumax.formats.topology import TOPOLOGY
from gpumax.model.workload import DeviceShare
from gpumax.units import MILLI

MOST_TASKS: Final = 10_000
"""The most tasks of one workload."""

MOST_GROUPS: Final = 1000
"""The most groups of one workload."""

CLASSES: Final = {"low": 25, "train": 50, "normal": 50, "interactive": 75, "build": 100, "inference": 125}
"""Priority classes that are always there."""

Row = dict[str, Any]
"""Fields that were read, as keywords of the model."""


def _share(index: int, milli: int = 0, slices: dict[str, int] | None = None) -> DeviceShare:
    if slices and milli:
        raise wrong(f"{milli} milli beside slices", "only one of the two")
    return DeviceShare(index, 0, slices) if slices else DeviceShare(index, milli or MILLI)


def _distinct(shares: tuple[DeviceShare, ...]) -> tuple[DeviceShare, ...]:
    wrongs = Wrongs()
    seen: set[int] = set()
    for position, share in enumerate(shares):
        if share.index in seen:
            wrongs.add((position, "index"), f"device {share.index} twice", "different devices")
        seen.add(share.index)
    wrongs.check()
    return tuple(sorted(shares))


SHARES: Final = Shared(
    Then(
        Rows(
            Object(
                "DeviceShare",
                {
                    "index": Field(Whole(0, 4095), "Which device of the node.", required=True),
                    "milli": Field(Whole(1, MILLI), "Thousandths of the device; unset: all of it."),
                    "slices": Field(SLICES, "Slices by profile, instead of milli."),
                },
                _share,
                about="What a task holds of one device.",
            ),
            most=4096,
        ),
        _distinct,
    )
)
"""Devices that a task holds or gets, sorted by index."""

_STATES: Final = ("pending", "gated", "bound", "running", "releasing", "succeeded", "failed")

_TASK: Final[Object[Row]] = Object(
    "Task",
    {
        "name": Field(NAME, "Unique among all tasks of the snapshot.", required=True),
        "group": Field(GROUP_NAME, "Its group; unset: the only one."),
        "state": Field(
            Choice(_STATES), "pending (unset), gated, bound, running, releasing, succeeded or failed."
        ),
        "node": Field(NAME, "Where it is, while it holds room; passed over in other states."),
        "devices": Field(SHARES, "What it holds there; passed over in states that hold nothing."),
        "priority": Field(PRIORITY, "Order inside the gang, higher first; unset: 0."),
        "selector": Field(LABELS, "Node labels that must match."),
        "affinity": Field(AFFINITY, "Where it may and would like to go."),
        "tolerations": Field(TOLERATIONS, "Taints that it bears."),
        "labels": Field(LABELS, "What affinity between tasks selects."),
        "request": Field(REQUEST, "What it asks for; replaces the workload's request as a whole."),
        "promised": Field(
            Flag(),
            "That the decision before had it start when others have left (`after`): what they leave is for it first; unset: false. "
            "Passed over in states other than pending.",
        ),
    },
    dict,
    about="One schedulable unit: a pod or a process.",
)

_GROUP: Final[Object[Row]] = Object(
    "Group",
    {
        "name": Field(GROUP_NAME, "Unique in the workload; unset: the group of tasks that name none."),
        "min": Field(Whole(1, MOST_TASKS), "How many of its tasks start together; unset: all of them."),
        "parent": Field(
            GROUP_NAME, "The group that it is part of; only groups without parts have tasks and min."
        ),
        "topology": Field(TOPOLOGY, "How its tasks stand together, inside what is above it."),
    },
    dict,
    about="Tasks of one role.",
)


PRIORITIES: Final = Map(NAME, PRIORITY)
"""Priority classes of a file."""

WORKLOAD_PRIORITY: Final = ByType[int | str]("a number, or a class name", number=PRIORITY, text=NAME)
"""As written: a class name is looked up later."""

PREEMPTIBLE: Final = Field(
    Flag("semi"),
    "Whether it may be evicted; semi: what is above the minimum of its groups may. Unset: true below priority 100.",
)

WORKLOAD: Final[Object[Row]] = Object(
    "Workload",
    {
        "name": Field(NAME, "Unique among workloads.", required=True),
        "queue": Field(NAME, "The leaf queue that it counts against.", required=True),
        "priority": Field(WORKLOAD_PRIORITY, "A number, or a class name; unset: 50."),
        "preemptible": PREEMPTIBLE,
        "submitted": Field(Time(), "When it was submitted.", to="submitted_ms"),
        "started": Field(Time(), "When the current run started; unset: not started.", to="started_ms"),
        "checkpointed": Field(
            Time(),
            "The moment to which an eviction throws it back, where it saves its work.",
            to="checkpointed_ms",
        ),
        "stale_since": Field(
            Time(),
            "When it fell below its minimum; unset on a gang that is below it: now.",
            to="stale_since_ms",
        ),
        "max_duration": Field(Duration(), "After which it ends.", to="max_duration_ms"),
        "pool": Field(NAME, "Only nodes of this pool; unset: any."),
        "labels": Field(LABELS, "What affinity between tasks selects."),
        "groups": Field(Rows(_GROUP, most=MOST_GROUPS), "Roles; unset: one group of all tasks."),
        "topology": Field(TOPOLOGY, "How the whole gang stands together."),
        "request": Field(REQUEST, "What a task asks for that has no request of its own."),
        "tasks": Field(Rows(_TASK, least=1, most=MOST_TASKS), "Its tasks.", required=True),
    },
    dict,
    about="What a person submitted.",
)
