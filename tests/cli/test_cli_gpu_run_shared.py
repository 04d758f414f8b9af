"""`gpumax gpu run --gpu`: a broker of one's own gives out parts of the GPUs, and is gone when nobody needs it. On emulated devices."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gpumax.broker.control import Control, Group
from gpumax.errors import Unreachable
from gpumax.native import library
from interposer.emulated import Machine
from system.harness import eventually, processes_of

CLI = [
    sys.executable,
    "-c",
    "import sys; from gpumax.apps.cli.main import main; sys.exit(main())",
    "gpu",
    "run",
]
MIB = 1 << 20
SAY = "import os; print(os.environ['GPUMAX_SOCKET'], os.environ['CUDA_VISIBLE_DEVICES'], os.environ['GPUMAX_LIMIT'], os.environ.get('GPUMAX_SWAP'), flush=True)"
STAY = SAY + "; import sys; sys.stdin.read()"


class Here:
    """A machine with emulated GPUs, and what `gpumax gpu run` does on it."""

    def __init__(self, folder: Path, *memory: str, context: str = "0") -> None:
        self.folder = folder
        self.runtime = Path(tempfile.mkdtemp(prefix="gpumax-run-"))  # sockets have short paths
        config = {"devices": [{"name": "A100", "memory": each, "context": context} for each in memory]}
        self.machine = Machine(folder / "m", config)
        self.counted = {} if context != "0" else {"GPUMAX_CONTEXT": "0"}
        self.running: list[subprocess.Popen[str]] = []

    def environment(self, **more: str) -> dict[str, str]:
        ours = {"XDG_RUNTIME_DIR": str(self.runtime), "GPUMAX_REAL_LIBCUDA": str(library("emu"))}
        return self.machine.environment(**(self.counted | ours | more))

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *words],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *options: str, program: str = STAY) -> tuple[subprocess.Popen[str], list[str]]:
        """A program that stays, and what it was given: socket, devices, limit, swap."""
        process = subprocess.Popen(
            [*CLI, *options, "--", sys.executable, "-c", program], env=self.environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        return process, line.split()

    @property
    def control(self) -> Control:
        (directory,) = (self.runtime / "gpumax").iterdir()
        return Control(directory)

    def kill_broker(self) -> None:
        os.kill(
            next(pid for pid in processes_of(self.runtime) if self._runs(pid, b"gpumax.broker")),
            signal.SIGKILL,
        )

    def _runs(self, pid: int, module: bytes) -> bool:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"-m" in words and words[words.index(b"-m") + 1] == module

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()
        while left := processes_of(self.runtime):  # a broker and its heir see to it that the other is there
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.runtime)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path, "1Gi")
    yield made
    made.end()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path, "1Gi", "1Gi")
    yield made
    made.end()


def names(control: Control) -> list[str]:
    return [each.name for each in control.groups()]


def only(control: Control) -> Group:
    (group,) = control.groups()
    return group


def test_a_program_gets_its_part_and_the_way_to_the_broker(here: Here) -> None:
    _, (socket, devices, limit, swap) = here.start("--gpu", "0.5")

    group = only(here.control)
    assert (group.share, group.mode, group.swap) == (0.5, "fair", False)
    assert group.devices == (devices,)
    assert int(limit) == group.guaranteed
    assert Path(socket).is_socket()
    assert stat.S_IMODE(Path(socket).stat().st_mode) == 0o600
    assert swap == "None"


def test_the_part_goes_with_the_program(here: Here) -> None:
    process, _ = here.start("--gpu", "0.5")
    control = here.control

    process.kill()
    process.communicate()

    eventually(lambda: names(control) == [], "its group is gone")


def test_the_exit_code_is_the_programs(here: Here) -> None:
    assert here.run("--gpu", "0.3", "--", "sh", "-c", "exit 7").returncode == 7


def test_the_broker_is_no_child_of_the_program_and_keeps_nothing_of_it_open(here: Here) -> None:
    reads, writes = os.pipe()
    done = subprocess.run(
        [*CLI, "--gpu", "0.3", "--", sys.executable, "-c", "import os; os.waitpid(-1, os.WNOHANG)"],
        env=here.environment(), capture_output=True, text=True, timeout=60, check=False, pass_fds=(writes,),
    )  # fmt: skip
    os.close(writes)

    assert done.stderr.endswith("ChildProcessError: [Errno 10] No child processes\n")
    here.control.status()
    assert select.select([reads], [], [], 60)[0]
    assert os.read(reads, 1) == b""
    os.close(reads)


def test_programs_know_how_many_begin_together(here: Here) -> None:
    _, said = here.start(
        "--gpu", "0.5", "--ranks", "3", program="import os; print(os.environ['GPUMAX_RANKS'], flush=True)"
    )

    assert said == ["3"]


def test_memory_and_limit_are_as_they_were_asked_for(here: Here) -> None:
    _, (_, _, limit, swap) = here.start(
        "--gpu", "0.25", "--gpu-memory", "300Mi", "--gpu-memory-limit", "700Mi", "--swap", "--mode", "strict", "--group", "a"
    )  # fmt: skip

    group = only(here.control)
    assert (group.name, group.share, group.mode, group.swap) == ("a", 0.25, "strict", True)
    assert (group.guaranteed, group.limit) == (300 * MIB, 700 * MIB)
    assert (int(limit), swap) == (700 * MIB, "1")


def test_programs_of_one_group_share_one_part(here: Here) -> None:
    first, (socket, *_) = here.start("--gpu", "0.6", "--group", "a")
    _, (other, *_) = here.start("--gpu", "0.6", "--group", "a")
    control = here.control

    first.kill()
    first.communicate()

    assert socket == other
    assert names(control) == ["a"]


def test_one_that_asks_otherwise_for_a_group_is_told(here: Here) -> None:
    here.start("--gpu", "0.6", "--group", "a")

    done = here.run("--gpu", "0.2", "--group", "a", "--", "true")

    assert done.returncode == 3
    assert done.stderr.startswith("gpumax: group a is there already, with ")
    assert "share 0.6 (asked for: 0.2)" in done.stderr


def test_who_finds_no_room_is_told_what_is_left(here: Here) -> None:
    here.start("--gpu", "0.6")

    done = here.run("--gpu", "0.5", "--", "true")

    assert done.returncode == 3
    assert "left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_parts_go_to_the_gpu_with_most_room(two: Here) -> None:
    _, (_, first, *_) = two.start("--gpu", "0.6")
    _, (_, second, *_) = two.start("--gpu", "0.5")
    _, (_, third, *_) = two.start("--gpu", "0.5")

    assert first != second
    assert third == second


def test_cuda_visible_devices_is_kept_to(two: Here) -> None:
    _, (_, first, *_) = two.start("--gpu", "0.1")
    done = two.run("--gpu", "0.1", "--", sys.executable, "-c", SAY, CUDA_VISIBLE_DEVICES=first)

    assert done.stdout.split()[1] == first


@pytest.mark.parametrize("said", ["5", "", "GPU-ffff"])
def test_who_is_shown_none_of_the_gpus_is_told_where_their_numbers_are(two: Here, said: str) -> None:
    done = two.run("--gpu", "0.1", "--", "true", CUDA_VISIBLE_DEVICES=said)

    wanted = f"none of the 2 GPUs here is among those of CUDA_VISIBLE_DEVICES={said}; `gpumax gpu list` tells their numbers"
    assert wanted in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu", "0"), "--gpu: found 0; wanted a part of one GPU: 0.001 to 1, as 0.5"),
        (("--gpu", "1.2"), "--gpu: found 1.2; wanted a part"),
        (("--gpu", "2"), "--gpu: found 2; wanted a part"),
        (("--gpu", "-0.5"), "--gpu: found -0.5; wanted a part"),
        (("--gpu", "nan"), "--gpu: found nan; wanted a part"),
        (("--gpu", "half"), "--gpu: found half; wanted a part"),
        (("--gpu", "0.5", "--gpu-memory", "much"), "--gpu-memory: found much"),
        (("--gpu", "0.5", "--gpu-memory", "100Gi"), "--gpu-memory: found 100Gi; wanted at most "),
        (("--gpu", "0.5", "--gpu-memory-limit", "700Mi"), "found 700Mi without --swap"),
        (("--gpu-memory", "2Gi", "--gpu-memory-limit", "1Gi", "--swap"), "--gpu-memory-limit: found 1Gi beside --gpu-memory 2Gi"),
        (("--gpu", "0.9", "--gpu-memory-limit", "100Mi", "--swap"), "limit: found"),
        (("--gpu", "0.5", "--group", "../a"), "--group: found '../a'; wanted letters"),
        (("--gpu", "0.5", "--group", "control"), "--group: found 'control'"),
        (("--gpu", "0.5", "--ranks", "0"), "--ranks"),
        (("--gpu-memory", "500Mi", "--ranks", "2"), "--ranks is for turns"),
        (("--device", "5", "--gpu", "0.5"), "write CUDA_VISIBLE_DEVICES=5 before the command"),
        ((), "wanted --gpu SHARE or --gpu-memory SIZE"),
        (("--gpu", "0.5", "--mode", "loose"), "loose"),
    ],
)  # fmt: skip
def test_what_cant_be_is_refused_before_anything_starts(
    here: Here, options: tuple[str, ...], words: str
) -> None:
    done = here.run(*options, "--", sys.executable, "-c", "print('ran')")

    assert (done.stdout, words in done.stderr) == ("", True), done.stderr
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr


def test_all_faults_are_told_at_once(here: Here) -> None:
    done = here.run("--gpu", "7", "--gpu-memory", "much", "--", "true")

    assert len(done.stderr.splitlines()) == 2


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    environment: dict[str, Any] = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [*CLI, "--gpu", "0.5", "--", "true"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")

    assert done.stderr.startswith("gpumax: no GPU")


def test_a_runtime_directory_of_somebody_elses_is_not_used(here: Here) -> None:
    (here.runtime / "gpumax").mkdir(mode=0o777)
    (here.runtime / "gpumax").chmod(0o777)

    done = here.run("--gpu", "0.5", "--", "true")

    assert done.returncode == 2
    assert "open to others" in done.stderr


def test_a_device_that_another_broker_gives_out_isnt_given_out_twice(here: Here, tmp_path: Path) -> None:
    here.start("--gpu", "0.5")
    (tmp_path / "elsewhere").mkdir(mode=0o700)

    done = here.run("--gpu", "0.5", "--", "true", XDG_RUNTIME_DIR=str(tmp_path / "elsewhere"))

    assert done.returncode == 1
    assert "another broker (process " in done.stderr
    assert "gpumax run --gpu 0.5" in done.stderr


def test_a_broker_that_was_killed_is_followed_by_one_that_knows_who_runs(here: Here) -> None:
    here.start("--gpu", "0.5", "--group", "a")
    here.kill_broker()

    here.start("--gpu", "0.4", "--group", "b")

    assert names(here.control) == ["a", "b"]


def test_a_broker_that_was_killed_comes_back_while_a_program_has_a_part(here: Here) -> None:
    here.start("--gpu", "0.5", "--group", "a")
    before = here.control.status().epoch
    here.kill_broker()

    def is_back() -> bool:
        try:
            return here.control.status().epoch > before
        except Unreachable:
            return False

    eventually(is_back, "the next broker answers")
    assert names(here.control) == ["a"]


WORKS = """
import ctypes, sys, threading
lib = ctypes.CDLL("libcuda.so.1")
def ok(result):
    if result:
        sys.exit(f"CUDA error {result}")
