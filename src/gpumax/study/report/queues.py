"""What each queue got, beside its quota and what it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gpumax.model.study import QueueRun, Run
from gpumax.study.report.groups import Group, pair
from gpumax.study.report.picture import Picture, colors
from gpumax.study.report.scales import Scale, numbers
from gpumax.study.report.svg import Canvas
from gpumax.study.report.words import count, duration
from gpumax.words import plural

MOST: Final = 12
"""Queues that are drawn; the table has all."""

ENOUGH: Final = 0.95
"""A queue that got so much of the smaller of quota and demand got what is its due; work on its way at the end of the window is not done."""

_ROW: Final = 24.0
_HEAD: Final = 30.0


def quota_and_use(found: Sequence[Group]) -> Picture | None:
    """None where there are no queues, or nobody knows over which time they were served."""
    subject, other = pair(found)
    shown = [group for group in (subject, other) if group and group.mean.queues and hours(group.mean) > 0]
    if not shown:
        return None
    order = sorted(shown[0].mean.queues, key=lambda queue: (-queue.demand, queue.name))
    names = [queue.name for queue in order[:MOST]]
    more = (
        f" The {count(len(order) - MOST)} smallest queues stand in the table alone."
        if len(order) > MOST
        else ""
    )
    return Picture(
        "queues",
        finding(shown),
        "GPUs that each queue used on average (bar) and at most (thin line), had asked for on average (outline), and has as its "
        "quota (upright stroke). Its due is the smaller of quota and demand." + more,
        " ".join(_described(group, names) for group in shown),
        lambda width: _draw(shown, found, names, width),
    )


def finding(found: Sequence[Group]) -> str:
    """How many queues went beyond their quota, and whether any got less than its due."""
    group = found[0]
    queues, whole = group.mean.queues, hours(group.mean)
    above = sum(_most(queue, whole) > queue.quota * 1.005 for queue in queues)
    below = [queue for queue in queues if queue.served < ENOUGH * min(queue.demand, queue.quota * whole)]
    less = f"{count(len(below)) if below else 'none'} {'gets' if len(below) < 2 else 'get'} less than {'its' if len(below) < 2 else 'their'} due"
    if not above:
        return f"Under {group.label} no queue goes beyond its quota, and {less}"
    beyond = "goes beyond its quota" if above == 1 else "go beyond their quota"
    return (
        f"Under {group.label} {count(above)} of {plural(len(queues), 'queue')} {beyond} at times, and {less}"
    )


def _most(queue: QueueRun, whole: float) -> float:
    """The most GPUs that a queue used in any step; on average, where nobody noted the steps."""
    return max((*queue.held, queue.served / whole))


def hours(run: Run) -> float:
    """The hours over which its queues were served; 0: unknown."""
    if run.window_s >= 1:
        return run.window_s / 3600
    # What all of them were served is what was requested and ran.
    capacity = run.use.requested * run.gpus
    return sum(queue.served for queue in run.queues) / capacity if capacity else 0.0


def _described(group: Group, names: Sequence[str]) -> str:
    whole = hours(group.mean)
    rows = [
        f"{queue.name}: quota {queue.quota:.0f}, asked for {queue.demand / whole:.0f}, used {queue.served / whole:.0f}."
        for queue in _rows(group, names)
    ]
    return f"{group.label}, in GPUs. {' '.join(rows)}"


def _rows(group: Group, names: Sequence[str]) -> list[QueueRun]:
    by_name = {queue.name: queue for queue in group.mean.queues}
    return [by_name[name] for name in names if name in by_name]


def _draw(shown: Sequence[Group], found: Sequence[Group], names: Sequence[str], width: float) -> Canvas:
    # Side by side on a screen, one below the other on a phone.
    columns = len(shown) if width > 500 else 1
    each = (width - 24 * (columns - 1)) / columns
    tall = _HEAD + _ROW * len(names) + 34
    canvas = Canvas(width, tall * (len(shown) // columns))
    most = max(
        max(queue.quota, queue.demand / hours(group.mean), _most(queue, hours(group.mean)), 1)
        for group in shown
        for queue in _rows(group, names)
    )
    palette = colors(found)
    for number, group in enumerate(shown):
        left, top = (each + 24) * (number % columns), tall * (number // columns)
        across = numbers(most, left + 96, left + each - 76, about=4)
        _panel(canvas, group, _rows(group, names), palette[group.policy], left, top, across)
    return canvas


def _panel(
    canvas: Canvas, group: Group, rows: Sequence[QueueRun], color: int, left: float, top: float, across: Scale
) -> None:
    whole = hours(group.mean)
    foot = top + _HEAD + _ROW * len(rows)
    canvas.text(group.label, left, top + 14, "b", room=across.end + 76 - left - 110)
    canvas.text("99 % wait at most", across.end + 76, top + 14, "m", "end")
    for figure, words in across.marks:
        canvas.line("g", across.at(figure), top + _HEAD - 4, across.at(figure), foot)
        canvas.text(words, across.at(figure), foot + 16, "m", "middle")
    for number, queue in enumerate(rows):
        y = top + _HEAD + _ROW * number
        asked, used = queue.demand / whole, queue.served / whole
        tip = f"{queue.name}: quota {queue.quota:.0f}, asked for {asked:.1f}, used {used:.1f}, at most {_most(queue, whole):.1f} GPUs"
        canvas.text(queue.name, left + 88, y + 14, "", "end", room=86)
        canvas.box("h", across.start, y + 3, across.at(asked) - across.start, 13, tip)
        canvas.box(f"f{color}", across.start, y + 6, across.at(used) - across.start, 7, tip)
        most = across.at(_most(queue, whole))
        canvas.line(f"l{color}", across.at(used), y + 9.5, most, y + 9.5)
        canvas.line(f"l{color}", most, y + 6, most, y + 13)
        canvas.line("q", across.at(queue.quota), y, across.at(queue.quota), y + 19)
        canvas.text(duration(queue.wait_p99_s), across.end + 76, y + 14, "", "end")
