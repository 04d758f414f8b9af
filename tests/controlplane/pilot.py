"""Who steers a cluster in a test: a client, a loop and its thread, over a way and with a clock of the test's choice."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

from gpumax.engines.kubernetes.client.connection import ANSWER_S
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.lease import Candidate, Fence
from gpumax.loop.steer import DEFAULTS, Steering
from gpumax.model.snapshot import Policy
from gpumax.ports.clock import Clock, SystemClock
from gpumax.ports.journal import MemoryJournal


class Pilot:
    """One that steers the pods that ask for a scheduler. answer_s: after how long a write counts as not answered."""

    def __init__(
        self,
        kubeconfig: Path,
        scheduler: str,
        *,
        fence: Fence | None = None,
        clock: Clock | None = None,
        policy: Policy = DEFAULTS,
        answer_s: float = ANSWER_S,
        **options: Any,
    ) -> None:
        """options: more of the cluster."""
        self._loops: list[Steering] = []
        self.cluster = KubernetesCluster(
            access_from((kubeconfig,)),
            lambda: [loop.wake() for loop in self._loops],
            scheduler=scheduler,
            fence=fence,
            answer_s=answer_s,
            **options,
        )
        self.steering = Steering(self.cluster, MemoryJournal(), clock or SystemClock(), policy)
        self._thread = Thread(target=self.steering.run, daemon=True)

    def steer(self) -> None:
        """Look at what is there, and steer from then on."""
        self.cluster.start()
        self.begin()

    def begin(self) -> None:
        """Steer from now on."""
        self._loops.append(self.steering)
        self._thread.start()

    def stand(self, namespace: str, name: str, candidate: Candidate) -> None:
        """Steer whenever the lease is ours."""
        self.cluster.start()
        self.cluster.stand(namespace, name, candidate)
        self.begin()

    def close(self) -> None:
        """Let go of everything, what is under way included: what a kill would do."""
        self.steering.stop()
        if self._thread.is_alive():
            self._thread.join()
        self.cluster.close()
