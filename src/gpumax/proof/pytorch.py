"""PyTorch under a share, where it is installed."""

from __future__ import annotations

import pickle
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from gpumax.proof.checks import Missed, NotShown, Probe, Section
from gpumax.proof.cuda import MIB
from gpumax.proof.others import Other

PYTORCH = Section("pytorch", 0)
SWAPPED = Section("pytorch", 0, settings={"GPUMAX_SWAP": "1"})


def _torch(probe: Probe) -> Any:
    if find_spec("torch") is None:
        raise NotShown("PyTorch isn't installed beside gpumax")
    torch = import_module("torch")
    if not torch.cuda.is_available():
        raise NotShown("PyTorch finds no device here")
    torch.cuda.set_device(probe.device)
    return torch


@PYTORCH.check("torch memory", "it sees the share, gets nearly all of it, and is refused more as it expects")
def memory(probe: Probe) -> None:
    torch = _torch(probe)
    free, total = torch.cuda.mem_get_info()
    if total != probe.limit:
        raise Missed(f"it sees {total} bytes; declared are {probe.limit}")
    kept = torch.empty(free * 3 // 4, dtype=torch.uint8, device="cuda")
    try:
        torch.empty(free, dtype=torch.uint8, device="cuda")
    except torch.cuda.OutOfMemoryError:
        pass
    else:
        raise Missed("more than the limit was given out")
    del kept
    torch.cuda.empty_cache()
    torch.empty(free * 3 // 4, dtype=torch.uint8, device="cuda")


@PYTORCH.check("torch work", "what it computes under the layer is what it computes on the CPU")
def work(probe: Probe) -> None:
    torch = _torch(probe)
    # Small whole numbers, so that every order of additions gives the same sums.
    left, right = ((torch.arange(512 * 512) * each % 7).reshape(512, 512).float() for each in (3, 5))
    if not torch.equal((left.cuda() @ right.cuda()).cpu(), left @ right):
        raise Missed("a product of matrices differs")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        doubled = left.cuda() * 2
    stream.synchronize()
    if not torch.equal(doubled.cpu(), left * 2):
        raise Missed("work on a stream of its own differs")


@PYTORCH.check("torch graph", "a captured graph is launched as usual")
def graph(probe: Probe) -> None:
    torch = _torch(probe)
    value = torch.zeros(MIB, device="cuda")
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        value += 1
    for _ in range(3):
        captured.replay()
    torch.cuda.synchronize()
    if float(value.sum()) != 3 * MIB:
        raise Missed(f"three launches add up to {float(value.sum()) / MIB}")


@SWAPPED.check("torch swap", "its tensors come back whole")
def swap(probe: Probe) -> None:
    torch = _torch(probe)
    from gpumax.proof.swaps import exchange

    held = [torch.arange(size, device="cuda") for size in (MIB, 4 * MIB, 1000)]
    for _ in range(10):
        exchange(probe)
        if not all(torch.equal(each.cpu(), torch.arange(len(each))) for each in held):
            raise Missed("a tensor came back changed")


@SWAPPED.check("torch shared", "a tensor that another process passes on is there, though it can be swapped")
def shared(probe: Probe) -> None:
    torch = _torch(probe)
    with Other("share-by-torch", str(MIB)) as other:
        rebuild, words = pickle.loads(bytes.fromhex(other.hear()))  # noqa: S301  (of our own child)
        if not torch.equal(rebuild(*words).cpu(), torch.arange(MIB)):
            raise Missed("the tensor is another one")
        other.tell()
