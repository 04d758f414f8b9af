"""Three models of 10 GiB on one GPU of 16 GiB, then two programs at 70/30: all on an emulated GPU, in less than a minute.

    python examples/gpu_demo.py [--svg FILE]

Starts a broker of its own in a temporary directory, and programs under the layer (gpu_model.py, gpu_spin.py), which know nothing of
it. Ends with 1 if a promise was broken. Weights are mostly zeros, which take no memory of this machine; copies take as long as
all of their bytes would over an emulated link of 25 GB/s.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from gpu_picture import GIB, LEGEND, Sample, Story, lines, svg
from gpumax.apps.cli.output import Column, table, terminal_width
from gpumax.broker.control import Control, Group, Seen
from gpumax.errors import GpumaxError, Unreachable
from gpumax.native import library

HERE: Final = Path(__file__).resolve().parent
MIB: Final = 1 << 20
GPU: Final = "GPU-67707578-6d61-7821-0000-000000000001"
CONTEXT: Final = 64 * MIB
MODELS: Final = ("ada", "bea", "cleo")
LAYERS: Final = 40
NEEDS: Final = LAYERS * 256 * MIB
BURSTS: Final = (
    (0, 0.5, 15), (1, 3.5, 15), (2, 6.5, 15), (0, 9.5, 15), (2, 12.5, 15), (0, 15.5, 6), (1, 15.5, 6), (2, 15.5, 6),
)  # fmt: skip
"""Whose requests come, from when on, and how many: one each 60 ms."""
APART_S: Final = 0.06
LONGEST_S: Final = 50.0
LOOK_S: Final = 0.05


class Broken(Exception):
    """The demo did not go as it must."""


class Machine:
    """One emulated GPU, and how programs on it are started."""

    def __init__(self, folder: Path, memory: int) -> None:
        self.folder = folder
        self.memory = memory
        self.driver = folder / "driver"
        self.driver.mkdir(parents=True)
        (self.driver / "libcuda.so.1").symlink_to(library("emu"))
        (self.driver / "libnvidia-ml.so.1").symlink_to(library("emu-ml"))
        device = {
            "uuid": GPU, "name": "Emulated GPU", "memory": memory, "context": CONTEXT, "h2d": 25, "d2h": 25, "tflops": 0.01,
        }  # fmt: skip
        self.config = {"shared": str(folder / "machine"), "devices": [device]}

    def environment(self, group: str = "") -> dict[str, str]:
        """Of a program that has the GPU for itself, or of one of a group."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
        kept |= {"GPUMAX_EMU": json.dumps(self.config), "LD_LIBRARY_PATH": str(self.driver)}
        if not group:
            return kept
        return kept | {
            "LD_PRELOAD": f"{library('cuda')} {library('ml')}",
            "GPUMAX_REAL_LIBCUDA": str(library("emu")),
            "GPUMAX_REAL_LIBNVIDIA_ML": str(library("emu-ml")),
            "GPUMAX_SOCKET": str(self.folder / "broker" / f"{group}.sock"),
            "GPUMAX_GROUP": f"demo-{os.getpid()}-{group}",
            "GPUMAX_SWAP": "1",
        }


