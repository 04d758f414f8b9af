"""Rules 2 and 4: only a gang that has been below its minimum for longer than its grace goes for nobody, and goes whole."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.violation import Violation
from gpumax.model.workload import ACTIVE, Workload
from gpumax.units import format_duration
from gpumax.words import plural


def check_stale(facts: Facts) -> Iterator[Violation]:
    """Each workload with such evictions."""
    going = {facts.owner[name].name: name for name, row in facts.evicted.items() if row.cause == "stale"}
    for name, task in going.items():
        found = _wrong(facts, facts.workloads[name])
        if found:
            yield Violation(4, found, name, task)


def _wrong(facts: Facts, workload: Workload) -> str:
    policy, now_ms = facts.snapshot.policy, facts.snapshot.now_ms
    since_ms = now_ms if workload.stale_since_ms is None else workload.stale_since_ms
    if now_ms - since_ms < policy.stale_grace_ms:
        for_ms = format_duration(now_ms - since_ms)
        return f"gives everything back after {for_ms}; its grace is {format_duration(policy.stale_grace_ms)}"
    if any(task.state == "succeeded" for task in workload.tasks):
        return "gives everything back though a task of it has succeeded"
    others = [facts.evicted[t.name] for t in workload.tasks if t.name in facts.evicted]
    if any(row.restarts_on is not None or (row.cause == "stale") != (not row.beneficiary) for row in others):
        return "gives everything back, and a task of it is moved, or goes for somebody"
    left = [task for task in workload.tasks if task.state in ACTIVE and task.name not in facts.evicted]
    if left:
        return f"gives everything back but {plural(len(left), 'task')}"
    coming = {new.task.name for new in facts.newcomers if new.workload.name == workload.name}
    gone = {name for name, row in facts.evicted.items() if row.cause != "stale"}
    for group in workload.groups:
        members = [task for task in workload.tasks if task.group == group.name]
        here = sum((t.state in ACTIVE and t.name not in gone) or t.name in coming for t in members)
        if here < group.min:
            return ""
    return "gives everything back though it is not below its minimum"
