"""Variables that say which part of a device a container has: one list for those who set them, who read them, and who refuse them in pods."""

from __future__ import annotations

import re
from pathlib import Path

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.guard import objects

ROOT = Path(__file__).resolve().parents[3]
FREE = {"GPUMAX_LOG", "GPUMAX_RANKS", "GPUMAX_SWAP_PINNED"}
"""Of the layer's settings those that change nobody's part: what it says, for whom it waits, what it pins where no broker gives any."""


def test_the_guard_refuses_all_of_them() -> None:
    rows = [
        row["expression"]
        for body in objects("decisions")
        if body["kind"] == "ValidatingAdmissionPolicy"
        for row in body["spec"]["validations"]
    ]
    [rule] = [expression for expression in rows if "row.name in" in expression]
    assert set(re.findall(r"'(\w+)'", rule)) == set(keys.PART_ENV)


def test_whatever_the_layer_reads_is_one_of_them_or_changes_no_part() -> None:
    """A setting that is added to the layer is thought about here."""
    sources = [
        path.read_text() for path in (ROOT / "interposer").glob("*/*.[ch]") if "emu" not in path.parent.name
    ]
    read = set(re.findall(r'"(GPUMAX_[A-Z_]+)"', "".join(sources)))
    assert read >= FREE | {"GPUMAX_LIMIT", "GPUMAX_SWAP"}
    assert read - set(keys.PART_ENV) == FREE


def test_whatever_the_agent_sets_is_one_of_them() -> None:
    said = (ROOT / "src/gpumax/apps/agent/container.py").read_text()
    assert set(re.findall(r'"((?:GPUMAX|NVIDIA)_[A-Z_]+)"', said)) <= set(keys.PART_ENV)
