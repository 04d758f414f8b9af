"""What swapping costs: `python bench/swap.py [--quick] [--json]`, on emulated devices; nothing of it was measured on a GPU.

both    two processes on one device, one leaves while the other comes in, over a link whose time is real: how many times
        the link's minimum that takes, which is the bytes of the larger direction by the link's bandwidth. Once a sixteenth of
        the bytes is random, and the rest is zero, which the emulator takes its time for but doesn't copy: on a GPU the link's
        own engines do that. And once all are random, which the cores of this machine copy, beside all else
weights bytes that are copied when read-only memory leaves for the second time
first   from the order to come in until a program that was out has its first result (a kernel that reads a MiB, 8 bytes
        copied back): 10 GiB over 25 GB/s under a clock that only work moves, so it shows how well copies follow each
        other and nothing of what the host takes, nor what a driver takes to map memory; and a part of it over a slower
        link whose time is real, host included. The minimum is bytes by bandwidth. Most of the 10 GiB are zero, which
        takes no memory of the host.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from gpumax.native import library
from measure import Figure, Row, machine, show

MIB: Final = 1 << 20
GB: Final = 1e9
SLOW: Final = 0.5
"""GB/s of a link whose time is real: so slow that one core can copy all of its bytes meanwhile."""
DUPLEX: Final = 2.0
"""GB/s of each direction of a link whose time is real."""
FAST: Final = 25.0

PROGRAM: Final = '''
import ctypes, json, os, sys, time
lib = ctypes.CDLL("libcuda.so.1")
emu = ctypes.CDLL(os.path.realpath(os.environ["GPUMAX_REAL_LIBCUDA"]))
MIB = 1 << 20

class Report(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("why", ctypes.c_int), ("resident", ctypes.c_uint64), ("copied", ctypes.c_uint64),
                ("took", ctypes.c_uint64)]

def ok(result):
    if result:
        raise SystemExit(f"CUDA error {result}")

def order(out):
    report, begin = Report(), time.monotonic_ns()
    ok(lib.gpumax_layer_swap(0, out, ctypes.c_ulonglong(0 if out else (1 << 63)), 600000, ctypes.byref(report)))
    return {"begin": begin, "end": time.monotonic_ns(), "copied": report.copied}

def launch(name, *parameters):
    pointers = (ctypes.c_void_p * len(parameters))(*(ctypes.addressof(each) for each in parameters))
    ok(lib.cuLaunchKernel(functions[name], 1, 1, 1, 1, 1, 1, 0, None, pointers, None))

def now():
    """Nanoseconds of the machine's clock, whichever it is."""
    event, since = ctypes.c_void_p(), ctypes.c_float()
    ok(lib.cuEventCreate(ctypes.byref(event), 0))
    ok(lib.cuEventRecord(event, None))
    ok(lib.cuEventSynchronize(event))
    ok(lib.cuEventElapsedTime(ctypes.byref(since), start, event))
    return since.value * 1e6

def alloc(size):
    pointer = ctypes.c_uint64()
    ok(lib.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)))
    return pointer

def written(pointer, size):
    data = os.urandom(size)
    ok(lib.cuMemcpyHtoD_v2(pointer, data, ctypes.c_size_t(size)))
    return data

def first(pointer, size):
    launch("checksum", sum_at, pointer, ctypes.c_uint64(size))
    ok(lib.cuMemcpyDtoH_v2(ctypes.byref(result), sum_at, ctypes.c_size_t(8)))
    return result.value

