"""The program in which one check runs, or one child of it: `python -m gpumax.proof.probe WORD ...`; a line of JSON is its answer."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from gpumax.errors import GpumaxError
from gpumax.proof.checks import CHECKS, Missed, NotShown, Probe, taken
from gpumax.proof.cuda import Cuda, CudaError
from gpumax.proof.others import program

MODULES: Final = ("relied", "families", "ways", "swaps", "turns", "second", "deaths", "costs", "pytorch")


def load() -> None:
    """All checks, in their order."""
    for each in MODULES:
        import_module(f"gpumax.proof.{each}")


def say(value: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def hear() -> None:
    """Wait to be let go on."""
    sys.stdin.readline()


def check(name: str, limit: str, device: str, share: str) -> None:
    """One check, to its verdict."""
    load()
    probe = Probe(int(limit), int(device), float(share))
    verdict, why = "holds", ""
    try:
        CHECKS[name].run(probe)
    except Missed as error:
        verdict, why = "broken", str(error)
    except NotShown as error:
        verdict, why = "not shown", str(error)
    except (CudaError, GpumaxError, OSError) as error:
        verdict, why = "broken", str(error)
    say({"verdict": verdict, "why": why, "figures": probe.figures})


def take(piece: str) -> None:
    """As much as is to be had, kept until told to end."""
    cuda = Cuda()
    say("ready")
    hear()
    say(taken(cuda.try_plain, int(piece)))
    hear()


def hold(size: str) -> None:
    """So much, until told to end."""
    Cuda().plain(int(size))
    say(int(size))
    hear()


def work(device: str) -> None:
    """Submit as fast as it can, until told to stop; then say how many pieces were done."""
    cuda = Cuda(device=int(device))
    size = 16 << 20
    pointer = cuda.plain(size)
    say("ready")
    hear()
    stop = threading.Event()

    def until_told() -> None:
        hear()
        stop.set()

    threading.Thread(target=until_told, daemon=True).start()
    done = 0
    while not stop.is_set():
        cuda.fill_async(pointer, done, size)
        cuda.sync()
        done += 1
    say(done)


def keep(size: str, device: str) -> None:
    """Hold data; when told, say whether it's still the same."""
    cuda = Cuda(device=int(device))
    pointer, data = cuda.plain(int(size)), bytes(range(256)) * 4096
    for at in range(0, int(size), len(data)):
        cuda.write(pointer + at, data)
    say("there")
    hear()
    say(all(cuda.read(pointer + at, len(data)) == data for at in range(0, int(size), len(data))))


def count(*devices: str) -> None:
    """Submit for ever, on these devices by turns; whenever told, say how many pieces were done."""
    size, done = 1 << 20, 0
    all_of_them = [Cuda(device=int(each)) for each in devices]
    pointers = []
    for cuda in all_of_them:
        cuda.enter()
        pointers.append(cuda.plain(size))

    def answer() -> None:
        for _ in sys.stdin:
            say(done)
        os._exit(0)

    say("ready")
    threading.Thread(target=answer, daemon=True).start()
    while True:
        for cuda, pointer in zip(all_of_them, pointers, strict=True):
            cuda.enter()
            cuda.fill_async(pointer, done, size)
            cuda.sync()
        done += 1


def replace(size: str) -> None:
    """Hold some, then be another program."""
    Cuda().plain(int(size))
    say(int(size))
    hear()
    command = program("take", str(max(1 << 20, int(size) // 32)))
    os.execv(command[0], command)  # noqa: S606


def by_shell(piece: str) -> None:
    """A shell, and below it the program that takes."""
    words = program("take", piece)
    os.execv("/bin/sh", ["/bin/sh", "-c", '"$@"; exit $?', "sh", *words])  # noqa: S606


def share_by_ipc(size: str) -> None:
    """Memory for another process."""
    from ctypes import byref, c_char, c_uint64

    cuda = Cuda()
    pointer, handle = cuda.plain(int(size)), (c_char * 64)()
    cuda.fill(pointer, 0x07070707, int(size))
    cuda.sync()
    cuda.call("cuIpcGetMemHandle", byref(handle), c_uint64(pointer))
    say(bytes(handle).hex())
    hear()


def share_by_torch(size: str) -> None:
    """A tensor for another process, as PyTorch's own processes pass them on."""
    torch, reductions = import_module("torch"), import_module("torch.multiprocessing.reductions")
    tensor = torch.arange(int(size), device="cuda")
    torch.cuda.synchronize()
    say(pickle.dumps(reductions.reduce_tensor(tensor)).hex())
    hear()


def outside(device: str) -> None:
    """What NVML says of the device: its memory, and what each process has of it."""
    from gpumax.proof.outside import seen

    say(seen(int(device)))


def machine(device: str) -> None:
    """The driver and its device, as this process finds them."""
    cuda = Cuda(device=int(device))
    emulated = b"libgpumax-emu.so" in Path("/proc/self/maps").read_bytes()
    say({
        "driver": cuda.version(), "emulated": emulated, "name": cuda.name(),
        "uuid": cuda.uuid(), "bytes": cuda.total(), "free": cuda.info()[0],
    })  # fmt: skip


def cost(what: str, device: str) -> None:
    """One figure of promise 9, without the layer."""
    from gpumax.proof import costs

    measure = costs.call_ns if what == "allocation" else costs.work_ns
    say(measure(Probe(0, int(device))))


WORDS: Final = {
    "check": check, "take": take, "hold": hold, "work": work, "keep": keep, "count": count, "replace": replace, "by-shell": by_shell, "share-by-ipc": share_by_ipc,
    "share-by-torch": share_by_torch, "outside": outside, "machine": machine, "cost": cost,
}  # fmt: skip


def main(words: list[str]) -> int:
    """Do what the words say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        WORDS[words[0]](*words[1:])  # type: ignore[operator]
    except (CudaError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
