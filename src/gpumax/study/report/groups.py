"""Runs of one policy on one cluster, whatever their seeds, as one run of their means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gpumax.model.study import Result, Run

SUBJECTS: Final = ("gpumax", "gpumax-fractions")
"""Whom a report is about: the first that was played."""

FRACTIONAL: Final = frozenset(("gpumax-fractions",))
"""Under whom workloads of one GPU ask for what they need of it."""

BASELINES: Final = (
    "static-backfill", "static-fifo", "hard-quota", "kubernetes-default", "fgd", "bestfit", "packing",
)  # fmt: skip
"""With whom it is compared: the first that was played."""


class Group(NamedTuple):
    """runs: of all seeds; mean: their means, as one run; label: how it is called in this report."""

    label: str
    mean: Run
    runs: tuple[Run, ...]

    @property
    def policy(self) -> str:
        """Whose runs they are."""
        return self.mean.policy


def groups(result: Result) -> tuple[Group, ...]:
    """In the order of the runs. Runs that were stopped count only where there are no others."""
    runs = [run for run in result.runs if run.finished] or result.runs
    by_key: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_key.setdefault((run.policy, run.gpus), []).append(run)
    several = len({gpus for _, gpus in by_key}) > 1
    return tuple(
        Group(
            f"{policy}, {gpus:,}\u00a0GPU{'' if gpus == 1 else 's'}" if several else policy,
            mean(found),
            tuple(found),
        )
        for (policy, gpus), found in by_key.items()
    )


def pair(found: Sequence[Group]) -> tuple[Group | None, Group | None]:
    """The group that a report is about, and whom to compare it with: on the smallest cluster that both were played on, if there is one."""
    by_policy: dict[str, dict[int, Group]] = {}
    for group in sorted(found, key=lambda group: group.mean.gpus):
        by_policy.setdefault(group.policy, {})[group.mean.gpus] = group
    subject = next((name for name in SUBJECTS if name in by_policy), None)
    if subject is None:
        # Of rules that fill a cluster, the two that fill it best.
        best = sorted(found, key=lambda group: -max(group.mean.allocation.values(), default=0.0))
        first = [*best[:2], None, None]
        return first[0], first[1]
    mine = by_policy[subject]
    names = [name for name in (*BASELINES, *by_policy) if name in by_policy and name not in SUBJECTS]
    if not names:
        return next(iter(mine.values())), None
    # One that was tried on a cluster of ours says more than one that wasn't.
    other = next((name for name in names if mine.keys() & by_policy[name].keys()), names[0])
    both = [gpus for gpus in mine if gpus in by_policy[other]]
    if both:
        return mine[both[0]], by_policy[other][both[0]]
    return next(iter(mine.values())), next(iter(by_policy[other].values()))


def focus(found: Sequence[Group]) -> list[Group]:
    """Those on the clusters that are compared: pictures of more would be pictures of nothing."""
    sizes = {group.mean.gpus for group in pair(found) if group is not None}
    close = [group for group in found if group.mean.gpus in sizes]
    # On one cluster, nobody needs to be told which.
    return [group._replace(label=group.policy) for group in close] if len(sizes) == 1 else close


def mean(runs: Sequence[Run]) -> Run:
    """One run whose figures are the means of these; counts are rounded."""
    if len(runs) == 1:
        return runs[0]
    return msgspec.convert(_mean([msgspec.to_builtins(run) for run in runs]), Run)


def _mean(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {
            key: _mean([value[key] for value in values])
            for key in first
            if all(key in value for value in values)
        }
    if isinstance(first, list | tuple):
        return [_mean(list(parts)) for parts in zip(*values, strict=False)]
    if isinstance(first, bool | str) or any(value is None for value in values):
        return first if first == values[-1] or isinstance(first, bool | str) else None
    total = sum(values) / len(values)
    return round(total) if isinstance(first, int) else total
