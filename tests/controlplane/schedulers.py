"""The scheduler as a process: `gpumax up --kubernetes` with a name of its own, beside a test."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from controlplane.plane import ControlPlane
from controlplane.processes import HOST, PATIENCE_S, Program, free_ports


class Scheduler:
    """One process that listens, known to the API server by a name of its own, unless it goes another way."""

    def __init__(
        self,
        plane: ControlPlane,
        home: Path,
        name: str,
        *options: str,
        host: str = HOST,
        way: Path | None = None,
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{HOST}:{port}"
        self.log = home / f"{name}.log"
        argv = [
            sys.executable,
            "-m",
            "gpumax.apps.cli.main",
            "up",
            "--kubernetes",
            "--data",
            str(home / name),
        ]
        env = {"KUBECONFIG": str(way or plane.kubeconfig(name, "system:masters"))}
        self.program = Program([*argv, "--listen", f"{host}:{port}", *options], self.log, env=env)

    def said(self) -> str:
        """What it printed; empty before it was started."""
        return self.log.read_text() if self.log.exists() else ""

    def ask(self, path: str, token: str = "") -> tuple[int, str]:
        """The answer; 0 where there is none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = httpx.get(self.url + path, headers=headers, trust_env=False, timeout=PATIENCE_S)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def sample(self, name: str) -> float:
        """A metric without labels; no number where it isn't told."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        found = (one.value for family in families for one in family.samples if one.name == name)
        return next(found, math.nan)


@contextmanager
def running(*schedulers: Scheduler) -> Iterator[None]:
    """They run, and end in order."""
    with ExitStack() as stack:
        for each in schedulers:
            each.program.start()
            stack.callback(each.program.stop)
        yield
