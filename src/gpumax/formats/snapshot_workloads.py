"""Workloads of a snapshot: what they refer to, their groups, and what their tasks hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumax.formats.affinity import dump_affinity, dump_toleration
from gpumax.formats.lines import Key
from gpumax.formats.queues import MOST_DEEP
from gpumax.formats.requests import dump_request
from gpumax.formats.scalars import write_duration, write_time
from gpumax.formats.shape import Bad, Wrongs, show
from gpumax.formats.snapshot_shapes import Row
from gpumax.formats.topology import dump_wish, read_wish
from gpumax.model.names import natural
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Topology
from gpumax.model.workload import (
    HOLDING,
    NON_PREEMPTIBLE_FROM,
    DeviceShare,
    Document,
    Group,
    Request,
    Task,
    Workload,
)
from gpumax.units import MILLI

_EMPTY: Final = Request()
DEFAULT_PRIORITY: Final = 50


class Context:
    """What workloads refer to. `nodes` None: a node of that name is there, but has faults of its own; topologies likewise."""

    def __init__(
        self,
        nodes: Mapping[str, Node | None],
        classes: Mapping[str, int],
        topologies: Mapping[str, Topology] | None = None,
    ) -> None:
        self.topologies = topologies
        self.nodes = nodes
        self.classes = classes
        self._devices: dict[str, dict[int, Device]] = {
            name: {device.index: device for device in node.devices}
            for name, node in nodes.items()
            # Nobody knows the devices of a node that is gone while tasks hold room on it.
            if node is not None and (node.devices or node.ready)
        }

    def devices(self, node: str) -> dict[int, Device] | None:
        """A node's devices by index; None where nobody knows them."""
        return self._devices.get(node)


def build_workload(row: Row, context: Context, wrongs: Wrongs, index: int) -> Workload | None:
    """The workload of a row that was read; None if it has faults, which go to `wrongs`."""
    mine = Wrongs()
    rows: tuple[Row, ...] = row.pop("tasks")
    priority = _priority(row.pop("priority", DEFAULT_PRIORITY), context, mine)
    request = row.pop("request", _EMPTY)
    written = row.pop("groups", ())
    only = _check_groups(written, mine)
    tasks = tuple(_task(task, request, only, context, mine, position) for position, task in enumerate(rows))
    groups = _groups(written, tasks, context, mine)
    topology = read_wish(row.pop("topology", None), context.topologies, mine, "topology")
    if mine.kept:
        wrongs.take(Bad(mine.kept, mine.more), "workloads", index)
        return None
    if len(tasks) > 1:
        tasks = tuple(sorted(tasks, key=lambda task: (natural(task.name), task.name)))
    row.setdefault("preemptible", priority < NON_PREEMPTIBLE_FROM)
    return Workload(priority=priority, groups=groups, topology=topology, tasks=tasks, **row)


def _priority(written: int | str, context: Context, wrongs: Wrongs) -> int:
    if not isinstance(written, str):
        return written
    known = context.classes.get(written)
    if known is None:
        wrongs.add(("priority",), show(written), f"a number or one of {', '.join(sorted(context.classes)[:20])}",
                   written, context.classes)  # fmt: skip
        return DEFAULT_PRIORITY
    return known


def check_places(written: object, context: Context, wrongs: Wrongs, index: int) -> None:
    """The nodes of a workload that can't be read for other faults: its tasks as they were written."""
    tasks = written.get("tasks") if isinstance(written, dict) else None
    for position, task in enumerate(tasks if isinstance(tasks, list | tuple) else ()):
        state, node = (task.get("state"), task.get("node")) if isinstance(task, dict) else (None, None)
        if isinstance(state, str) and state in HOLDING and isinstance(node, str):
            _check_node(node, context, wrongs, ("workloads", index, "tasks", position, "node"))


def _check_node(node: str, context: Context, wrongs: Wrongs, path: tuple[Key, ...]) -> bool:
    if node in context.nodes:
        return True
    wrongs.add(path, show(node), "a node that exists", node, context.nodes)
    return False


def _task(row: Row, request: Request, only: str | None, context: Context, wrongs: Wrongs, index: int) -> Task:
    if "request" not in row:
        row["request"] = request
    if "group" not in row and only is not None:
        row["group"] = only
    if row.get("state") not in HOLDING:
        row.pop("node", None)
        row.pop("devices", None)
        if row.get("state", "pending") != "pending":
            row.pop("promised", None)
        return Task(**row)
    row.pop("promised", None)
    node = row.get("node")
    if node is None:
        wrongs.add(("tasks", index, "node"), "nothing", f"the node of a task that is {row['state']}")
    elif _check_node(node, context, wrongs, ("tasks", index, "node")) and "devices" in row:
        known = context.devices(node)
        for position, share in enumerate(row["devices"] if known is not None else ()):
            _check_share(share, node, known or {}, wrongs, ("tasks", index, "devices", position))
    return Task(**row)