class Program:
    """A program under way. Its lines come in as they are said, with the time."""

    def __init__(self, machine: Machine, group: str, *words: str) -> None:
        self.name = f"{words[0]} {group}".strip()
        self.heard: queue.Queue[tuple[float, str]] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, *words], env=machine.environment(group), cwd=HERE, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.put((time.monotonic(), line.strip()))
        self.heard.put((time.monotonic(), ""))

    def say(self, line: str) -> None:
        """One line more for its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def next(self) -> tuple[float, str]:
        """What it says next, and when. Broken where it has ended, or says nothing for long."""
        try:
            at, line = self.heard.get(timeout=LONGEST_S)
        except queue.Empty:
            raise Broken(f"{self.name} says nothing") from None
        if not line:
            raise Broken(f"{self.name} ended with {self.process.wait()}")
        return at, line

    def end(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def _programs(machine: Machine, groups: Sequence[str], *words: Sequence[str]) -> Iterator[list[Program]]:
    """Programs that are ready."""
    running: list[Program] = []
    try:
        for group, its in zip(groups, words, strict=True):
            running.append(Program(machine, group, *its))
        for program in running:
            program.next()
        yield running
    finally:
        for program in running:
            program.end()


@contextmanager
def _broker(machine: Machine, groups: Sequence[Group]) -> Iterator[Control]:
    """A broker with these groups, which ends with us."""
    directory = machine.folder / "broker"
    room = machine.memory - len(groups) * CONTEXT
    words = [
        "--directory",
        str(directory),
        "--device",
        f"{GPU}:{room}",
        "--swap-memory",
        "64Gi",
        "--sparse-swap",
    ]
    process = subprocess.Popen([sys.executable, "-m", "gpumax.broker", *words], stderr=subprocess.PIPE)
    try:
        control = Control(directory)
        _until(lambda: _answers(control) or process.poll() is not None, "the broker to answer")
        for group in groups:
            control.add(group)
        yield control
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(control: Control) -> bool:
    try:
        control.status()
    except Unreachable:
        return False
    return True


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LONGEST_S
    while not done():
        if time.monotonic() > end:
            raise Broken(f"after {LONGEST_S:.0f} s still waiting for {what}")
        time.sleep(LOOK_S)


# ---- three models


def alone(folder: Path) -> list[dict[str, str]]:
    """What each model answers with a GPU to itself: by request."""
    answers = []
    with ExitStack() as stack:
        programs = [
            stack.enter_context(_programs(Machine(folder / name, 16 * GIB), [""], _model(number)))[0]
            for number, name in enumerate(MODELS)
        ]
        for number, program in enumerate(programs):
            for request in _requests(number):
                program.say(str(request))
        for number, program in enumerate(programs):
            answers.append(dict(program.next()[1].split() for _ in _requests(number)))
    return answers


def _model(number: int) -> tuple[str, ...]:
    return ("gpu_model.py", str(number), str(LAYERS))


def _requests(number: int) -> range:
    return range(sum(count for model, _, count in BURSTS if model == number))


class Look:
    """Watches the broker, and notes what was where."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.begun = time.monotonic()
        self.samples: list[Sample] = []
        self.last: Seen | None = None
        self._there: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.last = seen = self.control.status()
            except GpumaxError:
                return
            groups = {group.name: group for group in seen.groups}
            resident = tuple(_resident(groups[name]) for name in MODELS)
            works = tuple(any(c.lease == "granted" for c in groups[name].clients) for name in MODELS)
            self.samples.append(Sample(time.monotonic() - self.begun, resident, works))
            self._tell({name for name, held in zip(MODELS, resident, strict=True) if held > 0.99 * NEEDS})

    def _tell(self, there: set[str]) -> None:
        if there != self._there and there:
            print(f"  {self.samples[-1].at:5.1f} s  on the GPU: {', '.join(sorted(there))}", flush=True)
            self._there = there

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()


def _resident(group: Any) -> int:
    return sum(held.resident for client in group.clients for held in client.devices.values())


def bursts(folder: Path) -> tuple[Story, list[dict[str, str]], list[dict[str, Any]]]:
    """All three on one GPU: how it went, what they answered, and what each had of it."""
    machine = Machine(folder / "one", 16 * GIB)
    groups = [Group(name, (GPU,), GIB, 11 * GIB, share=1 / 3, swap=True) for name in MODELS]
    models = map(_model, range(len(MODELS)))
    with _broker(machine, groups) as control, _programs(machine, MODELS, *models) as programs:
        print(
            f"  {len(MODELS)} models are loaded: {len(MODELS) * NEEDS / GIB:.0f} GiB of weights, 16 GiB of memory",
            flush=True,
        )
        look = Look(control)
        came = _send(programs, look.begun)
        answers, waits = _collect(programs, came, look.begun)
        look.end()
    story = Story(MODELS, NEEDS, look.samples, tuple(came))
    rows = [
        {"name": name, "requests": len(waits[n]), "median": statistics.median(waits[n]), "worst": max(waits[n]),
         "out": _times(look.samples, n, there=False), "in": _times(look.samples, n, there=True)}
        for n, name in enumerate(MODELS)
    ]  # fmt: skip
    return story, answers, rows


def _often(times: int) -> str:
    return f"{times} time{'' if times == 1 else 's'}"


def _times(samples: Sequence[Sample], model: int, *, there: bool) -> int:
    """How often a model came to be all there, or all gone."""
    at = [
        sample.resident[model] > 0.99 * NEEDS if there else sample.resident[model] < 0.01 * NEEDS
        for sample in samples
    ]
    return sum(now and not before for before, now in itertools.pairwise(at))


def _send(programs: Sequence[Program], begun: float) -> list[list[float]]:
    """Each request at its time."""
    number = [0] * len(programs)
    came: list[list[float]] = [[] for _ in programs]
    todo = sorted((at + i * APART_S, model) for model, at, count in BURSTS for i in range(count))
    for at, model in todo:
        time.sleep(max(begun + at - time.monotonic(), 0))
        programs[model].say(str(number[model]))
        number[model] += 1
        came[model].append(time.monotonic() - begun)
    return came


def _collect(
    programs: Sequence[Program], came: list[list[float]], begun: float
) -> tuple[list[dict[str, str]], list[list[float]]]:
    answers: list[dict[str, str]] = []
    waits: list[list[float]] = []
    for program, arrived in zip(programs, came, strict=True):
        heard = [program.next() for _ in arrived]
        answers.append(dict(line.split() for _, line in heard))
        waits.append([at - begun - since for (at, _), since in zip(heard, arrived, strict=True)])
    return answers, waits


# ---- two programs at 70/30


