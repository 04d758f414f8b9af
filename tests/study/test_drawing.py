"""What pictures are made of: scales, words, colours."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumax.study.report import scales
from gpumax.study.report.style import DARK, DASHES, LIGHT, Theme
from gpumax.study.report.use import coarse
from gpumax.study.report.words import count, duration, listed, percent

_ENDS = (10.0, 400.0)
_PLACES = st.lists(st.floats(0, 400), max_size=12)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_longer_waits_stand_no_lower(one: float, two: float) -> None:
    """On a scale whose marks all lie on it, in their order."""
    scale = scales.waits(max(one, two), 400.0, 10.0)
    low, high = sorted((one, two))
    assert scale.at(low) >= scale.at(high) >= 10.0 - 1e-9
    places = [scale.at(figure) for figure, _ in scale.marks]
    assert places == sorted(places, reverse=True)


@given(st.floats(0, 1), st.floats(0, 1))
def test_parts_stand_in_their_order(one: float, two: float) -> None:
    """From none to all."""
    scale = scales.parts(*_ENDS)
    low, high = sorted((one, two))
    assert scale.at(low) <= scale.at(high)
    assert (scale.at(0.0), scale.at(1.0)) == pytest.approx(_ENDS)


@given(st.floats(0.001, 1e7), st.integers(2, 8))
def test_marks_are_numbers_that_people_say(most: float, about: int) -> None:
    """A few, even, and the largest figure is on the scale."""
    scale = scales.numbers(most, *_ENDS, about=about)
    assert scale.high >= most * (1 - 1e-9)
    assert 2 <= len(scale.marks) <= about + 2
    assert scale.marks[-1][0] == pytest.approx(scale.high)


@given(st.floats(1, 1e8))
def test_time_ends_where_the_study_ends(seconds: float) -> None:
    """And its marks lie within."""
    scale = scales.days(seconds, *_ENDS)
    assert scale.at(seconds) == pytest.approx(_ENDS[1])
    assert all(figure <= seconds * (1 + 1e-9) for figure, _ in scale.marks)
    assert len(scale.marks) <= 13


@given(_PLACES)
def test_words_behind_lines_never_touch(wanted: list[float]) -> None:
    """They keep the order of the lines and stay on the picture, as near to their lines as that allows."""
    found = scales.apart(wanted, 18.0, 0.0, 400.0)
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    places = [found[number] for number in order]
    assert all(after - before >= 18.0 - 1e-6 for before, after in pairwise(places))
    assert all(-1e-6 <= place <= 400 + 1e-6 for place in places)


def test_words_that_have_room_stay_at_their_lines() -> None:
    """Nothing moves without need."""
    assert scales.apart([300.0, 20.0, 100.0], 18.0, 0.0, 400.0) == [300.0, 20.0, 100.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(1, 60))
def test_fewer_points_keep_the_mean(figures: list[float], most: int) -> None:
    """Within what the last, shorter piece weighs; never more points than asked for."""
    points = coarse(figures, most)
    assert len(points) <= most
    assert min(figures) - 1e-9 <= min(part for _, part in points)
    assert max(part for _, part in points) <= max(figures) + 1e-9
    if len(figures) <= most:
        assert [part for _, part in points] == figures


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.01, "0 s"), (0.5, "0.5 s"), (45, "45 s"), (59.99, "60 s"), (90, "1.5 min"), (600, "10 min"), (7_704, "2.1 h"),
        (90_000, "25 h"), (172_800, "2 days"), (1_108_800, "12.8 days"), (86_400_000, "1000 days"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    """One unit, two or three digits; hours up to two days."""
    assert duration(seconds).replace("\u00a0", " ") == words


@pytest.mark.parametrize(
    ("part", "words"),
    [(0, "0 %"), (0.00001, "< 0.01 %"), (0.0007, "0.07 %"), (0.65, "65.0 %"), (1.0, "100.0 %")],
)
def test_parts_are_said_in_percent(part: float, words: str) -> None:
    """Small ones with two digits."""
    assert percent(part).replace("\u00a0", " ") == words


def test_numbers_and_lists() -> None:
    """As in a sentence."""
    assert count(68_503.0) == "68,503"
    assert [listed(words) for words in ((), ("a",), ("a", "b"), ("a", "b", "c"))] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_all_can_be_read(theme: Theme) -> None:
    """The contrast of WCAG 2.2 AA: 4.5 for words, 3 for lines."""
    for ground in (theme.paper, theme.card):
        assert _contrast(theme.ink, ground) >= 4.5
        assert _contrast(theme.muted, ground) >= 4.5
    assert all(_contrast(color, theme.card) >= 3 for color in theme.lines)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_nobody_needs_colours(theme: Theme) -> None:
    """Every line has dashes of its own, and who sees no red or no green still sees any two differ."""
    assert len(set(DASHES)) == len(theme.lines)
    for matrix in (_NO_RED, _NO_GREEN):
        seen = [_seen(color, matrix) for color in theme.lines]
        for number, color in enumerate(seen):
            for other in seen[:number]:
                assert sum((one - two) ** 2 for one, two in zip(color, other, strict=True)) ** 0.5 > 0.05


# How a colour looks to who lacks one kind of cones, in linear light (Machado, Oliveira and Fernandes 2009, severity 1).
_NO_RED = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
_NO_GREEN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))


def _linear(color: str) -> list[float]:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def _contrast(one: str, two: str) -> float:
    lights = sorted(
        sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), _linear(color), strict=True))
        for color in (one, two)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _seen(color: str, matrix: tuple[tuple[float, ...], ...]) -> list[float]:
    """The colour as that person sees it, in Oklab, where equal distances look equally far apart."""
    light = [max(0.0, part) for part in _times(matrix, _linear(color))]
    cones = [part ** (1 / 3) for part in _times(_CONES, light)]
    return _times(_OKLAB, cones)


def _times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(weight * part for weight, part in zip(row, vector, strict=True)) for row in matrix]


_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