def _check_share(
    share: DeviceShare, node: str, known: Mapping[int, Device], wrongs: Wrongs, path: tuple[Key, ...]
) -> None:
    """A share of a device that is there; slices of a sliced one, milli of another."""
    device = known.get(share.index)
    if device is None:
        wrongs.add((*path, "index"), str(share.index), f"a device of node {node}, which has {len(known)}")
    elif device.slices and not share.slices:
        wrongs.add(
            path, f"{share.milli} milli", f"slices: device {share.index} of node {node} takes them only"
        )
    for profile in sorted(share.slices.keys() - device.slices.keys() if device is not None else ()):
        offered = ", ".join(sorted(device.slices)) if device is not None and device.slices else "none"
        wrongs.add((*path, "slices"), profile, f"a profile that the device offers: {offered}")


def _check_groups(rows: tuple[Row, ...], wrongs: Wrongs) -> str | None:
    """Faults of the groups among themselves. Returns the one leaf group, if there is only one."""
    names = [row.get("name", "") for row in rows]
    parents = {row.get("name", ""): row.get("parent") for row in rows}
    inner = {parent for parent in parents.values() if parent is not None}
    seen: set[str] = set()
    for index, row in enumerate(rows):
        name, parent = names[index], row.get("parent")
        if name in seen:
            wrongs.add(("groups", index, "name"), f"{show(name)} twice", "each group once")
        seen.add(name)
        if name in inner and "min" in row:
            wrongs.add(("groups", index, "min"), show(row["min"]), "no min on a group that is made of groups")
        if parent is not None and parent not in parents:
            wrongs.add(("groups", index, "parent"), show(parent), "a group of this workload", parent, names)
        elif (above := _above(name, parents)) == name:
            wrongs.add(("groups", index, "parent"), f"a cycle through {show(parent)}", "a tree")
        elif above is not None:
            found = f"more than {MOST_DEEP} groups above each other"
            wrongs.add(("groups", index, "parent"), found, "a flatter tree")
    leaves = [name for name in names if name not in inner]
    return leaves[0] if len(leaves) == 1 else None if rows else ""


def _above(name: str, parents: Mapping[str, str | None]) -> str | None:
    """The group itself where it is above itself; one far above where there are too many; else None."""
    above = parents.get(name)
    for _ in range(MOST_DEEP):
        if above is None or above == name:
            break
        above = parents.get(above)
    return above


def _groups(
    rows: tuple[Row, ...], tasks: tuple[Task, ...], context: Context, wrongs: Wrongs
) -> tuple[Group, ...]:
    """The groups with their minimum, in name order; every task is in a leaf."""
    if not rows:
        for index, task in enumerate(tasks):
            if task.group:
                path = ("tasks", index, "group")
                wrongs.add(path, show(task.group), "a group of this workload, which lists no groups")
        return (Group("", len(tasks)),)
    inner = {row.get("parent") for row in rows}
    count = {row.get("name", ""): 0 for row in rows}
    for index, task in enumerate(tasks):
        if task.group not in count:
            found = show(task.group) if task.group else "nothing"
            wrongs.add(("tasks", index, "group"), found, "a group of this workload", task.group, count)
        elif task.group in inner:
            wrongs.add(("tasks", index, "group"), show(task.group), "a group that is not made of groups")
        else:
            count[task.group] += 1
    groups = []
    for index, row in enumerate(rows):
        name = row.get("name", "")
        # Fewer tasks than min is no fault: the others may come later, and until then the gang is held.
        least = 0 if name in inner else row.get("min", count[name])
        if name not in inner and not least:
            wrongs.add(("groups", index), "no tasks in the group", "a task, or its min")
        topology = read_wish(row.get("topology"), context.topologies, wrongs, "groups", index, "topology")
        groups.append(Group(name, least, row.get("parent"), topology))
    return tuple(sorted(groups, key=lambda group: group.name))


