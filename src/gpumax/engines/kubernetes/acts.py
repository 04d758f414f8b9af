"""What is done to pods, for the log: one line an act, when it is known what came of it."""

from __future__ import annotations

import logging
from typing import Any, Final, Literal, NamedTuple

from gpumax.engines.kubernetes.telling import short
from gpumax.engines.kubernetes.writer import Outcome
from gpumax.model.decision import Eviction, Place
from gpumax.model.workload import Task, Workload

_DONE: Final = {"bind": "bound", "evict": "evicted"}
_NOT: Final = {"refused": "not {}", "kept": "not {} for now", "withheld": "not {}"}


class Act(NamedTuple):
    """One bind or eviction. node: where the pod goes, or from where. cause, beneficiary: of an eviction."""

    event: Literal["bind", "evict"]
    pod: str
    queue: str
    workload: str
    node: str
    cause: str = ""
    beneficiary: str = ""


def bind(place: Place, workload: Workload) -> Act:
    """Of a place."""
    return Act("bind", place.task, workload.queue, workload.name, place.node)


def evict(row: Eviction, workload: Workload) -> Act:
    """Of an eviction."""
    tasks: tuple[Task, ...] = workload.tasks
    node = next((task.node for task in tasks if task.name == row.task), None) or ""
    return Act("evict", row.task, workload.queue, workload.name, node, row.cause, row.beneficiary)


def log(logger: logging.Logger, act: Act, outcome: Outcome, why: str) -> None:
    """The line: a sentence, and the fields that it is made of as its context."""
    done = _DONE[act.event]
    verb = done if outcome == "done" else _NOT[outcome].format(done)
    words = f"{verb}: {act.pod} {'to' if act.event == 'bind' else 'from'} {act.node}, queue {act.queue}, {act.workload}"
    if act.cause:
        words += f"; {act.cause} for {act.beneficiary}" if act.beneficiary else f"; {act.cause}"
    context: dict[str, Any] = {name: value for name, value in act._asdict().items() if value}
    context["outcome"] = outcome
    if outcome != "done":
        why = short(" ".join(why.split()))
        words += f": {why}"
        context["why"] = why
    level = logging.WARNING if outcome == "refused" else logging.INFO
    logger.log(level, "%s", words, extra={"context": context})
