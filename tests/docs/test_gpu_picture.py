"""The picture that the GPU demo draws says what was where."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from gpu_picture import GIB, Sample, Story, lines, svg

NEEDS = 10 * GIB
SAMPLES = [
    Sample(
        at / 10, (NEEDS, 0) if at < 50 else (4 * GIB, 6 * GIB) if at < 60 else (0, NEEDS), (at < 20, at >= 80)
    )
    for at in range(101)
]
STORY = Story(("a", "bb"), NEEDS, SAMPLES, ([0.2], [5.0, 5.1]))


def test_a_row_shows_work_rest_moves_and_absence_and_when_requests_came() -> None:
    first, came, second, came_there, scale = lines(STORY, 24)
    assert first == " a  " + "█" * 4 + "▒" * 6 + "▚" * 2 + "·" * 8
    assert second == "bb  " + "·" * 10 + "▚" * 2 + "▒" * 4 + "█" * 4
    assert came == "    ▴"
    assert came_there == " " * 14 + "▴"
    assert scale.split() == ["0", "s", "5", "s", "10", "s"]


def test_a_story_of_nothing_is_no_picture() -> None:
    assert lines(Story(("a",), NEEDS, [], ([],)), 80) == []


def test_the_file_is_svg_and_stays_below_the_line_of_what_the_gpu_has() -> None:
    root = ElementTree.fromstring(svg(STORY, 16 * GIB, 'a & "b"'))
    names = [each.text for each in root.iter() if each.tag.endswith("title")]
    assert names == ['a & "b"']
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert {"a", "bb", "what the GPU has: 16 GiB", "10 s", "15 GiB"} <= set(texts)
