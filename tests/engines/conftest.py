"""A machine for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_kit import Machine, machine_on


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A local engine on a fresh directory, left clean."""
    with machine_on(tmp_path / "data") as machine:
        yield machine
