"""The native libraries that tests run on: the usual ones, or some that a compiler's checks watch, with which tests/native runs some tests again."""

from __future__ import annotations

import os
from pathlib import Path

from gpumax import native

FOLDER, *FIRST = os.environ.get("CHECKED", "").split(":")
"""Where checked libraries lie, and what has to be preloaded before anything else; empty: the usual ones."""


def library(name: native.Name) -> Path:
    return Path(FOLDER) / f"libgpumax-{name}.so" if FOLDER else native.library(name)


def preloaded(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a program that loads such a library."""
    after = environment.get("LD_PRELOAD", "").replace(":", " ").split()
    return environment | ({"LD_PRELOAD": ":".join([*FIRST, *after])} if FIRST else {})
