"""Contexts that end, break, or began where nobody saw it: what was in them is awaited, moved and given back all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interposer.conftest import SMALL
from interposer.layered import Under
from interposer.swapping import EMULATED, swapping
from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]


@pytest.fixture
def under(tmp_path: Path) -> Under:
    """Two emulated devices of a GiB, in real time."""
    return Under(tmp_path, {"clock": "real", "devices": [SMALL, SMALL]})


def said(under: Under, program: str, **settings: str) -> Any:
    return under.run(EMULATED + program, **({"GPUMAX_SWAP": "1", "GPUMAX_LIMIT": "512Mi"} | settings))


def test_what_was_in_a_broken_context_is_given_back_when_it_ends(under: Under) -> None:
    """After an error that sticks a program may reset the device and go on; nothing of before is on the device then, or in the way."""
    got = said(
        under,
        """
        def used():
            free_bytes, total = ctypes.c_size_t(), ctypes.c_size_t()
            assert emu.cuMemGetInfo_v2(ctypes.byref(free_bytes), ctypes.byref(total)) == 0
            return (total.value - free_bytes.value) >> 20
        before = used()
        upload(data); broken = name(launch(load(), "fault")); broken = name(d.cuCtxSynchronize())
        ok(d.cuDevicePrimaryCtxReset(0))
        current()
        after = [free() >> 20, used() - before]
        p = upload(data)
        say([broken, after, out()[0], back()[0], bool((download(p, data) == data).all())])
        """,
    )
    assert got == ["CUDA_ERROR_ILLEGAL_ADDRESS", [512, 0], 0, 0, True]


def test_a_context_that_can_not_be_destroyed_keeps_what_is_in_it(under: Under) -> None:
    """The primary one: the driver refuses, and the program goes on with it."""
    got = said(
        under,
        """
        context = current()
        p, small = upload(data), upload(data[:1000])
        refused = name(d.cuCtxDestroy(context))
        say([refused, bool((download(p, data) == data).all()), bool((download(small, data[:1000]) == data[:1000]).all()), free() >> 20])
        """,
    )
    assert got == ["CUDA_ERROR_INVALID_CONTEXT", True, True, 431]


@pytest.mark.parametrize(
    "end", ["d.cuCtxDestroy(context)", "d.cuDevicePrimaryCtxReset(0)", "d.cuDevicePrimaryCtxRelease(0)"]
)
@pytest.mark.parametrize("stream", ["ok(d.cuStreamCreate(1))", "d.CUstream(2)"])
def test_a_capture_ends_with_its_context(end: str, stream: str, under: Under) -> None:
    """Nobody would be held up any more if it counted for ever."""
    made = "ok(d.cuCtxCreate(None, 0, 0))" if "Destroy" in end else "ok(d.cuCtxGetCurrent())"
    got = said(
        under,
        f"""
        def hold():
            result = lib.gpumax_layer_hold(1, 10)
            lib.gpumax_layer_hold(0, 0)
            return result
        context = {made}
        ok(d.cuStreamBeginCapture({stream}, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
        during = hold()
        ok({end})
        if "Release" in {end!r} and ok(d.cuDevicePrimaryCtxGetState(0))[1]:
            ok({end})
        say([during, hold()])
        """,
    )
    assert got == [600, 0]


def test_a_capture_of_a_threads_own_stream_ends_with_the_thread(under: Under) -> None:
    got = said(
        under,
        """
        context = ok(d.cuCtxGetCurrent())
        def capture():
            ok(d.cuCtxSetCurrent(context))
            ok(d.cuStreamBeginCapture(d.CUstream(2), d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
        thread = threading.Thread(target=capture)
        thread.start(); thread.join()
        say(lib.gpumax_layer_hold(1, 5000))
        """,
    )
    assert got == 0


def test_a_stream_that_only_joined_a_capture_does_not_end_it(under: Under) -> None:
    got = said(
        under,
        """
        relaxed = d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        one, other, event = ok(d.cuStreamCreate(1)), ok(d.cuStreamCreate(1)), ok(d.cuEventCreate(0))
        ok(d.cuStreamBeginCapture(one, relaxed))
        ok(d.cuEventRecord(event, one)); ok(d.cuStreamWaitEvent(other, event, 0))
        wrong = name(d.cuStreamEndCapture(other))
        say([wrong, lib.gpumax_layer_hold(1, 10), ok(d.cuStreamIsCapturing(one)).name])
        """,
    )
    assert got[0] != "CUDA_SUCCESS"
    assert got[1] == (600 if "ACTIVE" in got[2] or "INVALIDATED" in got[2] else 0)


def test_work_in_a_context_that_has_no_memory_of_pieces_is_awaited_too(under: Under) -> None:
    """Another device's, which reads what is to leave the first one."""
    got = said(
        under,
        """
        first = ok(d.cuCtxGetCurrent())
        p = upload(data)
        second = current(1)
        ok(d.cuCtxEnablePeerAccess(first, 0))
        part = data[: 100 << 10]
        q, stream, module = ok(d.cuMemAlloc(part.nbytes)), ok(d.cuStreamCreate(1)), load()
        ok(launch(module, "sleep", 300_000_000, stream=stream))
        ok(launch(module, "copy", q, p, part.nbytes, stream=stream))
        gone, read = out(), name(d.cuStreamSynchronize(stream))
        back()
        say([gone[0], read, bool((download(q, part) == part).all())])
        """,
    )
    assert got == [0, "CUDA_SUCCESS", True]


def test_what_could_not_leave_is_copied_anew_the_next_time(layer: Layer) -> None:
    """Its bytes had reached the host already, and the program wrote to it afterwards."""
    got = swapping(
        layer,
        """
    it = fill(40)
    first = out()[0]; back()
    data = random.randbytes(it[1])
    c.write(it[0], data)
    say([first, out()[0], back()[0], c.read(it[0], it[1]) == data])
    """,
        SCRIPT_FAIL="cuMemUnmap:1",
    )
    assert got == [3, 0, 0, True]
