"""docs/explanation/promises.md names tests that exist, for every promise, and the passes have their boards."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "promises.md"
BOARDS = 120
_ROW = re.compile(r"^\| (.*) \| (.*) \|$", re.MULTILINE)


def _promises() -> str:
    """The page up to where it tells of faults."""
    return PAGE.read_text(encoding="utf-8").partition("## Faults")[0]


def rows() -> list[tuple[str, str]]:
    """What is promised, and what stands beside it; without the heads of the tables."""
    found = _ROW.findall(_promises())
    return [row for row in found if row != ("promise", "tests") and not set(row[0]) <= {"-", "|"}]


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The functions of a file of tests, without running it."""
    path = TESTS / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return {row.name: row for row in tree.body if isinstance(row, ast.FunctionDef)}


def test_the_page_is_read() -> None:
    """Every line of a table is a row: none is lost to its shape."""
    lines = [line for line in _promises().splitlines() if line.startswith("|")]
    assert len(rows()) == sum(line not in ("| promise | tests |", "|---|---|") for line in lines) > 100


@pytest.mark.parametrize(("promise", "tests"), rows(), ids=range(len(rows())))
def test_a_promise_has_tests_that_exist(promise: str, tests: str) -> None:
    """By file and name."""
    named = re.fullmatch(r"(?:`[\w/]+\.py::test_\w+` ?)+", tests)
    assert named is not None, f"{promise}: {tests}"
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", tests):
        assert name in functions(file), f"{promise}: {file} has no {name}"


def test_a_promise_stands_once() -> None:
    """Whoever changes it changes one row."""
    promises = [promise for promise, _ in rows()]
    assert sorted(set(promises)) == sorted(promises)


def test_the_policy_is_drawn_on_many_boards() -> None:
    """Tests that show a cluster before and after, or what is said of it; not those on drawn clusters."""
    files = [path.relative_to(TESTS).as_posix() for path in sorted((TESTS / "policy").glob("test_*.py"))]
    drawn = [
        name
        for file in files
        for name, row in functions(file).items()
        if name.startswith("test_") and _draws(row)
    ]
    assert len(drawn) >= BOARDS


def _draws(test: ast.FunctionDef) -> bool:
    called = {
        node.func.id
        for node in ast.walk(test)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return "check" in called