ok(lib.cuInit(0))
context, module, functions = ctypes.c_void_p(), ctypes.c_void_p(), {}
ok(lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
ok(lib.cuCtxSetCurrent(context))
ok(lib.cuModuleLoadData(ctypes.byref(module), b"gpumax-emu\\n\\0"))
functions["checksum"] = ctypes.c_void_p()
ok(lib.cuModuleGetFunction(ctypes.byref(functions["checksum"]), module, b"checksum"))
start, result, sum_at = ctypes.c_void_p(), ctypes.c_uint64(), alloc(8)
ok(lib.cuEventCreate(ctypes.byref(start), 0))
ok(lib.cuEventRecord(start, None))

size, buffers, content = (int(each) * MIB for each in sys.argv[1:4])
memory = [alloc(buffers) for _ in range(size // buffers)]
for each in memory:
    written(each, content)
print(json.dumps("there"), flush=True)
for line in sys.stdin:
    what = line.strip()
    if what == "weights":
        for each in memory:
            ok(lib.gpumax_layer_read_only(ctypes.c_ulonglong(each.value), 1))
        said = None
    elif what == "first":
        before = [first(each, content) for each in memory]
        order(1)
        begin = now()
        order(0)
        first(memory[0], MIB)
        took = now() - begin
        if [first(each, content) for each in memory] != before:
            raise SystemExit("memory came back with other bytes")
        said = {"took": took}
    else:
        said = order(what == "out")
    print(json.dumps(said), flush=True)
'''


class Program:
    """A process under the layer, with so much memory on the device, that is told what to do by lines."""

    def __init__(self, environment: dict[str, str], size: int, buffers: int, content: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(size), str(buffers), str(content)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hear()

    def tell(self, what: str) -> None:
        """Let it begin."""
        print(what, file=self._pipe(self._process.stdin), flush=True)

    def hear(self) -> Any:
        """What came of it."""
        said = self._pipe(self._process.stdout).readline()
        if not said:
            raise SystemExit("a program of this bench has failed")
        return json.loads(said)

    def does(self, what: str) -> Any:
        """Both."""
        self.tell(what)
        return self.hear()

    def end(self) -> None:
        """It ends when there is nothing more to read."""
        self._process.communicate()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def programs(
    count: int, size: int, *, link: float, clock: str, buffers: int, content: int
) -> Iterator[list[Program]]:
    """Processes of one emulated machine with one device, which has room for all of them; sizes are MiB, speeds GB/s."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "libcuda.so.1").symlink_to(library("emu"))
        device = {"memory": f"{count * size + 512}Mi", "context": "64Mi", "h2d": link, "d2h": link}
        emu = {"clock": clock, "devices": [device], "shared": f"{folder}/machine"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
        begun: list[Program] = []
        try:
            for number in range(count):
                own = {
                    "GPUMAX_EMU": json.dumps(emu),
                    "GPUMAX_REAL_LIBCUDA": f"{folder}/libcuda.so.1",
                    "LD_PRELOAD": str(library("cuda")),
                    "GPUMAX_SWAP": "1",
                    "GPUMAX_SWAP_PINNED": "64Gi",
                    "GPUMAX_GROUP": f"{folder}{number}",
                }
                begun.append(Program(kept | own, size, buffers, content))
            yield begun
        finally:
            for each in begun:
                each.end()


def both(size: int, repeat: int, link: float, content: int) -> list[Row]:
    """One leaves while the other comes in, again and again in turns. content: of each 64 MiB so many are random, the rest is zero."""
    ratios, shares = [], []
    with programs(2, size, link=link, clock="real", buffers=64, content=content) as (leaves, comes):
        for each in (leaves, comes):
            each.does("out")
            each.does("in")
        comes.does("out")
        for _ in range(repeat):
            leaves.tell("out")
            comes.tell("in")
            done = (leaves.hear(), comes.hear())
            wall = max(each["end"] for each in done) - min(each["begin"] for each in done)
            least = max(each["copied"] for each in done) / link
            ratios.append(wall / least)
            shares.append(100 * sum(each["copied"] for each in done) / (2 * link) / wall)
            leaves, comes = comes, leaves
    bytes_ = "all bytes random" if content == 64 else f"{content}/64 of the bytes random"
    name = f"both directions at once, {size} MiB each over {link:g} GB/s each, {bytes_}"
    return [
        Figure(f"{name}: times the link's minimum (1.25: 80 % of the link)", "x", tuple(ratios), 1.25),
        Figure(f"{name}: share of the link", "%", tuple(shares)),
    ]


def weights(size: int) -> list[Row]:
    """The first time they are copied, the second time not."""
    with programs(1, size, link=FAST, clock="virtual", buffers=64, content=1) as (program,):
        program.does("weights")
        copied = []
        for _ in range(2):
            copied.append(program.does("out")["copied"] / MIB)
            program.does("in")
    return [
        Figure(f"{size} MiB of read-only memory leave: copied the first time", "MiB", (copied[0],)),
        Figure(f"{size} MiB of read-only memory leave: copied the second time", "MiB", (copied[1],), 1e-9),
    ]


def first(size: int, link: float, clock: str, content: int, repeat: int) -> list[Row]:
    """Out and in; how long until the first result, in times of what the link takes at least."""
    least = size * MIB / (link * GB)
    with programs(1, size, link=link, clock=clock, buffers=256, content=content) as (program,):
        took = [program.does("first")["took"] / 1e9 for _ in range(repeat)]
    name = f"first result after {size / 1024:g} GiB came in over {link:g} GB/s, {clock} clock"
    return [
        Figure(f"{name}: the link's minimum", "s", (least,)),
        Figure(f"{name}", "s", tuple(took)),
        Figure(f"{name}: times the minimum", "x", tuple(each / least for each in took), 1.2),
    ]


def figures(*, quick: bool) -> list[Row]:
    """All of them."""
    return [
        *both(1024, 3 if quick else 9, DUPLEX, 4),
        *both(256, 3 if quick else 9, SLOW, 64),
        *weights(512),
        *first(10 * 1024, FAST, "virtual", 1, 1 if quick else 3),
        *first(256 if quick else 512, SLOW, "real", 256, 2 if quick else 5),
    ]


def as_json(rows: list[Row]) -> str:
    """Every figure with its values and its median, and what it was measured on."""
    said = [
        asdict(row) | ({"median": statistics.median(row.values)} if isinstance(row, Figure) else {})
        for row in rows
    ]
    return json.dumps({"machine": machine(), "emulated": True, "figures": said}, indent=2)


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a measurement")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    flags = parser.parse_args()
    rows = figures(quick=flags.quick)
    if flags.json:
        print(as_json(rows))
    else:
        show(rows)


if __name__ == "__main__":
    main()
