"""Work on an emulated device: kernels do what they say, in the order of streams, and take the time that the figures give."""

from __future__ import annotations

import pytest

from interposer.conftest import SMALL
from interposer.emulated import Machine


def test_kernels_compute(machine: Machine) -> None:
    program = """
    current()
    m = load()
    rng = np.random.default_rng(3)
    n = 5000
    x, y = rng.random(n, np.float32), rng.random(n, np.float32)
    dx, dy = upload(x), upload(y)
    ok(launch(m, "axpy", dy, dx, ctypes.c_float(2.0), n))
    assert (download(dy, y) == np.float32(2) * x + y).all()
    a, b = rng.random((7, 5), np.float32), rng.random((5, 3), np.float32)
    c = ok(d.cuMemAlloc(7 * 3 * 4))
    ok(launch(m, "gemm", c, upload(a), upload(b), ctypes.c_uint(7), ctypes.c_uint(3), ctypes.c_uint(5)))
    assert np.allclose(download(c, np.empty((7, 3), np.float32)), a @ b, rtol=1e-5)
    ok(launch(m, "fill", dx, ctypes.c_uint(7), n))
    assert (download(dx, np.empty(n, np.uint32)) == 7).all()
    signs = upload(np.array([-1, 2], np.float32))
    ok(launch(m, "relu", signs, 2))
    assert download(signs, np.empty(2, np.float32)).tolist() == [0, 2]
    sums = ok(d.cuMemAlloc(16))
    ok(launch(m, "checksum", sums, dx, 4 * n))
    ok(launch(m, "touch", int(dx) + 4 * n - 4, 4, ctypes.c_uint(1)))
    ok(launch(m, "checksum", int(sums) + 8, dx, 4 * n))
    one, other = download(sums, np.empty(2, np.uint64))
    say(bool(one != other and one != 0))
    """
    assert machine.run(program)


def test_images_name_kernels_and_their_time(machine: Machine) -> None:
    program = """
    current()
    m = load("kernel step as spin us 10\\nkernel axpy\\nglobal table 64\\n# a note\\n")
    pointer, size = ok(d.cuModuleGetGlobal(m, b"table"))
    assert int(size) == 64 and not download(pointer, np.ones(64, np.uint8)).any()
    library = ok(d.cuLibraryLoadData(b"gpumax-emu\\nkernel empty\\0", [], [], 0, [], [], 0))
    function = ok(d.cuKernelGetFunction(ok(d.cuLibraryGetKernel(library, b"empty"))))
    ok(d.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0))
    begin, end = ok(d.cuEventCreate(0)), ok(d.cuEventCreate(0))
    ok(d.cuEventRecord(begin, 0))
    for i in range(100):
        ok(launch(m, "step", 0))
    ok(d.cuEventRecord(end, 0))
    early = name(d.cuEventElapsedTime(begin, end))
    ok(d.cuEventSynchronize(end))
    bad = [name(d.cuModuleLoadData(image)) for image in (
        b"gpumax-emu\\nkernel nonsense\\0", b"gpumax-emu\\nkernel axpy us x\\0", b"\\x7fELF\\0\\0", b".version 8.0\\0")]
    say([early, ok(d.cuEventElapsedTime(begin, end)), name(d.cuModuleGetFunction(m, b"gemm")), bad,
         name(d.cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0)), name(d.cuLaunchKernel(function, 1, 1, 1, 64, 64, 1, 0, 0, 0, 0))])
    """
    early, elapsed, missing, bad, *dims = machine.run(program)
    assert early == "CUDA_ERROR_NOT_READY"
    assert elapsed == pytest.approx(1.0, rel=1e-4)
    assert missing == "CUDA_ERROR_NOT_FOUND"
    assert bad == ["CUDA_ERROR_INVALID_IMAGE"] * 2 + [
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "CUDA_ERROR_INVALID_IMAGE",
    ]
    assert dims == ["CUDA_ERROR_INVALID_VALUE"] * 2


TIMED = """
current()
n = 100 << 20
p, q = ok(d.cuMemAlloc(n)), ok(d.cuMemAlloc(n))
host = ok(d.cuMemHostAlloc(n, 0))
other = ok(d.cuMemHostAlloc(n, 0))
s, t = ok(d.cuStreamCreate(1)), ok(d.cuStreamCreate(1))
def timed(*work):
    ok(d.cuCtxSynchronize())
    begin, end = ok(d.cuEventCreate(0)), ok(d.cuEventCreate(0))
    ok(d.cuEventRecord(begin, s))
    for each in work:
        each()
    ok(d.cuEventRecord(end, t))
    ok(d.cuStreamWaitEvent(s, end, 0))
    ok(d.cuEventRecord(end, s))
    ok(d.cuEventSynchronize(end))
    return ok(d.cuEventElapsedTime(begin, end))
to = lambda stream: lambda: ok(d.cuMemcpyHtoDAsync(p, host, n, stream))
out = lambda stream: lambda: ok(d.cuMemcpyDtoHAsync(other, q, n, stream))
say([timed(to(s)), timed(out(s)), timed(to(s), to(t)), timed(to(s), out(t))])
"""


