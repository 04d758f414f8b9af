"""docs/explanation/gpu-limits.md: what it calls enforced has a check in the conformance, and no check is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpumax.proof.checks import CHECKS
from gpumax.proof.probe import load

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/gpu-limits.md"
TESTED_ELSEWHERE = {
    "a namespace of the loader of its own (`dlmopen`)": "tests/interposer/test_layer_ways.py",
    "pools of another process, memory bound to multicast objects": "tests/interposer/test_layer_corners.py",
    "contexts": "tests/interposer/test_layer_contexts.py",
    "another user at the broker's socket; garbled or too many messages": "tests/broker/test_node.py",
}
"""Enforced, but nothing that a driver could show: where it's tested."""


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(autouse=True)
def _checks() -> None:
    load()


def test_every_line_has_a_verdict_and_a_reason() -> None:
    assert len(rows()) > 30
    for what, verdict, why, checks in rows():
        assert verdict in {"enforced", "detected", "neither"}, what
        assert why, what
        assert named(checks) or checks == "none", what


def test_whatever_is_enforced_names_its_check() -> None:
    for what, verdict, _, checks in rows():
        if verdict == "enforced" and what not in TESTED_ELSEWHERE:
            assert named(checks), what
        assert set(named(checks)) <= CHECKS.keys(), what


def test_what_no_driver_can_show_is_tested_elsewhere() -> None:
    assert TESTED_ELSEWHERE.keys() <= {row[0] for row in rows() if row[1] == "enforced"}
    for file in TESTED_ELSEWHERE.values():
        assert (ROOT / file).exists(), file


def test_every_check_of_a_promise_has_its_line() -> None:
    """But for figures, which promise nothing, and for what is looked at in a driver and in PyTorch."""
    told = {name for row in rows() for name in named(row[3])}
    promised = {
        each.name for each in CHECKS.values() if each.promise and each.section not in ("costs", "pytorch")
    }
    assert promised - told == {"speed"}
