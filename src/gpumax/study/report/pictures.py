"""The pictures of a study, in the order in which they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gpumax.study.report.evictions import evictions
from gpumax.study.report.groups import Group, focus
from gpumax.study.report.inflation import allocation
from gpumax.study.report.picture import Picture
from gpumax.study.report.queues import quota_and_use
from gpumax.study.report.sizes import gpus_needed
from gpumax.study.report.use import use_over_time
from gpumax.study.report.waits import wait_spread
from gpumax.words import plural

PICTURES: Final[tuple[Callable[[Sequence[Group]], Picture | None], ...]] = (
    wait_spread,
    use_over_time,
    quota_and_use,
    evictions,
    allocation,
)
"""Each gives None where a study has nothing for it."""


def pictures(found: Sequence[Group]) -> list[Picture]:
    """Those that this study has something for."""
    close = focus(found)
    drawn = [picture for draw in PICTURES if close and (picture := draw(close)) is not None]
    sized = gpus_needed(found)
    if sized is None:
        return drawn
    sizes = {group.mean.gpus for group in close}
    if len(sizes) == 1:
        which = f"On {plural(sizes.pop(), 'GPU')}, the smallest cluster that both were played on. "
        drawn = [picture._replace(lead=which + picture.lead) for picture in drawn]
    return [sized, *drawn]
