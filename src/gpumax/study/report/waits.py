"""How long work waits: what part of it has started after so long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gpumax.study.report.groups import Group, pair
from gpumax.study.report.lacking import unlike
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
from gpumax.study.report.scales import parts, waits
from gpumax.study.report.svg import Canvas
from gpumax.study.report.words import duration

_LEFT: Final = 78.0
_HEIGHT: Final = 300.0
_TOP: Final = 14.0


def wait_spread(found: Sequence[Group]) -> Picture | None:
    """None where no run has waits."""
    shown = [group for group in found if len(group.mean.waits_s) > 1]
    if not shown:
        return None
    lines = [
        f"{group.label}: half of the workloads wait at most {duration(group.mean.wait_s.p50)}, 99 % at most {duration(group.mean.wait_s.p99)}, "
        f"all at most {duration(group.mean.wait_s.max)}."
        for group in shown
    ]
    return Picture(
        "waits",
        finding(found),
        "How long work was without room, after evictions, too: lower is better. Each level is about ten times as long as the one "
        "below, and the last percent has as much room as the first ninety.",
        "One line a policy: the longest wait of so large a part of the workloads. " + " ".join(lines),
        lambda width: _draw(shown, found, width),
    )


def finding(found: Sequence[Group]) -> str:
    """The mean waits of whom the report is about, and of whom it is compared with."""
    subject, other = pair(found)
    assert subject is not None
    mine = duration(subject.mean.wait_s.mean)
    words = f"On average work waits {mine} under {subject.label}"
    if other is None:
        return words
    theirs = duration(other.mean.wait_s.mean)
    less = " (not of the same work)" if unlike(subject, other) else ""
    return (
        f"{words} {'and' if mine == theirs else f'and {theirs}'} under {other.label}".replace(
            "and under", "and just as long under"
        )
        + less
    )


def _draw(shown: Sequence[Group], found: Sequence[Group], width: float) -> Canvas:
    wide = width > 500
    right = width - (240 if wide else 10)
    foot = _TOP + _HEIGHT
    canvas = Canvas(width, foot + 44 + (0 if wide else legend_height(len(shown)) + 30))
    up = waits(max(group.mean.waits_s[-1] for group in shown), foot, _TOP)
    across = parts(_LEFT, right)
    levels(canvas, up, _LEFT, right)
    posts(canvas, across, _TOP, foot)
    canvas.text("of the workloads wait no longer", (_LEFT + right) / 2, foot + 36, "m", "middle")
    palette = colors(found)
    labels = []
    for group in reversed(shown):
        quantiles = group.mean.waits_s
        last = len(quantiles) - 1
        canvas.path(
            stroke(found, group.policy),
            [(across.at(number / last), up.at(wait)) for number, wait in enumerate(quantiles)],
        )
        p99 = group.mean.wait_s.p99
        canvas.dot(
            f"f{palette[group.policy]}",
            across.at(0.99),
            up.at(p99),
            4,
            f"{group.label}: 99 % wait at most {duration(p99)}",
        )
        labels.append(Label(group.label, palette[group.policy], up.at(quantiles[-1]), duration(p99)))
    if wide:
        canvas.text("99 % wait at most", width - 2, _TOP + 2, "m", "end")
        ends(canvas, labels, right, _TOP + 16, foot)
    else:
        canvas.text("99 % wait at most", width - 10, foot + 62, "m", "end")
        by_wait = sorted(shown, key=lambda group: group.mean.wait_s.p99)
        rows = [
            Label(group.label, palette[group.policy], 0, duration(group.mean.wait_s.p99)) for group in by_wait
        ]
        legend(canvas, rows, _LEFT - 72, foot + 80)
    return canvas
