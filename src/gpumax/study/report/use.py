"""How much of the cluster is at work over time, a strip a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gpumax.study.report.groups import Group, pair
from gpumax.study.report.picture import Picture, colors, posts, sample
from gpumax.study.report.scales import days, shares
from gpumax.study.report.svg import Canvas
from gpumax.study.report.words import count, percent
from gpumax.words import plural

_STRIP: Final = 60.0
_HEAD: Final = 34.0
_LEFT: Final = 44.0


def use_over_time(found: Sequence[Group]) -> Picture | None:
    """None where no run has a series."""
    shown = [group for group in found if group.mean.series and group.mean.series.requested]
    if not shown:
        return None
    lines = [f"{group.label}: {percent(group.mean.use.requested)}." for group in shown]
    return Picture(
        "use",
        finding(found),
        "GPUs at work over time, as a part of all: what was asked for and ran"
        + (", work that was done again included. " if any(group.mean.lost for group in shown) else ". ")
        + ("The thin line is all GPUs of which anything was held. " if any(map(_apart, shown)) else "")
        + "The figure behind each name is the mean over the window of the study"
        + (
            ", which ends at the upright line."
            if any(_ends_early(group, _longest(shown)) for group in shown)
            else "."
        ),
        "One strip a policy, with GPUs at work over time. Means: " + " ".join(lines),
        lambda width: _draw(shown, found, width),
    )


def finding(found: Sequence[Group]) -> str:
    """Of whom the report is about, and of whom it is compared with."""
    subject, other = pair(found)
    assert subject is not None
    words = f"{subject.policy} keeps {percent(subject.mean.use.requested)} of {plural(subject.mean.gpus, 'GPU')} at work"
    if other is None:
        return words
    of = "" if other.mean.gpus == subject.mean.gpus else f" of {count(other.mean.gpus)}"
    return f"{words}, {other.policy} {percent(other.mean.use.requested)}{of}"


def _longest(shown: Sequence[Group]) -> float:
    """Seconds of the longest series."""
    series = [group.mean.series for group in shown if group.mean.series]
    return max(len(each.requested) * each.step_s for each in series)


def _ends_early(group: Group, longest: float) -> bool:
    """Whether work went on after the window."""
    return 0 < group.mean.window_s < longest * 0.995


def _apart(group: Group) -> bool:
    """Whether what is held is clearly more than what was asked for."""
    return group.mean.use.allocated > group.mean.use.requested + 0.01


def _draw(shown: Sequence[Group], found: Sequence[Group], width: float) -> Canvas:
    height = (_STRIP + _HEAD) * len(shown) + 30
    canvas = Canvas(width, height)
    palette = colors(found)
    longest = _longest(shown)
    across = days(longest, _LEFT, width - 8, 6 if width > 500 else 4)
    for number, group in enumerate(shown):
        top = (_STRIP + _HEAD) * number + _HEAD
        _strip(canvas, group, palette[group.policy], top, width, longest)
    posts(canvas, across, 0, height - 26, lines=False)
    return canvas


def _strip(canvas: Canvas, group: Group, color: int, top: float, width: float, longest: float) -> None:
    foot, run = top + _STRIP, group.mean
    up, across = shares(foot, top), days(longest, _LEFT, width - 8)
    sample(canvas, color, _LEFT, top - 14)
    canvas.text(
        group.label, _LEFT + 29, top - 10, "b", room=width - _LEFT - 29 - (110 if width > 500 else 66)
    )
    # On a phone there is no room for words that stand in the title, too.
    words = " at work" if width > 500 else ""
    canvas.text(percent(run.use.requested) + words, width - 8, top - 10, "b", "end")
    for part, words in ((0.0, "0"), (0.5, "50 %"), (1.0, "100 %")):
        canvas.line("g", _LEFT, up.at(part), width - 8, up.at(part))
        canvas.text(words, _LEFT - 6, up.at(part) + 4, "m", "end")
    series = run.series
    assert series is not None
    most = int((width - _LEFT) / 1.5)
    curve = [(across.at(at * series.step_s), up.at(part)) for at, part in coarse(series.requested, most)]
    canvas.area(f"w{color}", curve, foot)
    if _apart(group):
        canvas.path(
            "a", [(across.at(at * series.step_s), up.at(part)) for at, part in coarse(series.allocated, most)]
        )
    canvas.path(f"l{color}", curve)
    if _ends_early(group, longest):
        x = across.at(run.window_s)
        canvas.line("a", x, top, x, foot)


def coarse(figures: Sequence[float], most: int) -> list[tuple[float, float]]:
    """At most so many points (place in the middle of its steps, mean): no picture shows more than it has points."""
    size = -(-len(figures) // max(most, 1)) or 1
    return [
        (start + len(part) / 2, sum(part) / len(part))
        for start in range(0, len(figures), size)
        if (part := figures[start : start + size])
    ]
