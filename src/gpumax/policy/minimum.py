"""Which tasks of a gang are its minimum and which are extras, and which of them are never evicted.

Of semi-preemptible work the minimum counts as non-preemptible, the extras as preemptible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gpumax.model.names import natural
from gpumax.model.workload import ACTIVE, Task, Workload

NOBODY: Final[frozenset[str]] = frozenset()


def task_key(task: Task) -> tuple[int, tuple[str | int, ...], str]:
    """The order inside a gang: higher priority first, then by name."""
    return (-task.priority, natural(task.name), task.name)


def split(workload: Workload, coming: Sequence[Task] = ()) -> tuple[list[Task], list[Task]]:
    """The minimum, and the extras, the first to go first: of the tasks that run, and of those that are to run."""
    if len(workload.tasks) == 1 and not coming:
        return [task for task in workload.tasks if task.state in ACTIVE], []
    active = [task for task in workload.tasks if task.state in ACTIVE]
    if coming:
        active += coming
    if len(workload.groups) == 1 and len(active) <= workload.groups[0].min:
        return active, []
    core: list[Task] = []
    extras: list[Task] = []
    for group in workload.groups:
        members = sorted((task for task in active if task.group == group.name), key=task_key)
        core += members[: group.min]
        extras += members[group.min :]
    extras.sort(key=task_key, reverse=True)
    return core, extras


def fixed(workload: Workload, coming: Sequence[Task] = ()) -> frozenset[str]:
    """The names of those that are never evicted."""
    if workload.preemptible is True:
        return NOBODY
    core, extras = split(workload, coming)
    return frozenset(task.name for task in (core if workload.preemptible else core + extras))


def loose(workload: Workload) -> list[Task]:
    """The tasks that run and may be evicted."""
    if workload.preemptible is False or (len(workload.tasks) == 1 and workload.tasks[0].state not in ACTIVE):
        return []
    core, extras = split(workload)
    return extras if workload.preemptible == "semi" else core + extras


def joining(workload: Workload, short: Sequence[Task], extras: Sequence[Task]) -> frozenset[str]:
    """Which extras of semi-preemptible work would be of its minimum once they run, beside what it lacks.

    Those who come before others in the order of their gang would. Where all tasks of a group ask the same, it makes no
    difference to anybody who of them is safe, only how many are.
    """
    first = fixed(workload, [*short, *extras])
    safe, _ = split(workload, short)
    full = {group.name for group in workload.groups if _count(safe, group.name) >= group.min}
    alike = {group.name for group in workload.groups if _alike(workload, group.name)}
    return frozenset(task.name for task in extras if task.name in first and task.group not in full & alike)


def _count(tasks: Iterable[Task], group: str) -> int:
    return sum(task.group == group for task in tasks)


def _alike(workload: Workload, group: str) -> bool:
    """Whether all tasks of a group ask the same."""
    requests = [task.request for task in workload.tasks if task.group == group]
    return all(request is requests[0] or request == requests[0] for request in requests)
