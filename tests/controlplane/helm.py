"""Helm as a test uses it: our chart, rendered or installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from controlplane.build import HELM, built

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "gpumax"
Document = dict[str, Any]


class Helm:
    """One user's helm, with a home of its own. kubeconfig: the cluster; empty where none is needed."""

    def __init__(self, home: Path, kubeconfig: str = "") -> None:
        self._program = str(built(HELM) / "helm")
        homes = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        # Helm keeps what a cluster serves in the user's home.
        self._env = {**os.environ, **homes, "HOME": str(home), "KUBECONFIG": kubeconfig or os.devnull}

    def run(self, *words: str) -> str:
        """What it prints; it has to succeed."""
        done = self._run(words)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}"
        return done.stdout

    def refuses(self, *words: str) -> str:
        """What it complains of; it has to fail."""
        done = self._run(words)
        assert done.returncode != 0, f"helm {' '.join(words)} had nothing to say"
        return done.stderr

    def objects(self, *words: str, name: str = "gpumax", namespace: str = "gpumax-system") -> list[Document]:
        """The chart's objects, rendered with these options."""
        text = self.run("template", name, str(CHART), "--namespace", namespace, *words)
        return [one for one in yaml.safe_load_all(text) if one]

    def _run(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *words], env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )  # fmt: skip


def only(objects: list[Document], kind: str, name: str = "gpumax") -> Document:
    """The one object of a kind and a name."""
    (one,) = [row for row in objects if (row["kind"], row["metadata"]["name"]) == (kind, name)]
    return one
