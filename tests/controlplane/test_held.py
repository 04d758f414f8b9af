"""Parts of a node's GPU hold, from the pod to the program: a real API server, a stand-in for the kubelet, an emulated driver."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controlplane.processes import eventually
from controlplane.stage import Stage
from controlplane.test_fractions import SLICES, Agent, claims, part
from gpumax.broker.control import Control
from gpumax.errors import Unreachable
from gpumax.native import library
from interposer import emulated
from kubelet import Added

PROGRAM = """
ok(d.cuInit(0))
current()
refused = name(d.cuMemAlloc(600 << 20))
given = name(d.cuMemAlloc(400 << 20))
say([refused, given])
if wait_for_a_line():
    module = load()
    x = upload(np.zeros(8, np.uint32))
    ok(d.cuMemsetD32(x, 7, 8))
    ok(d.cuCtxSynchronize())
    say(download(x, np.zeros(8, np.uint32)).tolist())
"""


class Held(Agent):
    """An agent on a node whose driver has one device of 1 GiB, and its containers."""

    def __init__(self, stage: Stage, name: str, folder: Path) -> None:
        config = {"devices": [{"name": "A100", "memory": "1Gi", "context": "0"}]}
        self.machine = emulated.Machine(folder / "machine", config)
        driver = {
            key: value
            for key, value in self.machine.environment().items()
            if key in ("GPUMAX_EMU", "LD_LIBRARY_PATH")
        }
        super().__init__(stage, name, folder, driver=driver)
        (folder / "layer").rmdir()
        self.broker = Control(folder / "plugins" / "gpu.gpumax.dev" / "gpu")

    def container(self, added: Added) -> subprocess.Popen[str]:
        """A program that finds what the runtime would give it; what is mounted lies where it is on the node."""
        env = dict(added.env)
        for inside, outside in added.mounts.items():
            env = {key: value.replace(inside, outside) for key, value in env.items()}
        return self.machine.start(PROGRAM, GPUMAX_REAL_LIBCUDA=str(library("emu")), **env)

    def groups(self) -> list[str]:
        try:
            return [each.name for each in self.broker.groups()]
        except Unreachable:
            return []

    def brokers(self) -> list[int]:
        mark = str(self.kubelet.folder).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    said = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in said and b"gpumax.broker" in said:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def held(stage: Stage) -> Iterator[Held]:
    stage.node("n1", 0)
    with TemporaryDirectory(prefix="gpumax-") as folder:
        made = Held(stage, "n1", Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.program.stop()
            assert "Traceback" not in made.program.said()
            for pid in made.brokers():
                os.kill(pid, signal.SIGKILL)
            stage.api.delete(f"{SLICES}/gpumax.dev-{made.node}")


def test_a_container_gets_its_half_and_no_more_whoever_is_killed(stage: Stage, held: Held) -> None:
    """The agent and its broker are killed while it runs; it goes on, and its part is known until the kubelet gives it up."""
    queue = stage.queue("q", 8)
    stage.steer()
    part(stage, "a", queue, gpu_fraction="0.5")
    eventually(lambda: stage.where() == ["n1"], "it has its place")
    claim = claims(stage)["gpumax-a"]
    added = held.kubelet.added(held.kubelet.prepare(claim))
    container = held.container(added)
    try:
        assert emulated.line(container) == ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"]
        assert held.groups() == [claim["metadata"]["uid"]]
        held.program.kill()
        (broker,) = held.brokers()
        os.kill(broker, signal.SIGKILL)
        held.start()
        eventually(
            lambda: held.groups() == [claim["metadata"]["uid"]], "the next broker knows it", held.program
        )
        emulated.tell(container)
        assert emulated.line(container) == [7] * 8
    finally:
        emulated.end(container)

    held.kubelet.unprepare(claim)

    eventually(lambda: held.groups() == [], "its part is nobody's", held.program)
