"""How full a cluster gets while work arrives and nobody leaves."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Final

from gpumax.study.report.groups import SUBJECTS, Group
from gpumax.study.report.picture import (
    Label,
    Picture,
    colors,
    ends,
    legend,
    legend_height,
    levels,
    posts,
    stroke,
)
from gpumax.study.report.scales import Scale, numbers, shares
from gpumax.study.report.svg import Canvas, Point
from gpumax.study.report.words import count
from gpumax.words import plural

_LEFT: Final = 56.0
_HEIGHT: Final = 300.0
_TOP: Final = 14.0
_SHOWN: Final = 40
"""Percent of arrivals before the last that are drawn: before, everybody finds room."""


def allocation(found: Sequence[Group]) -> Picture | None:
    """None where nothing was inflated."""
    shown = [group for group in found if group.mean.allocation]
    if not shown:
        return None
    lines = [f"{group.label}: {_exact(_last(group))}." for group in shown]
    seeds = max(len(group.runs) for group in shown)
    means = (
        f" Lines are means of {count(seeds)} seeds, bands reach from the lowest to the highest."
        if seeds > 1
        else ""
    )
    return Picture(
        "allocation",
        left_empty(found),
        "The part of all GPUs that is allocated, by how much work has arrived: higher is better." + means,
        f"Allocated when {count(_percents(shown[0])[-1])} % of the GPUs have been asked for. "
        + " ".join(lines),
        lambda width: _draw(shown, found, width),
    )


def finding(found: Sequence[Group]) -> str:
    """Of whom the report is about, and of the best of the others."""
    shown = sorted((group for group in found if group.mean.allocation), key=_last, reverse=True)
    subject = next((group for group in shown if group.policy in SUBJECTS), shown[0])
    others = [group for group in shown if group is not subject]
    words = f"{subject.label} fills {_exact(_last(subject))} of {plural(subject.mean.gpus, 'GPU')}"
    return f"{words}; the best other rule, {others[0].label}, {_exact(_last(others[0]))}" if others else words


def left_empty(found: Sequence[Group]) -> str:
    """The same in GPUs that nobody could use."""
    shown = sorted((group for group in found if group.mean.allocation), key=_last, reverse=True)
    subject = next((group for group in shown if group.policy in SUBJECTS), shown[0])
    others = [group for group in shown if group is not subject]
    words = f"In the end the room of {_empty(subject)} GPUs is left under {subject.label}"
    return f"{words}, of {_empty(others[0])} under {others[0].label}" if others else words


def _empty(group: Group) -> str:
    return count((1 - _last(group)) * group.mean.gpus)


def _percents(group: Group) -> list[int]:
    return sorted(int(key) for key in group.mean.allocation)


def _last(group: Group) -> float:
    return group.mean.allocation[str(_percents(group)[-1])]


def _exact(part: float) -> str:
    """Two digits behind the point: rules differ by tenths of a percent."""
    return f"{part * 100:.2f}\u00a0%"


def _band(group: Group, keys: Sequence[int], across: Scale, up: Scale) -> list[Point]:
    """Around all seeds: along the lowest, and back along the highest."""
    found = {
        key: [run.allocation[str(key)] for run in group.runs if str(key) in run.allocation] for key in keys
    }
    low = [(across.at(key), up.at(min(parts))) for key, parts in found.items()]
    high = [(across.at(key), up.at(max(parts))) for key, parts in found.items()]
    return [*low, *reversed(high)]


def _draw(shown: Sequence[Group], found: Sequence[Group], width: float) -> Canvas:
    wide = width > 500
    right, foot = width - (210 if wide else 12), _TOP + _HEIGHT
    canvas = Canvas(width, foot + 44 + (0 if wide else legend_height(len(shown)) + 8))
    last = max(_percents(group)[-1] for group in shown)
    first = max(min(_percents(group)[0] for group in shown), last - _SHOWN)
    inside = [part for group in shown for key, part in group.mean.allocation.items() if int(key) >= first]
    up = shares(foot, _TOP, floor(min(inside) * 50) / 50, min(1.0, max(inside) + 0.005))
    across = numbers(last, _LEFT, right, least=first, about=5 if wide else 4)
    levels(canvas, up, _LEFT, right)
    posts(canvas, across, _TOP, foot)
    canvas.text("% of the GPUs have been asked for", (_LEFT + right) / 2, foot + 36, "m", "middle")
    palette, labels = colors(found), []
    for group in reversed(shown):
        color, keys = palette[group.policy], [key for key in _percents(group) if key >= first]
        if len(group.runs) > 1:
            canvas.ring(f"w{color}", _band(group, keys, across, up))
        canvas.path(
            stroke(found, group.policy),
            [(across.at(key), up.at(group.mean.allocation[str(key)])) for key in keys],
        )
        labels.append(Label(group.label, color, up.at(_last(group)), _exact(_last(group))))
    if wide:
        ends(canvas, labels, right, _TOP + 6, foot)
    else:
        legend(canvas, sorted(labels, key=lambda label: label.y), 6, foot + 58)
    return canvas