def shares(folder: Path, mode: Literal["fair", "strict"]) -> list[dict[str, Any]]:
    """What each had of the GPU's time: while both are at work, and while the first rests."""
    machine = Machine(folder / mode, GIB)
    names = ("seventy", "thirty")
    wanted = (0.7, 0.3)
    groups = [Group(n, (GPU,), 256 * MIB, share=s, mode=mode) for n, s in zip(names, wanted, strict=True)]
    spin = ("gpu_spin.py",)
    with _broker(machine, groups), _programs(machine, names, spin, spin) as programs:
        time.sleep(1.0)
        both = _achieved(programs, 3.0)
        programs[0].say("rest")
        programs[0].next()
        time.sleep(0.5)
        lonely = _achieved(programs, 1.5)
    return [
        {"mode": mode, "name": n, "share": s, "both": b, "alone": a}
        for n, s, b, a in zip(names, wanted, both, lonely, strict=True)
    ]


def _achieved(programs: Sequence[Program], seconds: float) -> list[float]:
    """Kernels of a millisecond that ended, of all for which there was time."""
    counts = []
    for _ in range(2):
        for program in programs:
            program.say("count")
        counts.append([tuple(map(int, program.next()[1].split())) for program in programs])
        if len(counts) == 1:
            time.sleep(seconds)
    first, last = counts
    return [(b[1] - a[1]) * 1e6 / (b[0] - a[0]) for a, b in zip(first, last, strict=True)]


# ---- told and judged

ANSWERED: Final = (
    Column("MODEL", lambda row: str(row["name"])),
    Column("REQUESTS", lambda row: str(row["requests"])),
    Column("THE SAME AS ALONE", lambda row: str(row["same"])),
    Column("MEDIAN WAIT", lambda row: f"{row['median']:.2f} s"),
    Column("WORST WAIT", lambda row: f"{row['worst']:.2f} s"),
    Column("SWAPPED OUT", lambda row: _often(row["out"])),
    Column("AND IN", lambda row: _often(row["in"])),
)
SHARED: Final = (
    Column("MODE", lambda row: str(row["mode"])),
    Column("PROGRAM", lambda row: str(row["name"])),
    Column("SHARE", lambda row: f"{row['share']:.0%}"),
    Column("ACHIEVED", lambda row: f"{row['both']:.1%}"),
    Column("WHILE THE FIRST RESTS", lambda row: f"{row['alone']:.1%}"),
)


def judge(rows: list[dict[str, Any]], times: list[dict[str, Any]]) -> list[str]:
    """Which promises were broken."""
    faults = [
        f"{row['name']}: {row['requests'] - row['same']} of {row['requests']} answers differ from those alone"
        for row in rows
        if row["same"] != row["requests"]
    ]
    if not any(row["out"] for row in rows):
        faults.append("nothing was swapped, so nothing was shown")
    for mode in ("strict", "fair"):
        heavy, light = (row["both"] for row in times if row["mode"] == mode)
        # Coarse, since a busy machine takes from whoever has more: bench/sharing.py measures how exact shares are.
        if abs(heavy / (heavy + light) - 0.7) > 0.15:
            faults.append(f"{mode}: {heavy:.0%} and {light:.0%} of the time are not 70 to 30")
    strict, fair = (
        next(r["alone"] for r in times if r["mode"] == m and r["share"] < 0.5) for m in ("strict", "fair")
    )
    if strict > 0.35:
        faults.append(f"strict: one of 30% had {strict:.0%} while the other rested")
    if fair < 0.35:
        faults.append(f"fair: one of 30% had {fair:.0%} only, while the other rested")
    return faults


def play(folder: Path, picture: Path) -> list[str]:
    """All of it."""
    print("Each of three models answers its requests with a GPU of its own, to compare with.", flush=True)
    expected = alone(folder / "alone")
    print("The same models on one GPU of 16 GiB, with the same requests, in bursts.", flush=True)
    story, answers, rows = bursts(folder)
    for row, its, wanted in zip(rows, answers, expected, strict=True):
        row["same"] = sum(its.get(request) == sum_ for request, sum_ in wanted.items())
    print(
        "",
        *lines(story, min(terminal_width(), 110)),
        LEGEND,
        "",
        table(rows, ANSWERED),
        "",
        sep="\n",
        flush=True,
    )
    picture.write_text(svg(story, 16 * GIB, "Three models of 10 GiB on one GPU of 16 GiB (emulated)"))
    print(f"The same as a picture: {picture}\n", flush=True)
    print("Two programs that each want all of a GPU's time, at 70/30.", flush=True)
    times = [*shares(folder, "strict"), *shares(folder, "fair")]
    print("\n" + table(times, SHARED) + "\n", flush=True)
    return judge(rows, times)


def main() -> int:
    """Play, tell, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--svg", type=Path, default=Path("gpu-demo.svg"), help="where to draw the timeline")
    flags = parser.parse_args()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gpumax-gpu-demo-"))
    try:
        faults = play(folder, flags.svg)
    except (Broken, GpumaxError) as error:
        faults = [str(error)]
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for fault in faults:
        print(f"gpu-demo: broken: {fault}", file=sys.stderr)
    if not faults:
        print(
            f"Every promise held, in {time.monotonic() - begun:.0f} s, on an emulated GPU: no real one was there."
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
