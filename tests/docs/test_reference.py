"""docs/reference says what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = _generator().pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_up_to_date(name: str) -> None:
    """`make docs` writes it anew."""
    path = DOCS / "reference" / name
    assert path.exists(), f"{name} is missing; run `make docs`"
    assert path.read_text(encoding="utf-8") == PAGES[name], f"{name} is out of date; run `make docs`"


def test_no_page_is_left_over() -> None:
    """Every page of the reference is written from the code."""
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(PAGES)


def test_the_reference_says_nothing_of_the_machine_that_wrote_it() -> None:
    """The same bytes everywhere."""
    for text in PAGES.values():
        assert str(Path.home()) not in text.replace("/root", "") or Path.home() == Path("/")
        assert str(DOCS.parent) not in text
