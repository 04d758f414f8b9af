"""What the API server itself keeps: policies that hold whoever asks, to apply."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import yaml

NAMESPACE: Final = "gpumax-system"
"""Where the files say that we are installed; another one takes its place."""


def objects(name: str, namespace: str = NAMESPACE) -> Iterator[dict[str, Any]]:
    """The objects of one file, for an installation in this namespace."""
    text = (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    yield from yaml.safe_load_all(text.replace(NAMESPACE, namespace))
