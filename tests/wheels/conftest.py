"""The wheels that `make wheels` built, in the folder that DIST names."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

MACHINES = ("x86_64", "aarch64")


@pytest.fixture(scope="session")
def wheels() -> dict[str, Path]:
    """The wheel for each kind of machine."""
    folder = Path(os.environ.get("DIST", "dist"))
    found = {machine: sorted(folder.glob(f"gpumax-*_{machine}.whl")) for machine in MACHINES}
    if any(len(each) != 1 for each in found.values()):
        pytest.fail(
            f"{folder} should have one wheel for each of {', '.join(MACHINES)}: `make wheels` builds them"
        )
    return {machine: each[0] for machine, each in found.items()}


@pytest.fixture(scope="session")
def libraries(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of the native libraries of each wheel, unpacked."""
    folders = {}
    for machine, wheel in wheels.items():
        folder = tmp_path_factory.mktemp(machine)
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".so"):
                    archive.extract(name, folder)
        folders[machine] = folder / "gpumax/native"
    return folders
