"""What the API server itself keeps for us, whoever asks it: objects to apply."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import yaml

from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import Named

NAMESPACE: Final = "gpumax-system"
"""Where the files say that we are installed; another one takes its place."""


def objects(name: str, namespace: str = NAMESPACE) -> Iterator[dict[str, Any]]:
    """The objects of one file, for an installation in this namespace."""
    text = (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    yield from yaml.safe_load_all(text.replace(NAMESPACE, namespace))


def kind_of(body: dict[str, Any]) -> Kind[Named]:
    """The kind of one of these objects."""
    group, _, version = body["apiVersion"].rpartition("/")
    name = body["kind"]
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
    return Kind(group, version, plural.lower(), name, Named, namespaced="namespace" in body["metadata"])
