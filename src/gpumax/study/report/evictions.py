"""How often work had to make way, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gpumax.model.study import Moved, Run
from gpumax.study.report.groups import Group, pair
from gpumax.study.report.picture import Picture
from gpumax.study.report.svg import Canvas
from gpumax.study.report.words import count, percent
from gpumax.words import plural

_CAUSES: Final = Moved.__struct_fields__
_ROW: Final = 42.0
_LINE: Final = 16.0
# Colours that stand for no policy here: each piece has its words, too.
_HUES: Final = {"reclaim": 0, "preempt": 5, "consolidate": 2, "stale": 3, "failure": 4}


def evictions(found: Sequence[Group]) -> Picture | None:
    """None where nobody had to go."""
    shown = [group for group in found if total(group.mean) + group.mean.evictions.failure]
    if not shown:
        return None
    return Picture(
        "evictions",
        finding(found, shown),
        "Tasks that were evicted, by cause, or taken along by a node that failed, and the part of all GPU time that went into work done before and into restarts.",
        " ".join(f"{group.label}: {_words(group.mean)}." for group in shown),
        lambda width: _draw(shown, width),
    )


def finding(found: Sequence[Group], shown: Sequence[Group]) -> str:
    """Of whom the report is about, or of whoever evicts most."""
    subject, _ = pair(found)
    group = subject if subject in shown else max(shown, key=lambda group: total(group.mean))
    assert group is not None
    run = group.mean
    each = f" ({total(run) / run.arrived.workloads:.2f} a workload)" if run.arrived.workloads else ""
    failed = run.evictions.failure
    taken = f"; failing nodes take {plural(failed, 'task')}" if failed else ""
    return f"{group.label} evicts {plural(total(run), 'task')}{each}{taken}; {percent(run.lost)} of the GPU time is lost"


def total(run: Run) -> int:
    """Tasks that the policy evicted; those that a failing node took along are no doing of its."""
    return sum(getattr(run.evictions, cause) for cause in _CAUSES if cause != "failure")


def _words(run: Run) -> str:
    causes = [f"{count(number)} {cause}" for cause in _CAUSES if (number := getattr(run.evictions, cause))]
    return f"{', '.join(causes)}; {percent(run.lost)} lost"


def _draw(shown: Sequence[Group], width: float) -> Canvas:
    # Two causes a line where there is no room for more.
    each = len(_CAUSES) if width > 500 else 2
    lines = [_lines(group.mean, each) for group in shown]
    canvas = Canvas(width, sum(_ROW + _LINE * len(rows) for rows in lines) + 2)
    most = max(total(group.mean) + group.mean.evictions.failure for group in shown)
    y = 0.0
    for group, rows in zip(shown, lines, strict=True):
        canvas.text(group.label, 0, y + 14, "b", room=width - 110)
        canvas.text(f"{percent(group.mean.lost)} lost", width, y + 14, "", "end")
        x = 0.0
        for cause in _CAUSES:
            tasks = getattr(group.mean.evictions, cause)
            size = tasks / most * width
            if tasks:
                canvas.box(f"f{_HUES[cause]}", x, y + 21, max(size - 1, 1), 8, f"{cause}: {count(tasks)}")
            x += size
        for number, row in enumerate(rows):
            canvas.text(row, 0, y + 43 + _LINE * number, "m", room=width)
        y += _ROW + _LINE * len(rows)
    return canvas


def _lines(run: Run, each: int) -> list[str]:
    """The causes with their counts, so many a line."""
    causes = [f"{count(tasks)} {cause}" for cause in _CAUSES if (tasks := getattr(run.evictions, cause))]
    return [" · ".join(causes[start : start + each]) for start in range(0, len(causes), each)]
