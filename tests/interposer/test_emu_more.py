"""Managed memory, words that streams wait for, what a capture says of itself; and every public name is there."""

from __future__ import annotations

import re
import subprocess

import pytest

from gpumax.native import library
from interposer.conftest import INTERPOSER, SMALL
from interposer.emulated import Machine


@pytest.mark.parametrize(("name", "names"), [("emu", "driver.txt"), ("emu-ml", "nvml.txt")])
def test_every_public_function_is_exported(name: str, names: str) -> None:
    """Whatever a program links against is there; what isn't emulated says so when it is called."""
    path = library("emu").with_name(f"libgpumax-{name}.so")
    table = subprocess.run(
        ["readelf", "-W", "--dyn-syms", path], check=True, capture_output=True, text=True
    ).stdout
    exported = set(re.findall(r"(?:GLOBAL|WEAK)\s+DEFAULT\s+(?!UND)\w+\s+(\S+)", table))
    assert set((INTERPOSER / "names" / names).read_text().split()) - exported == set()


def test_managed_memory_takes_advice_and_moves(machine: Machine) -> None:
    program = """
    current()
    p = ok(d.cuMemAllocManaged(1 << 20, 1))
    here = d.CUmemLocation()
    here.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    advice = d.CUmem_advise.CU_MEM_ADVISE_SET_READ_MOSTLY
    plain = ok(d.cuMemAlloc(1 << 20))
    said = [name(d.cuMemAdvise(p, 1 << 20, advice, here)), name(d.cuMemPrefetchAsync(p, 1 << 20, here, 0, 0)),
            name(d.cuMemAdvise(plain, 1 << 20, advice, here)), name(d.cuMemPrefetchAsync(p, 2 << 20, here, 0, 0))]
    ctypes.memset(int(p), 3, 1 << 20)  # the host writes it, too
    say(said + [bool((download(p, np.empty(1 << 20, np.uint8)) == 3).all())])
    """
    wrong = "CUDA_ERROR_INVALID_VALUE"
    assert machine.run(program) == ["CUDA_SUCCESS", "CUDA_SUCCESS", wrong, wrong, True]


def test_a_stream_waits_for_a_word_that_another_writes(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine(tmp_path_factory.mktemp("m"), {"devices": [SMALL]})
    program = """
    current()
    p = upload(np.zeros(4, np.uint32))
    host = ok(d.cuMemHostAlloc(8, 0))
    ctypes.memset(int(host), 0, 8)
    s, t = ok(d.cuStreamCreate(1)), ok(d.cuStreamCreate(1))
    ok(d.cuStreamWaitValue32(s, p, 5, 0))
    ok(d.cuStreamWriteValue64(s, int(p) + 8, 7, 0))
    waiting = name(d.cuStreamQuery(s))
    ok(d.cuStreamWriteValue32(t, p, 6, 0))
    ok(d.cuStreamSynchronize(s))
    ok(d.cuStreamWaitValue64(t, int(host), 1, 1))
    held = name(d.cuStreamQuery(t))
    ctypes.c_uint64.from_address(int(host)).value = 1
    ok(d.cuStreamSynchronize(t))
    say([waiting, held, download(p, np.empty(4, np.uint32)).tolist(), name(d.cuStreamWaitValue32(s, int(p) + 1, 0, 0)),
         name(d.cuStreamWriteValue32(s, 4096, 0, 0))])
    """
    assert machine.run(program) == [
        "CUDA_ERROR_NOT_READY", "CUDA_ERROR_NOT_READY", [6, 0, 7, 0], "CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_INVALID_VALUE",
    ]  # fmt: skip


def test_a_capture_says_that_it_is_one(machine: Machine) -> None:
    program = """
    current()
    s = ok(d.cuStreamCreate(1))
    before = ok(d.cuStreamGetCaptureInfo(s))[0].name
    ok(d.cuStreamBeginCapture(s, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
    status, number, graph, *_ = ok(d.cuStreamGetCaptureInfo(s))
    ok(launch(load(), "empty", stream=s))
    captured = ok(d.cuStreamEndCapture(s))
    parameters = d.CUDA_GRAPH_INSTANTIATE_PARAMS()
    exe = ok(d.cuGraphInstantiateWithParams(captured, parameters))
    ok(d.cuGraphLaunch(exe, s))
    say([before, status.name, int(graph) == int(captured), ok(d.cuGraphGetNodes(captured))[1], name(d.cuCtxSynchronize())])
    """
    assert machine.run(program) == [
        "CU_STREAM_CAPTURE_STATUS_NONE", "CU_STREAM_CAPTURE_STATUS_ACTIVE", True, 1, "CUDA_SUCCESS",
    ]  # fmt: skip
