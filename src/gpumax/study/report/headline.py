"""A study in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from gpumax.model.study import Result
from gpumax.study.report import inflation, sizes
from gpumax.study.report.groups import Group, pair
from gpumax.study.report.lacking import unlike
from gpumax.study.report.words import count, duration
from gpumax.words import plural


def headline(result: Result, found: Sequence[Group]) -> str:
    """What a reader is to remember, with both sides of the comparison, whoever does better."""
    subject, other = pair(found)
    if subject is None:
        return "No run was played to its end"
    if result.protocol == "inflate" or subject.mean.allocation:
        return (
            inflation.finding(found) if any(group.mean.allocation for group in found) else "Nothing arrived"
        )
    if len({group.mean.gpus for group in found}) > 1 and (both := sizes.equal(found)) is not None:
        few, many = both.subject.mean.gpus, both.other.mean.gpus
        words = (
            f"{both.subject.policy} needs {plural(few, 'GPU')} where {both.other.policy} needs {count(many)}"
        )
        return f"{words}, for 99 % of the same work to wait at most {duration(both.wait_s)}"
    return _waits(subject, other)


def _waits(subject: Group, other: Group | None) -> str:
    """Of work that is not the same, this is said before its waits are."""
    wait = duration(subject.mean.wait_s.p99)
    words = f"99 % of workloads wait at most {wait} under {subject.label}"
    if other is None:
        return f"On {plural(subject.mean.gpus, 'GPU')}, {words}"
    theirs = duration(other.mean.wait_s.p99)
    words += f" and under {other.label}" if theirs == wait else f", {theirs} under {other.label}"
    if _same(subject, other):
        words = f"On the same {plural(subject.mean.gpus, 'GPU')}, {words}"
    less = unlike(subject, other)
    return f"{less}; of the work that is counted: {words[0].lower()}{words[1:]}" if less else words


def _same(subject: Group, other: Group) -> bool:
    return subject.mean.gpus == other.mean.gpus
