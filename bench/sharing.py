"""How well a device is shared: `python bench/sharing.py {error|loop|swap|all} [--quick]`, on an emulated device whose time is real.

error  how far each of 2 to 8 processes is from its share of the device's time, by what the device has computed for it: for each
       window of 1 s (kernels of at most 5 ms), and of 5 s (up to 50 ms), whoever is furthest off; strict and fair. The goal is
       on the worst window; the median and the 95th percentile stand beside it. Whoever stands still while it's its turn loses of
       its share what the device idles meanwhile, which no broker gives back. So there are rows beside it for what the machine had
       to do with it: canaries tell when a core stood still, the kernel how long threads that were ready had no core; and how far
       off those windows are in which no core stood still for over 3 ms, and nobody's threads waited for over 20 ms in all.
       --processes, --kernel-us, --mode: such rows alone; --runs: each so many times
loop   what a loop of kernels of 10 us takes longer under the layer and the broker, with the whole device to itself
swap   two processes of 700 MiB on a device of 1 GiB, each at work without a rest, beside one after the other

Emulated kernels take time and cost the host nothing; everything else (the layer, the broker, swapped bytes) is real. Nothing of it
was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from gpumax.broker.control import Control, Group
from gpumax.native import library
from measure import Figure, Row, Skipped, show

HERE: Final = Path(__file__).parent
MIB: Final = 1 << 20
CONTEXT: Final = 16 * MIB
DEVICE: Final = "GPU-00112233-4455-6677-8899-aabbccddeeff"
WARM_S: Final = 1.0
MIXES: Final = ((0.7, 0.3), (0.5, 0.3, 0.2), (0.4, 0.3, 0.2, 0.1), (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05))
NOTED_NS: Final = 1_000_000
CALM_MS: Final = 3.0
WAITED_MS: Final = 20.0
KERNELS_US: Final = (10, 100, 1000, 5000, 50_000)
Mode = Literal["fair", "strict"]


@dataclass
class Machine:
    """One emulated machine, the broker of its only device, and the programs on it."""

    folder: Path
    program: Path
    config: dict[str, Any]
    memory: int

    @property
    def driver(self) -> Path:
        """The folder in which programs find the emulated driver."""
        return self.folder / "driver"

    def environment(self, **more: str) -> dict[str, str]:
        """Of a program on the machine, without the layer."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
        return kept | {"GPUMAX_EMU": json.dumps(self.config), "LD_LIBRARY_PATH": str(self.driver)} | more

    def shared(self, name: str) -> dict[str, str]:
        """The same of one of a group's processes."""
        return self.environment(
            LD_PRELOAD=f"{library('cuda')} {library('ml')}",
            GPUMAX_REAL_LIBCUDA=str(library("emu")),
            GPUMAX_REAL_LIBNVIDIA_ML=str(library("emu-ml")),
            GPUMAX_SOCKET=str(self.folder / "broker" / f"{name}.sock"),
            GPUMAX_GROUP=f"bench-{os.getpid()}-{name}",
            GPUMAX_SWAP="1",
        )

    def start(self, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
        """A program that is ready, and waits for its line."""
        process = subprocess.Popen(
            [self.program, *words], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{' '.join(words)} ended with {process.wait()}")
        return process

    @contextmanager
    def broker(self, groups: Sequence[Group], pool: int = 0) -> Iterator[int]:
        """A broker with these groups, by its process."""
        directory = self.folder / "broker"
        room = self.memory - len(groups) * CONTEXT
        words = ["--directory", str(directory), "--device", f"{DEVICE}:{room}", "--swap-memory", str(pool)]
        process = subprocess.Popen([sys.executable, "-m", "gpumax.broker", *words], env=self.environment())
        try:
            control = Control(directory)
            for _ in range(500):
                if (directory / "control.sock").exists() or process.poll() is not None:
                    break
                time.sleep(0.02)
            for group in groups:
                control.add(group)
            yield process.pid
        finally:
            process.terminate()
            process.wait()
            for left in (self.folder / "broker" / "groups").glob("*"):
                left.unlink()


@contextmanager
def machine(memory: int, **device: Any) -> Iterator[Machine]:
    """An emulated machine in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="gpumax-bench-") as name:
        folder = Path(name)
        program = folder / "sharing"
        compile_it = [*os.environ.get("CC", "cc").split(), "-O2", "-w", "-D_GNU_SOURCE"]
        include = f"-I{HERE.parent / 'interposer/include'}"
        subprocess.run(
            [*compile_it, include, str(HERE / "sharing.c"), "-o", str(program), "-ldl"], check=True
        )
        (folder / "driver").mkdir()
        (folder / "driver" / "libcuda.so.1").symlink_to(library("emu"))
        (folder / "driver" / "libnvidia-ml.so.1").symlink_to(library("emu-ml"))
        devices = [{"uuid": DEVICE, "memory": memory, "context": f"{CONTEXT}", "latency_us": 0, **device}]
        config = {"shared": str(folder / "machine"), "devices": devices}
        yield Machine(folder, program, config, memory)


WATCH: Final = """
import ctypes, glob, sys, time
def waited(pid):
    rows = []
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            rows.append(open(path).read().split())
        except OSError:
            pass
    return sum(int(row[1]) for row in rows if row)
emu = ctypes.CDLL(sys.argv[1])
emu.gpumax_emu_busy.restype = ctypes.c_ulonglong
assert emu.cuInit(0) == 0
pids, step, count = [int(p) for p in sys.argv[4:]], float(sys.argv[2]), int(sys.argv[3])
begin = time.monotonic()
for i in range(count + 1):
    time.sleep(max(begin + i * step - time.monotonic(), 0))
    took = 10**9
    while took > 200_000:  # all of one moment: whoever is kept from its core meanwhile looks again
        now = time.monotonic_ns()
        busy = [emu.gpumax_emu_busy(pid, 0) for pid in pids[1:]]
        took = time.monotonic_ns() - now
    print(now, *busy, *map(waited, pids), flush=True)
"""


def watched(where: Machine, pids: Sequence[int], seconds: float) -> list[tuple[int, ...]]:
    """Ten times a second: when, for how long the device has computed for each process but the first, the broker; and how long
    the threads of each have waited for a core.
    """
    words = [str(library("emu")), "0.1", str(round(seconds * 10)), *map(str, pids)]
    out = subprocess.run(
        [sys.executable, "-c", WATCH, *words],
        env=where.environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [tuple(map(int, line.split())) for line in out.splitlines()]


@dataclass(frozen=True)
class Window:
    """How far whoever is furthest from its share is from it, in hundredths; and what the machine had to do with it, in milliseconds."""

    off: float
    stalled: float
    """The longest that a core stood still."""
    waited: float
    """The most that the threads of one process, or those of the broker, were ready to run and had no core."""

    @property
    def calm(self) -> bool:
        return self.stalled <= CALM_MS and self.waited <= WAITED_MS


@dataclass(frozen=True)
class Run:
    """What was seen of processes that share a device."""

    samples: list[tuple[int, ...]]
    """See `watched`."""
    stalls: list[tuple[int, int]]
    """See `canaries`."""

    def windows(self, shares: Sequence[float], length: int) -> list[Window]:
        """All of so many tenths of a second."""
        found = []
        for first, last in zip(self.samples, self.samples[length:], strict=False):
            took, *passed = (b - a for a, b in zip(first, last, strict=True))
            got, waits = passed[: len(shares)], passed[len(shares) :]
            off = max(abs(one / took - share) for one, share in zip(got, shares, strict=True))
            found.append(Window(100 * off, self._stalled(first[0], last[0]), max(waits) / 1e6))
        return found

    def _stalled(self, begin: int, end: int) -> float:
        return max([0, *(min(b, end) - max(a, begin) for a, b in self.stalls)]) / 1e6


@contextmanager
def canaries(where: Machine) -> Iterator[list[tuple[int, int]]]:
    """One on each core, on four at most. When each could not run for a millisecond or more, which is there once they have ended."""
    found: list[tuple[int, int]] = []
    cores = sorted(os.sched_getaffinity(0))[:4]
    running = [where.start(where.environment(), "canary", str(core), str(NOTED_NS)) for core in cores]
    try:
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        yield found
    finally:
        for process in running:
            process.kill()
            out, _ = process.communicate()
            lines = [line.split() for line in out.splitlines()]
            found += [(int(line[0]), int(line[1])) for line in lines if len(line) == 2]


def shared_time(mode: Mode, shares: Sequence[float], kernel_us: int, seconds: float) -> Run:
    """Processes that all want the whole device, for so long."""
    with machine(1 << 30) as where:
        groups = [
            Group(f"g{i}", (DEVICE,), 64 * MIB, share=share, mode=mode) for i, share in enumerate(shares)
        ]
        # Two at least: else the device is idle between one and the next, whoever shares it.
        at_once = max(2, min(200, 2000 // kernel_us))
        with where.broker(groups) as broker:
            words = ("spin", str(kernel_us * 1000), str(at_once))
            running = [where.start(where.shared(group.name), *words) for group in groups]
            try:
                for process in running:
                    assert process.stdin is not None
                    process.stdin.write("\n")
                    process.stdin.flush()
                time.sleep(WARM_S)
                with canaries(where) as stalls:
                    samples = watched(where, [broker, *(process.pid for process in running)], seconds)
                return Run(samples, stalls)
            finally:
                for process in running:
                    process.kill()
                    process.communicate()


@dataclass(frozen=True)
class Wanted:
    """Which rows of `error`, and how often each."""

    processes: tuple[int, ...] = ()
    kernels_us: tuple[int, ...] = ()
    modes: tuple[Mode, ...] = ("fair", "strict")
    runs: int = 1


def error(quick: bool, wanted: Wanted = Wanted()) -> list[Row]:
    """Shares of time that were achieved."""
    mixes: Sequence[Sequence[float]] = [each for each in MIXES if len(each) in wanted.processes]
    mixes = mixes or (MIXES[:1] + MIXES[-1:] if quick else MIXES)
    kernels = wanted.kernels_us or ((100, 5000) if quick else KERNELS_US)
    rows: list[Row] = []
    for mode in wanted.modes:
        for shares in mixes:
            for kernel in kernels:
                runs = [shared_time(mode, shares, kernel, 6.0 if quick else 11.0) for _ in range(wanted.runs)]
                rows += _errors(
                    f"{mode}, {len(shares)} processes, kernels of {_us(kernel)}", runs, shares, kernel
                )
    return rows


def _errors(name: str, runs: list[Run], shares: Sequence[float], kernel_us: int) -> list[Row]:
    rows: list[Row] = []
    for seconds, goal in ((1, 2.0), (5, 5.0)):
        if seconds == 5 or kernel_us <= 5000:
            head = f"{name}: off in {seconds} s"
            windows = [each for run in runs for each in run.windows(shares, seconds * 10)]
            rows.append(Figure(head, "hundredths", tuple(each.off for each in windows), goal, "max"))
            if seconds == 1:
                rows += _explained(head, windows, goal)
    return rows


def _explained(head: str, windows: list[Window], goal: float) -> list[Row]:
    """What the machine had to do with it."""
    worst = max(windows, key=lambda each: each.off)
    calm = tuple(each.off for each in windows if each.calm)
    said = f"{head}, of a calm machine"
    return [
        Figure(f"{head}, worst: a core stood still for", "ms", (worst.stalled,)),
        Figure(f"{head}, worst: a program waited for a core for", "ms", (worst.waited,)),
        Figure(said, "hundredths", calm, goal, "max") if calm else Skipped(said, "there was no such window"),
    ]


def _us(kernel: int) -> str:
    return f"{kernel} us" if kernel < 1000 else f"{kernel // 1000} ms"


def timed(where: Machine, environments: Sequence[dict[str, str]], *words: str) -> list[float]:
    """What each of several programs that begin together took, as it says."""
    running = [where.start(environment, *words) for environment in environments]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    took = []
    for process in running:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
        took.append(float(out))
    return took


def loop(quick: bool) -> list[Row]:
    """With the whole device to itself: runs with and without everything follow each other, so that a busy machine slows both."""
    words = ("loop", "10000", "500", str(50_000 if quick else 200_000))
    with machine(1 << 30) as where, where.broker([Group("alone", (DEVICE,), 512 * MIB)]):
        kinds = (where.environment(), where.shared("alone"))
        pairs = [[timed(where, [kind], *words)[0] for kind in kinds] for _ in range(3 if quick else 9)]
    slower = tuple(100 * (under / bare - 1) for bare, under in pairs)
    return [
        Figure("a loop of kernels of 10 us: by itself", "s", tuple(bare for bare, _ in pairs)),
        Figure("the same under layer and broker: longer by", "%", slower, 1.0),
    ]


def swap(quick: bool) -> list[Row]:
    """Together they want 1.4 times what there is."""
    words = ("work", str(700 * MIB), "2000000", str(2000 if quick else 8000))
    groups = [Group(name, (DEVICE,), 64 * MIB, 900 * MIB, share=0.5, swap=True) for name in ("a", "b")]
    shares = []
    for _ in range(1 if quick else 3):
        with machine(1 << 30, h2d=12, d2h=12) as where:
            apart = [timed(where, [where.environment()], *words)[0] for _ in groups]
            with where.broker(groups, pool=4 << 30):
                began = time.monotonic()
                timed(where, [where.shared(group.name) for group in groups], *words)
                together = time.monotonic() - began
        shares.append(100 * together / sum(apart))
    most = 100 / 0.85
    return [
        Figure("two of 700 MiB on 1 GiB: time taken, of one after the other", "%", tuple(shares), most),
        Figure("the same as speed, of one after the other", "%", (100 * 100 / statistics.median(shares),)),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("error", "loop", "swap", "all"))
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a measurement")
    parser.add_argument("--processes", type=int, nargs="+", choices=[len(each) for each in MIXES], default=())
    parser.add_argument("--kernel-us", type=int, nargs="+", default=())
    parser.add_argument("--mode", choices=("fair", "strict"), nargs="+", default=("fair", "strict"))
    parser.add_argument("--runs", type=int, default=1)
    flags = parser.parse_args()
    wanted = Wanted(tuple(flags.processes), tuple(flags.kernel_us), tuple(flags.mode), flags.runs)
    measures: dict[str, Callable[[bool], list[Row]]] = {
        "error": partial(error, wanted=wanted),
        "loop": loop,
        "swap": swap,
    }
    chosen = measures if flags.what == "all" else {flags.what: measures[flags.what]}
    show([row for measure in chosen.values() for row in measure(flags.quick)])


if __name__ == "__main__":
    main()
