"""What tests of studies share: scenarios in files."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from gpumax.model.study import Scenario
from gpumax.study.load import load_scenario

NODES = "nodes: [{count: 2, cpu: 64, memory: 256Gi, devices: {count: 8, model: A100, memory: 80Gi}}]\n"
QUEUES = "queues: [{name: a, quota: {gpu: 8}}, {name: b, quota: {gpu: 8}}]\n"
JOBS = "submitted,duration,gpu,queue\n0,60,1,a\n30,3600,4,b\n"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """The folder, with these files in it."""
    for name, text in files.items():
        data = text if isinstance(text, bytes) else dedent(text).encode("utf-8", "surrogateescape")
        (folder / name).write_bytes(data)
    return folder


def scenario(folder: Path, text: str = "", jobs: str | bytes = JOBS, **options: Any) -> Scenario:
    """The scenario of a file, with two nodes and two queues unless it says otherwise, and a table of jobs."""
    whole = dedent(text).rstrip() + "\n"
    for part in (NODES, QUEUES, "arrivals: {csv: jobs.csv}\n"):
        if f"{part.partition(':')[0]}:" not in whole:
            whole += part
    write(folder, {"study.yaml": whole, "jobs.csv": jobs})
    return load_scenario(folder / "study.yaml", **options)
