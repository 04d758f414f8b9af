"""The pictures of a report as files, for papers: SVG, and PNG where a rasteriser is installed."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.model.study import Result
from gpumax.study.report.groups import groups
from gpumax.study.report.picture import WIDE
from gpumax.study.report.pictures import pictures
from gpumax.study.report.style import LIGHT


def plots(result: Result) -> Iterator[tuple[str, str]]:
    """Name and SVG text of each picture, on white."""
    for picture in pictures(groups(result)):
        yield picture.name, picture.draw(WIDE).alone(picture.finding, picture.about, LIGHT)