def test_copies_take_what_the_link_takes_and_both_directions_go_at_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    device = SMALL | {"h2d": 10, "d2h": 5, "latency_us": 0}
    machine = Machine(tmp_path_factory.mktemp("m"), {"clock": "virtual", "devices": [device]})
    to, out, same, both = machine.run(TIMED)
    milliseconds = (100 << 20) / 10 / 1e6
    assert to == pytest.approx(milliseconds, rel=0.01)
    assert out == pytest.approx(2 * milliseconds, rel=0.01)
    assert same == pytest.approx(2 * milliseconds, rel=0.01)
    assert both == pytest.approx(2 * milliseconds, rel=0.01)


def test_streams_wait_for_each_other_as_they_should(machine: Machine) -> None:
    """The legacy default stream waits for blocking ones and they for it; others go their own way, but for events."""
    program = """
    current()
    m = load("kernel slow as sleep us 1000\\nkernel quick as sleep us 10\\n")
    def ends(first, second, link=False):
        ok(d.cuCtxSynchronize())
        marks = [ok(d.cuEventCreate(0)) for _ in range(3)]
        ok(d.cuEventRecord(marks[0], first))
        ok(launch(m, "slow", 0, stream=first))
        ok(d.cuEventRecord(marks[1], first))
        if link:
            ok(d.cuStreamWaitEvent(second, marks[1], 0))
        ok(launch(m, "quick", 0, stream=second))
        ok(d.cuEventRecord(marks[2], second))
        ok(d.cuCtxSynchronize())
        return ok(d.cuEventElapsedTime(marks[0], marks[2]))
    blocking, free, per_thread = ok(d.cuStreamCreate(0)), ok(d.cuStreamCreate(1)), d.CUstream(2)
    say({
        "legacy, then blocking": ends(0, blocking), "blocking, then legacy": ends(blocking, 0),
        "legacy, then free": ends(0, free), "free, then legacy": ends(free, 0),
        "per thread, then legacy": ends(per_thread, 0), "per thread, then blocking": ends(per_thread, blocking),
        "free, then blocking by event": ends(free, blocking, True),
    })
    """
    after, aside = pytest.approx(1.01, rel=1e-3), pytest.approx(0.01, rel=1e-2)
    assert machine.run(program) == {
        "legacy, then blocking": after, "blocking, then legacy": after, "legacy, then free": aside,
        "free, then legacy": aside, "per thread, then legacy": after, "per thread, then blocking": aside,
        "free, then blocking by event": after,
    }  # fmt: skip


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_work_is_ordered_whatever_the_clock(clock: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Many small things in several streams, linked by events: results are those of one after the other."""
    machine = Machine(tmp_path_factory.mktemp("m"), {"clock": clock, "devices": [SMALL | {"latency_us": 0}]})
    program = """
    current()
    m = load()
    n = 1000
    x = upload(np.zeros(n, np.float32))
    one = upload(np.ones(n, np.float32))
    streams = [ok(d.cuStreamCreate(1)) for _ in range(3)]
    heard = []
    event = ok(d.cuEventCreate(2))
    for i in range(60):
        stream = streams[i % 3]
        ok(d.cuStreamWaitEvent(stream, event, 0))
        ok(launch(m, "axpy", x, one, ctypes.c_float(1.0), n, stream=stream))
        ok(d.cuEventRecord(event, stream))
    Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    hear = Callback(lambda data: heard.append(name(d.cuMemAlloc(10))))
    ok(d.cuStreamWaitEvent(streams[0], event, 0))
    ok(d.cuLaunchHostFunc(streams[0], d.CUhostFn(ctypes.cast(hear, ctypes.c_void_p).value), 0))
    ok(d.cuStreamSynchronize(streams[0]))
    say([heard, download(x, np.empty(n, np.float32)).tolist() == [60.0] * n])
    """
    assert machine.run(program) == [["CUDA_ERROR_NOT_PERMITTED"], True]


def test_a_kernel_that_touches_what_isnt_there_breaks_its_context_alone(machine: Machine) -> None:
    program = """
    current()
    m = load()
    p = ok(d.cuMemAlloc(4096))
    ok(launch(m, "touch", p, 4097, ctypes.c_uint(1)))
    said = [name(d.cuCtxSynchronize()), name(d.cuMemAlloc(10)), name(d.cuMemGetInfo())]
    ok(d.cuDevicePrimaryCtxReset(0))
    current()
    said.append(name(d.cuMemAlloc(10)))
    say(said)
    """
    # As large as asked for, and no byte more: 4096 is a whole number of the steps in which memory is given.
    assert machine.run(program) == ["CUDA_ERROR_ILLEGAL_ADDRESS"] * 3 + ["CUDA_SUCCESS"]


def test_a_kernel_that_never_ends_ends_with_its_context(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine(tmp_path_factory.mktemp("m"), {"devices": [SMALL]})
    program = """
    ok(d.cuInit(0))
    context = ok(d.cuCtxCreate(None, 0, 0))
    ok(launch(load(), "hang"))
    state = name(d.cuStreamQuery(0))
    ok(d.cuCtxDestroy(context))
    current()
    ok(launch(load(), "empty"))
    say([state, name(d.cuCtxSynchronize())])
    """
    assert machine.run(program) == ["CUDA_ERROR_NOT_READY", "CUDA_SUCCESS"]


def test_functions_are_found_by_name_version_and_stream(machine: Machine) -> None:
    """Each version is its own symbol; a program with per-thread default streams gets the twins."""
    program = """
    lib = ctypes.CDLL("libcuda.so.1")
    def symbol(text):
        return ctypes.cast(getattr(lib, text), ctypes.c_void_p).value
    def found(text, version, flags=0):
        out, status = ctypes.c_void_p(), ctypes.c_int(-1)
        code = lib.cuGetProcAddress_v2(text.encode(), ctypes.byref(out), version, ctypes.c_uint64(flags), ctypes.byref(status))
        return code, out.value, status.value
    def same(text, version, flags, wanted):
        assert found(text, version, flags) == (0, symbol(wanted), 0), (text, version, flags)
    same("cuCtxCreate", 2000, 0, "cuCtxCreate")
    same("cuCtxCreate", 11000, 0, "cuCtxCreate_v2")
    same("cuCtxCreate", 12000, 0, "cuCtxCreate_v3")
    same("cuCtxCreate", 13000, 0, "cuCtxCreate_v4")
    same("cuMemAlloc", 12000, 0, "cuMemAlloc_v2")
    same("cuMemcpyHtoDAsync", 12000, 0, "cuMemcpyHtoDAsync_v2")
    same("cuMemcpyHtoDAsync", 12000, 2, "cuMemcpyHtoDAsync_v2_ptsz")
    same("cuMemcpyHtoD", 6000, 2, "cuMemcpyHtoD_v2")
    same("cuMemcpyHtoD", 12000, 2, "cuMemcpyHtoD_v2_ptds")
    same("cuLaunchKernel", 12000, 1, "cuLaunchKernel")
    same("cuGetProcAddress", 11030, 0, "cuGetProcAddress")
    same("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2")
    say([found("cuNothing", 12000)[::2], found("cuLaunchKernelEx", 11000)[::2], found("cuMemcpyBatchAsync", 13000)[0] == 0,
         found("cuStreamBeginCaptureToCig", 13010)[::2]])
    """
    nothing, early, newer, newest = machine.run(program)
    assert nothing == [500, 1]
    assert early == [500, 2]
    assert newer
    assert newest == [500, 1]  # of 13.1, and the driver is 13.0


def test_graphs_are_captured_and_launched_as_often_as_one_likes(machine: Machine) -> None:
    program = """
    current()
    m = load()
    n = 256
    x, one = upload(np.zeros(n, np.float32)), upload(np.ones(n, np.float32))
    s, t = ok(d.cuStreamCreate(1)), ok(d.cuStreamCreate(1))
    mode = d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    ok(d.cuStreamBeginCapture(s, mode))
    ok(launch(m, "axpy", x, one, ctypes.c_float(1.0), n, stream=s))
    fork, join = ok(d.cuEventCreate(2)), ok(d.cuEventCreate(2))
    ok(d.cuEventRecord(fork, s))
    ok(d.cuStreamWaitEvent(t, fork, 0))
    ok(launch(m, "axpy", x, one, ctypes.c_float(10.0), n, stream=t))
    ok(d.cuEventRecord(join, t))
    ok(d.cuStreamWaitEvent(s, join, 0))
    status = name(d.cuStreamSynchronize(s))
    graph = ok(d.cuStreamEndCapture(s))
    untouched = float(download(x, np.empty(n, np.float32)).max())
    exe = ok(d.cuGraphInstantiate(graph, 0))
    for _ in range(3):
        ok(d.cuGraphLaunch(exe, s))
    ok(d.cuStreamSynchronize(s))
    three = float(download(x, np.empty(n, np.float32)).max())
    ok(d.cuStreamBeginCapture(s, mode))
    forbidden = name(d.cuMemAlloc(100))
    broken = name(d.cuStreamEndCapture(s))
    ok(d.cuStreamBeginCapture(s, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
    allowed = name(d.cuMemAlloc(100))
    ok(d.cuStreamEndCapture(s))
    say([status, untouched, three, forbidden, broken, allowed])
    """
    assert machine.run(program) == [
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", 0.0, 33.0, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "CUDA_SUCCESS",
    ]  # fmt: skip
