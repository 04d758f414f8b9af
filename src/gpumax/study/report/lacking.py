"""What of the work never ran or never ended: where runs differ in it, their waits are of different work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gpumax.study.report.groups import Group
from gpumax.study.report.words import count, listed
from gpumax.words import plural


def never(group: Group) -> int:
    """Workloads that no empty cluster could hold, of the seed with the most."""
    return max(run.arrived.never for run in group.runs)


def stuck(group: Group) -> int:
    """Workloads that had not ended when nothing could happen any more, of the seed with the most."""
    return max(run.stuck for run in group.runs)


_KINDS: Final[tuple[tuple[Callable[[Group], int], str, str], ...]] = (
    (never, "can never run", "no wait of theirs is counted"),
    (stuck, "never ended", "their waits are counted as far as they went"),
)


def lacks(group: Group) -> str:
    """It in words after the name of a cluster; empty where there is none."""
    said = [f" ({plural(lack(group), 'workload')} {words} there)" for lack, words, _ in _KINDS if lack(group)]
    return "".join(said)


def unlike(*found: Group) -> str:
    """What is said before waits are compared; empty where they are of the same work."""
    said = [
        f"{plural(lack(group), 'workload')} {words} under {group.label}"
        for lack, words, _ in _KINDS
        if _differ(found, lack)
        for group in found
        if lack(group)
    ]
    return listed(said)


def notes(found: Sequence[Group]) -> Iterator[str]:
    """The same beside a table, a line for each kind: who lacks what, and whether rows differ in it."""
    for lack, words, counted in _KINDS:
        lacking = [group for group in found if lack(group)]
        if not lacking:
            continue
        if _differ(found, lack):
            each = listed([f"{count(lack(group))} under {group.label}" for group in lacking])
            yield f"not the same work: of the workloads, {each} {words}; {counted}"
        else:
            first = lacking[0]
            of = f"{count(lack(first))} of {plural(first.mean.arrived.workloads, 'workload')}"
            everywhere = f" under {first.label}" if len(found) == 1 else ", whatever the policy"
            yield f"{of} {words}{everywhere}; {counted}"


def _differ(found: Sequence[Group], lack: Callable[[Group], int]) -> bool:
    return len({lack(group) for group in found}) > 1
