"""How many GPUs each policy needs, so that nobody waits longer."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose
from typing import Final, NamedTuple

from gpumax.study.report.groups import BASELINES, FRACTIONAL, SUBJECTS, Group
from gpumax.study.report.lacking import lacks
from gpumax.study.report.picture import (
    Label,
    Picture,
    colors,
    legend,
    legend_height,
    levels,
    posts,
    stroke,
)
from gpumax.study.report.scales import apart, numbers, waits
from gpumax.study.report.svg import Canvas
from gpumax.study.report.words import count, duration, factor
from gpumax.words import plural

_LEFT: Final = 78.0
_HEIGHT: Final = 260.0
_TOP: Final = 12.0


_CLOSE: Final = 16.0
"""How far apart the names of lines are at least."""

_LESS: Final = " A cluster on which less work ran than on others meets no wait: work that can never run there, never ends or never came has none."


class Equal(NamedTuple):
    """The smallest clusters on which two policies keep a wait."""

    wait_s: float
    subject: Group
    other: Group


def gpus_needed(found: Sequence[Group]) -> Picture | None:
    """None where all runs are on clusters of one size."""
    shown = _by_policy(found)
    if len({group.mean.gpus for group in found}) < 2:
        return None
    return Picture(
        "gpus",
        finding(found),
        "The wait that 99 % of the workloads don't go beyond, by the size of the cluster. Further left and further down is better; "
        "read along a level for the GPUs that each policy needs at equal wait."
        + ("" if len(sound(found)) == len(found) else _LESS),
        " ".join(
            f"{policy}: "
            + ", ".join(
                f"{duration(group.mean.wait_s.p99)} on {plural(group.mean.gpus, 'GPU')}{lacks(group)}"
                for group in rows
            )
            + "."
            for policy, rows in shown.items()
        ),
        lambda width: _draw(found, width),
    )


def finding(found: Sequence[Group]) -> str:
    """At the shortest wait that both reach."""
    both = equal(found)
    if both is None:
        return "How long work waits on clusters of several sizes"
    few, many = both.subject.mean.gpus, both.other.mean.gpus
    words = f"For 99 % of workloads to wait at most {duration(both.wait_s)}, {both.subject.policy} needs {plural(few, 'GPU')}"
    more = f" ({factor(many / few)} times as many)" if many > few else ""
    return f"{words} and {both.other.policy} {count(many)}{more}"


def equal(found: Sequence[Group]) -> Equal | None:
    """Whom the report is about beside whom it is compared with. The wait is the shortest that both reach: chosen by no one.

    None where they did not do the same work on any cluster: a wait that counts less work is no wait to be met.
    """
    shown = _by_policy(sound(found))
    subject = next((name for name in SUBJECTS if name in shown), None)
    others = [name for name in (*BASELINES, *shown) if name in shown and name not in SUBJECTS]
    if subject is None or not others:
        return None
    # A policy that was tried on several clusters says more than one that was tried once.
    other = max(others, key=lambda name: (len(shown[name]) > 1, -others.index(name)))
    wait = max(min(group.mean.wait_s.p99 for group in shown[name]) for name in (subject, other))
    first = [
        next(group for group in shown[name] if group.mean.wait_s.p99 <= wait) for name in (subject, other)
    ]
    return Equal(wait, *first)


def sound(found: Sequence[Group]) -> list[Group]:
    """Those that did all the work that any of them did, to its end."""
    least = min((run.arrived.never for group in found for run in group.runs), default=0)
    workloads = max((group.mean.arrived.workloads for group in found), default=0)
    # With fractions the same work asks for less.
    hours: dict[bool, float] = {}
    for group in found:
        asks = group.policy in FRACTIONAL
        hours[asks] = max(hours.get(asks, 0.0), group.mean.arrived.gpu_hours)
    return [
        group
        for group in found
        if all(run.finished and not run.stuck and run.arrived.never == least for run in group.runs)
        and group.mean.arrived.workloads == workloads
        and isclose(group.mean.arrived.gpu_hours, hours[group.policy in FRACTIONAL], rel_tol=1e-9)
    ]


def _by_policy(found: Sequence[Group]) -> dict[str, list[Group]]:
    """The clusters that each policy was tried on, the smallest first."""
    by_policy: dict[str, list[Group]] = {}
    for group in sorted(found, key=lambda group: group.mean.gpus):
        by_policy.setdefault(group.policy, []).append(group)
    return by_policy


def _draw(found: Sequence[Group], width: float) -> Canvas:
    wide = width > 500
    shown = _by_policy(found)
    right, foot = width - (130 if wide else 14), _TOP + _HEIGHT
    canvas = Canvas(width, foot + 44 + (0 if wide else legend_height(len(shown)) + 8))
    up = waits(max(group.mean.wait_s.p99 for group in found), foot, _TOP)
    sizes = [group.mean.gpus for group in found]
    across = numbers(max(sizes), _LEFT, right, about=6 if wide else 4)
    levels(canvas, up, _LEFT, right)
    posts(canvas, across, _TOP, foot)
    canvas.text("GPUs", (_LEFT + right) / 2, foot + 36, "m", "middle")
    palette = colors(found)
    named = [(policy, rows[-1]) for policy, rows in shown.items()]
    heights = apart([up.at(group.mean.wait_s.p99) for _, group in named], _CLOSE, _TOP + 6, foot)
    for (policy, last), height in zip(named, heights, strict=True):
        color = palette[policy]
        points = [(across.at(group.mean.gpus), up.at(group.mean.wait_s.p99)) for group in shown[policy]]
        canvas.path(stroke(found, policy), points)
        for group, (x, y) in zip(shown[policy], points, strict=True):
            tip = f"{policy}, {plural(group.mean.gpus, 'GPU')}: 99 % wait at most {duration(group.mean.wait_s.p99)}{lacks(group)}"
            canvas.dot(f"f{color}", x, y, 4.5, tip)
        if wide:
            canvas.text(
                policy,
                across.at(last.mean.gpus) + 10,
                height + 4,
                "b halo",
                room=width - across.at(last.mean.gpus) - 12,
            )
    if not wide:
        legend(canvas, [Label(policy, palette[policy], 0) for policy in shown], 6, foot + 58)
    return canvas
