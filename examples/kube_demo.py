"""Two teams share 64 GPUs of a Kubernetes cluster: one uses what the other leaves idle, and gives it back when the owner asks.

    make kube-demo

Starts Kubernetes' own control plane on this machine with eight nodes of eight made-up GPUs (kwok plays their kubelets: pods count as running, though
nothing runs), schedules it with gpumax, and shows the cluster as a board. Ends with 1 if a guarantee was broken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from controlplane.build import NoGo, NotBuilt
from controlplane.helm import CHART, Helm
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually

HERE: Final = Path(__file__).resolve().parent / "kubernetes"
GPU: Final = "nvidia.com/gpu"
NODES: Final = 8
GPUS: Final = 8 * NODES
QUOTA: Final = GPUS // 2
LONGEST_S: Final = 60.0
LOOK_S: Final = 0.1
SPACE: Final = "gpumax-system"
PODS: Final = "/api/v1/namespaces/default/pods"


class Broken(Exception):
    """The demo did not go as it must."""


class Demo:
    """One control plane, and gpumax's commands against it."""

    def __init__(self, plane: ControlPlane, data: Path) -> None:
        self.plane = plane
        self._env = {
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig()),
            "GPUMAX_DATA": str(data),
            "GPUMAX_ENGINE": "kubernetes",
        }

    def nodes(self) -> None:
        """Nodes with GPUs, which kwok plays."""
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
        for number in range(1, NODES + 1):
            meta = {
                "name": f"n{number}",
                "labels": {"nvidia.com/gpu.product": "H100", "nvidia.com/gpu.memory": "81920"},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            }
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": meta,
                "status": {"allocatable": room, "capacity": room},
            }
            self.plane.api.post("/api/v1/nodes", json=body).raise_for_status()

    def install(self) -> None:
        """The chart's objects. Its pods have no kubelet to run them, so nothing would answer for its webhook."""
        helm = Helm(self.plane.directory / "helm", str(self.plane.kubeconfig()))
        helm.run(
            "install",
            "gpumax",
            str(CHART),
            "-n",
            SPACE,
            "--create-namespace",
            "--set",
            "webhook.enabled=false",
        )

    def scheduler(self) -> Program:
        """gpumax as the chart's pod would run it, with the same rights, as a process of this machine."""
        config = self.plane.kubeconfig_of_account(SPACE, "gpumax")
        words = ["up", "--kubernetes", "--lease", f"{SPACE}/gpumax", "--default-queue"]
        program = Program(
            [sys.executable, "-m", "gpumax.apps.cli.main", *words],
            self.plane.directory / "gpumax.log",
            env={**self._env, "KUBECONFIG": str(config)},
        )
        program.start()
        return program

    def say(self, *words: str) -> None:
        """Show a command of gpumax, and run it."""
        print(f"$ gpumax {' '.join(words)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "gpumax.apps.cli.main", *words], cwd=HERE, env=self._env, check=False
        )
        if done.returncode:
            raise Broken(f"`gpumax {' '.join(words)}` ended with {done.returncode}")

    def held(self) -> Counter[str]:
        """GPUs of pods that have a node and were not told to go, by queue."""
        held: Counter[str] = Counter()
        for pod in self.plane.api.get(PODS).json()["items"]:
            over = pod["metadata"].get("deletionTimestamp") or pod["status"]["phase"] in (
                "Succeeded",
                "Failed",
            )
            if pod["spec"].get("nodeName") and not over:
                held[pod["metadata"]["labels"]["gpumax.dev/queue"]] += _gpus(pod)
        if held.total() > GPUS:
            raise Broken(f"{held.total()} GPUs are held; there are {GPUS}")
        return held

    def all_told(self) -> bool:
        """Whether every pod without a node has been told why."""
        waiting = [pod for pod in self.plane.api.get(PODS).json()["items"] if not pod["spec"].get("nodeName")]
        return bool(waiting) and all(pod["status"].get("conditions") for pod in waiting)

    def until(self, done: Callable[[Counter[str]], bool], what: str) -> None:
        """Wait until the queues hold what they should; Broken where it takes too long."""
        begun = time.monotonic()
        while not done(self.held()):
            if time.monotonic() - begun > LONGEST_S:
                raise Broken(
                    f"after {LONGEST_S:.0f} s still waiting for {what}; held now: {dict(self.held())}"
                )
            time.sleep(LOOK_S)


def _gpus(pod: dict[str, Any]) -> int:
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(GPU, 0))
        for container in pod["spec"]["containers"]
    )


@contextmanager
def _cluster() -> Iterator[Demo]:
    """A control plane with nodes, gone afterwards with all that it ran."""
    with tempfile.TemporaryDirectory(prefix="gpumax-kube-demo-") as directory:
        plane = ControlPlane("newest", Path(directory))
        try:
            print("Starting Kubernetes' control plane (etcd, API server, controllers) ...", flush=True)
            plane.start()
            plane.start_kwok(jobs_end=False)
            demo = Demo(plane, Path(directory) / "data")
            print(f"Adding {NODES} nodes of 8 GPUs, and gpumax as their scheduler ...", flush=True)
            demo.nodes()
            demo.install()
            program = demo.scheduler()
            queues = "/apis/gpumax.dev/v1alpha1/queues/default"
            eventually(lambda: plane.api.get(queues).status_code == 200, "gpumax's queues are there", program)
            yield demo
        finally:
            plane.stop()


def play(demo: Demo) -> None:
    """The story."""
    for team in ("vision", "language"):
        demo.say("queue", "set", team, "--quota", f"gpu={QUOTA},cpu=unlimited,memory=unlimited")
    print(
        f"\nTeam vision asks for all {GPUS} GPUs. Its quota is {QUOTA}; the others are idle, so it gets them."
    )
    for number in range(1, 5):
        demo.say(
            "run",
            "-p",
            "vision",
            "--tasks",
            "2",
            "--gpu",
            "8",
            "--name",
            f"vision-{number}",
            "--",
            "sleep",
            "600",
        )
    demo.until(lambda held: held["vision"] == GPUS, "vision to run on all GPUs")
    demo.say("board")
    print(f"\nTeam language asks for its {QUOTA} GPUs, as one gang: all of it starts, or nothing.")
    demo.say(
        "run", "-p", "language", "--tasks", "4", "--gpu", "8", "--name", "language-1", "--", "sleep", "600"
    )
    demo.until(lambda held: held["language"] == QUOTA, "language to get its quota back")
    demo.until(lambda _: demo.all_told(), "those who wait to be told why")
    demo.say("board")
    demo.say("why", "vision-4")
    held = demo.held()
    if held["vision"] != GPUS - QUOTA:
        raise Broken(f"vision holds {held['vision']} GPUs; its quota of {GPUS - QUOTA} was to stay")
    print("\nLanguage is done; vision goes on.")
    demo.say("delete", "language-1", "--yes")
    demo.until(lambda held: held["vision"] == GPUS, "vision to get the idle GPUs again")
    demo.say("board")


def main() -> int:
    """Play; say what was broken."""
    try:
        with _cluster() as demo:
            play(demo)
    except (Broken, NoGo, NotBuilt, AssertionError) as error:
        print(f"kube-demo: broken: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(
        "\nEvery guarantee held: idle quota was used, given back as soon as its owner asked, and no GPU was held twice."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
