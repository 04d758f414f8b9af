"""The report in a real browser: as it is seen on a screen, on a phone, at night and on paper."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from browser import NAMES, Browser, browser, pages
from gpumax.study.report import page
from gpumax.study.report.style import DARK, LIGHT
from study.results import ALONE, EMPTY, HOSTILE, INFLATED, REPLAYED, SIZES

RESULTS = {
    "replayed": REPLAYED,
    "sizes": SIZES,
    "inflated": INFLATED,
    "hostile": HOSTILE,
    "empty": EMPTY,
    "alone": ALONE,
}
DRAWN = {name: result for name, result in RESULTS.items() if result.runs}
WIDTHS = (320, 390, 700, 1280)
Scheme = Literal["light", "dark"]

# Words of the pictures that are shown: what of them lies outside of its picture, and which lie on each other.
_LOOK = """(() => {
  const cut = [], over = [];
  for (const svg of document.querySelectorAll('svg')) {
    if (getComputedStyle(svg).display === 'none') continue;
    const whole = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].map(text => [text.firstChild.data, text.getBoundingClientRect()]);
    for (const [name, box] of words)
      if (box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 || box.bottom > whole.bottom + 1)
        cut.push(name);
    for (let one = 0; one < words.length; one++)
      for (let two = 0; two < one; two++) {
        const a = words[one][1], b = words[two][1];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && tall > 4) over.push(words[one][0] + ' / ' + words[two][0]);
      }
  }
  return {cut, over};
})()"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all of it."""
    if browser() is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser: none of {', '.join(NAMES)} is installed")
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with pages() as found:
        yield found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The reports, as they lie on a disk."""
    found = {name: tmp_path / f"{name}.html" for name in RESULTS}
    for name, path in found.items():
        path.write_text(page(RESULTS[name]), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", RESULTS)
def test_a_browser_has_nothing_to_complain_of(
    chromium: Browser, files: dict[str, Path], name: str, width: int, scheme: Scheme
) -> None:
    """No error, no request to anywhere, and nobody has to scroll sideways."""
    shown = chromium.open(files[name], width, scheme=scheme)
    assert shown.complaints() == []
    assert shown.requests() == [files[name].as_uri()]
    assert shown.look("document.documentElement.scrollWidth") <= width
    ground = shown.look("getComputedStyle(document.body).backgroundColor")
    assert ground == _rgb((LIGHT if scheme == "light" else DARK).paper)
    shown.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", DRAWN)
def test_words_in_pictures_are_whole(
    chromium: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    """None is cut off at the edge, none stands on another, and none is smaller than 10 points."""
    shown = chromium.open(files[name], width)
    assert shown.look(_LOOK) == {"cut": [], "over": []}
    smallest = shown.look(
        "Math.min(...[...document.querySelectorAll('svg')].filter(svg => getComputedStyle(svg).display !== 'none')"
        ".map(svg => 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"
    )
    assert smallest >= 10
    shown.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["replayed", "inflated"])
def test_names_of_policies_are_never_cut(
    chromium: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    """On a screen of any width; those that gpumax knows."""
    shown = chromium.open(files[name], width)
    visible = "[...document.querySelectorAll('svg text')].filter(text => text.checkVisibility())"
    assert not shown.look(f"{visible}.some(text => text.textContent.includes('…'))")
    shown.close()


def test_a_script_in_a_name_does_not_run(chromium: Browser, files: dict[str, Path]) -> None:
    """Nor is anything of it an element."""
    shown = chromium.open(files["hostile"], 1280)
    assert shown.look("document.querySelectorAll('script, img').length") == 0
    shown.close()


@pytest.mark.parametrize("name", DRAWN)
def test_it_prints(chromium: Browser, files: dict[str, Path], name: str) -> None:
    """Dark on white even at night, with the wide pictures and with all that is a click away, as PDF of some pages."""
    shown = chromium.open(files[name], 1280, scheme="dark")
    pdf = shown.paper()
    assert pdf.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40
    shown.call("Emulation.setEmulatedMedia", media="print")
    shown.call("Emulation.setDeviceMetricsOverride", width=680, height=960, deviceScaleFactor=1, mobile=False)
    assert shown.look("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.look("getComputedStyle(document.body).color") == _rgb(LIGHT.ink)
    assert shown.look(
        "[...document.querySelectorAll('svg.narrow')].every(svg => getComputedStyle(svg).display === 'none')"
    )
    assert shown.look("[...document.querySelectorAll('details td')].every(cell => cell.checkVisibility())")
    assert shown.look("document.documentElement.scrollWidth") <= 680
    assert shown.look(_LOOK) == {"cut": [], "over": []}
    shown.close()


def _rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[place : place + 2], 16)) for place in (1, 3, 5))})"