context = ctypes.c_void_p()
ok(lib.cuInit(0)); ok(lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)); ok(lib.cuCtxSetCurrent(context))
blocks = [ctypes.c_uint64() for _ in range(9)]
for block in blocks:
    ok(lib.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(50 << 20)))
print("loaded", flush=True)
told = threading.Thread(target=sys.stdin.readline, daemon=True)
told.start()
while told.is_alive():
    for block in blocks:
        ok(lib.cuMemsetD8_v2(block, ctypes.c_ubyte(0), ctypes.c_size_t(1 << 20)))
    ok(lib.cuCtxSynchronize())
print("fine", flush=True)
"""
"""Loads more than half of the device, and works until it's told to end."""


def test_what_contexts_take_is_in_nobodys_way(tmp_path: Path) -> None:
    """Three contexts take more than the driver's part of the device; programs are promised no room that these have."""
    made = Here(tmp_path, "1Gi", context="64Mi")
    try:
        part = ("--gpu", "0.3", "--gpu-memory-limit", "700Mi", "--swap")
        three = [made.start(*part, program=WORKS)[0] for _ in range(3)]
        for process in three:
            out, err = process.communicate("\n", timeout=120)
            assert (process.returncode, out) == (0, "fine\n"), err
    finally:
        made.end()