def check_devices(
    workloads: Mapping[int, Workload], nodes: Mapping[str, Node | None], wrongs: Wrongs
) -> None:
    """Faults of devices of which more is held than there is. `workloads`: by the index of their row."""
    held: dict[tuple[str, int], int] = {}
    slices: dict[tuple[str, int, str], int] = {}
    for workload in workloads.values():
        for task in workload.tasks:
            for share in task.devices:
                key = (task.node or "", share.index)
                held[key] = held.get(key, 0) + share.milli
                for profile, count in share.slices.items():
                    slices[*key, profile] = slices.get((*key, profile), 0) + count
    if slices:
        _check_slices(slices, nodes, wrongs)
    if any(milli > MILLI for milli in held.values()):
        _name_holders({key: milli for key, milli in held.items() if milli > MILLI}, workloads, wrongs)


def _check_slices(
    slices: Mapping[tuple[str, int, str], int], nodes: Mapping[str, Node | None], wrongs: Wrongs
) -> None:
    """Faults of devices of which more slices are held than they offer."""
    for (name, index, profile), count in sorted(slices.items()):
        node = nodes.get(name)
        for device in node.devices if node is not None else ():
            most = device.slices.get(profile, 0)
            if device.index == index and 0 < most < count:
                found = f"{count} slices {profile} of device {index} of node {name}"
                wrongs.add(("workloads",), found, f"at most {most}")


def _name_holders(
    held: Mapping[tuple[str, int], int], workloads: Mapping[int, Workload], wrongs: Wrongs
) -> None:
    """One fault a device, at the last workload that holds it. `held`: milli by node and index, of these devices."""
    holders: dict[tuple[str, int], list[tuple[int, str]]] = {key: [] for key in held}
    for row, workload in workloads.items():
        for task in workload.tasks:
            for share in task.devices:
                if (task.node or "", share.index) in holders:
                    holders[task.node or "", share.index].append((row, task.name))
    for (node, index), milli in held.items():
        rows = holders[node, index]
        names = ", ".join(name for _, name in rows[:4]) + (", ..." if len(rows) > 4 else "")
        found = f"{milli} milli of device {index} of node {node}, held by {names}"
        wrongs.add(("workloads", rows[-1][0], "tasks"), found, f"at most {MILLI}")


def dump_workload(workload: Workload) -> Document:
    """As it is read."""
    document: Document = {"name": workload.name, "queue": workload.queue, "priority": workload.priority}
    document["preemptible"] = workload.preemptible
    document["submitted"] = write_time(workload.submitted_ms)
    if workload.started_ms is not None:
        document["started"] = write_time(workload.started_ms)
    if workload.checkpointed_ms is not None:
        document["checkpointed"] = write_time(workload.checkpointed_ms)
    if workload.stale_since_ms is not None:
        document["stale_since"] = write_time(workload.stale_since_ms)
    if workload.max_duration_ms is not None:
        document["max_duration"] = write_duration(workload.max_duration_ms)
    if workload.pool:
        document["pool"] = workload.pool
    if workload.labels:
        document["labels"] = dict(sorted(workload.labels.items()))
    if workload.groups != (Group("", len(workload.tasks)),):
        document["groups"] = [_dump_group(group) for group in workload.groups]
    if workload.topology is not None:
        document["topology"] = dump_wish(workload.topology)
    request = workload.tasks[0].request
    document["request"] = dump_request(request)
    document["tasks"] = [_dump_task(task, request) for task in workload.tasks]
    return document


def _dump_group(group: Group) -> Document:
    document: Document = {"name": group.name}
    if group.min:
        document["min"] = group.min
    if group.parent is not None:
        document["parent"] = group.parent
    if group.topology is not None:
        document["topology"] = dump_wish(group.topology)
    return document


def _dump_task(task: Task, request: Request) -> Document:
    document: Document = {"name": task.name}
    if task.group:
        document["group"] = task.group
    document["state"] = task.state
    if task.promised:
        document["promised"] = True
    if task.node is not None:
        document["node"] = task.node
    if task.devices:
        document["devices"] = [dump_share(share) for share in task.devices]
    if task.priority:
        document["priority"] = task.priority
    if task.selector:
        document["selector"] = dict(sorted(task.selector.items()))
    if task.affinity is not None:
        document["affinity"] = dump_affinity(task.affinity)
    if task.tolerations:
        document["tolerations"] = [dump_toleration(toleration) for toleration in task.tolerations]
    if task.labels:
        document["labels"] = dict(sorted(task.labels.items()))
    if task.request != request:
        document["request"] = dump_request(task.request)
    return document


def dump_share(share: DeviceShare) -> Document:
    """As it is read."""
    if share.slices:
        return {"index": share.index, "slices": dict(sorted(share.slices.items()))}
    return {"index": share.index, "milli": share.milli}
