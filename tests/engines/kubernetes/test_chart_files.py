"""What the Helm chart has of the program's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OURS = ROOT / "src" / "gpumax" / "engines" / "kubernetes"
CHART = ROOT / "charts" / "gpumax" / "files"


@pytest.mark.parametrize("folder", ["crds", "guard"])
def test_the_chart_has_the_programs_own_objects(folder: str) -> None:
    """Byte for byte; `make chart` copies them."""
    ours, theirs = (
        {path.name: path.read_text() for path in (place / folder).glob("*.yaml")} for place in (OURS, CHART)
    )
    assert ours == theirs
