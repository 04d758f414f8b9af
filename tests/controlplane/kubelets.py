"""Kubelets as kwok plays them: nodes become ready, and pods bound to them run, though nothing does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from controlplane.build import KWOK, built
from controlplane.processes import HOST, Program

STAGES: Final = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
)
COMPLETE: Final = "pod/fast/pod-complete.yaml"
DELETE: Final = "pod/fast/pod-delete.yaml"
STAYS: Final = "stays"
"""A label: pods of Jobs that have it run until they are told to go, like all others."""


def kubelets(
    kubeconfig: Path,
    port: int,
    folder: Path,
    *flags: str,
    jobs_end: bool,
    more: Iterable[dict[str, Any]] = (),
) -> Program:
    """The program. port: of its own server; jobs_end: pods of Jobs are done at once; more: objects of kwok's configuration."""
    home = built(KWOK)
    leave = Path(__file__).with_name("leave.yaml")
    stages = [home / "stage" / name for name in STAGES] + ([] if jobs_end else [leave])
    written = folder / "kwok.yaml"
    written.write_text(yaml.safe_dump_all([*(_ends(home / "stage", leave) if jobs_end else ()), *more]))
    words = [word for path in (written, *stages) for word in ("--config", str(path))]
    server = f"{HOST}:{port}"
    argv = [str(home / "kwok"), "--kubeconfig", str(kubeconfig), "--server-address", server, *flags, *words]
    return Program(argv, folder / "kwok.log")


def _ends(home: Path, leave: Path) -> Iterator[dict[str, Any]]:
    """Pods of Jobs end at once, and all go at once when they are told to; those that stay go as under a kubelet."""
    for path, operator in (
        (home / COMPLETE, "DoesNotExist"),
        (home / DELETE, "DoesNotExist"),
        (leave, "Exists"),
    ):
        for stage in yaml.safe_load_all(path.read_text()):
            whom = {"key": f'.metadata.labels["{STAYS}"]', "operator": operator}
            stage["spec"]["selector"]["matchExpressions"].append(whom)
            yield stage
