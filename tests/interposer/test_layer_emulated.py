"""The layer before the emulated driver, under real client libraries: cuda-bindings and NVML's own Python module."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, SMALL
from interposer.emulated import end, line, tell
from interposer.layered import Under
from interposer.natives import library

LISTS = INTERPOSER / "names"
MEBIBYTE = 1 << 20


@pytest.fixture
def under(tmp_path: Path) -> Under:
    """One device of a GiB."""
    return Under(tmp_path, {"clock": "virtual", "devices": [SMALL]})


def rows(name: str) -> list[list[str]]:
    return [
        line.split()
        for line in (LISTS / name).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]


HOOKS = {row[0] for row in rows("driver-hooks.txt")}
VERSIONS = [row for row in rows("procaddress.txt") if row[3] in HOOKS]


def test_whatever_is_held_back_is_so_by_every_version_and_kind_of_stream(under: Under) -> None:
    """cuGetProcAddress never gives the driver's own function where the layer has one: by the newest version and at
    the version where each symbol came, for both kinds of default stream, by both of its own versions."""
    said = under.run(
        f"""
        ok(d.cuInit(0))
        lib, hooks = ctypes.CDLL("libcuda.so.1"), {sorted(HOOKS)!r}
        driver = ctypes.CDLL({str(library("emu"))!r})
        def at(library, name): return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        ours = {{at(lib, name): name for name in hooks}}
        theirs = {{at(driver, name): name for name in hooks}}
        wrong, right = [], 0
        def ask(name, version, flags, old):
            global right
            got, status = ctypes.c_void_p(), ctypes.c_int()
            args = [name.encode(), ctypes.byref(got), version, ctypes.c_ulonglong(flags)]
            (lib.cuGetProcAddress if old else lib.cuGetProcAddress_v2)(*args, *([] if old else [ctypes.byref(status)]))
            if got.value in theirs: wrong.append([name, version, flags, theirs[got.value]])
            if got.value in ours: right += 1
            return ours.get(got.value)
        for base, since, streams, symbol in {VERSIONS!r}:
            for old in (False, True):
                for flags in (0, 1, 2):
                    for version in (int(since), 13000, 14000): ask(base, version, flags, old)
        exact = [[symbol, ask(base, int(since), 2 if streams != "-" else 1, False)]
                 for base, since, streams, symbol in {VERSIONS!r} if int(since) <= 13000]  # the emulated driver is 13.0
        say([wrong, [each for each in exact if each[0] != each[1]], right])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said[0] == []
    assert said[1] == []
    assert said[2] > 1000


def test_a_program_with_cuda_bindings_sees_its_share_and_gets_no_more(under: Under) -> None:
    said = under.run(
        """
        current()
        total = ok(d.cuDeviceTotalMem(0))
        data = np.arange(1 << 20, dtype=np.uint32)
        pointer = upload(data)
        say([total >> 20, free() >> 20, name(d.cuMemAlloc(509 << 20)), name(d.cuMemAlloc(508 << 20)),
             bool((download(pointer, data) == data).all())])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == [512, 508, "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS", True]


def test_pools_of_a_real_client_are_held_to_the_limit(under: Under) -> None:
    said = under.run(
        """
        current()
        stream = ok(d.cuStreamCreate(0))
        first = ok(d.cuMemAllocAsync(400 << 20, stream))
        got = [name(d.cuMemAllocAsync(200 << 20, stream))]
        ok(d.cuMemFreeAsync(first, stream))
        got.append(name(d.cuMemAllocAsync(500 << 20, stream)))
        say(got)
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"]


def test_a_pool_counts_on_its_own_device_whichever_stream_asks(tmp_path: Path) -> None:
    here = Under(tmp_path, {"clock": "virtual", "devices": [SMALL, SMALL]})
    said = here.run(
        """
        second, first = current(1), current(0)
        pool, stream = ok(d.cuDeviceGetDefaultMemPool(1)), ok(d.cuStreamCreate(0))
        p = ok(d.cuMemAllocFromPoolAsync(100 << 20, pool, stream))
        on_first = free() >> 20
        ok(d.cuCtxSetCurrent(second))
        say([on_first, free() >> 20])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == [512, 412]


def test_memory_that_was_swapped_out_comes_back_at_its_address(under: Under) -> None:
    said = under.run(
        """
        current()
        lib = ctypes.CDLL("libcuda.so.1")
        data = np.random.default_rng(7).integers(0, 2**32, 10 << 20, dtype=np.uint32)
        pointer = upload(data)
        used = []
        for _ in range(5):
            used.append([lib.gpumax_layer_swap_out(5000), lib.gpumax_layer_swap_in()])
            assert (download(pointer, data) == data).all()
        say(used)
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [[0, 0]] * 5


def test_a_capture_that_comes_to_nothing_holds_nothing(under: Under) -> None:
    """Destroyed with its stream, or broken by a call that none allows: while it lasts the gate can't be closed, afterwards it can;
    and what it would have allocated counts no more. One that comes to a graph counts until that is destroyed."""
    said = under.run(
        """
        current()
        lib, relaxed = ctypes.CDLL("libcuda.so.1"), d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        def hold():
            result = lib.gpumax_layer_hold(1, 10)
            lib.gpumax_layer_hold(0, 0)
            return result
        def begin(mode):
            stream = ok(d.cuStreamCreate(1))
            ok(d.cuStreamBeginCapture(stream, mode))
            ok(d.cuMemAllocAsync(100 << 20, stream))
            said.append([hold(), free() >> 20])
            return stream
        said = []
        ok(d.cuStreamDestroy(begin(relaxed)))
        said.append([hold(), free() >> 20])
        broken = begin(d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        said.append([name(d.cuMemAlloc(4096)), name(d.cuStreamEndCapture(broken)), hold(), free() >> 20])
        graph = ok(d.cuStreamEndCapture(begin(relaxed)))
        said.append([hold(), free() >> 20])
        ok(d.cuGraphDestroy(graph))
        say(said + [free() >> 20])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == [
        [600, 412], [0, 512],
        [600, 412], ["CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", 0, 512],
        [600, 412], [0, 412], 512,
    ]  # fmt: skip


MEMORY = """
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        def seen():
            one, two = pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
            assert (one.total, one.used, one.free) == (two.total, two.used, two.free)
            return [one.total >> 20, one.used >> 20, one.free >> 20]
"""


def test_nvml_shows_the_share_and_what_the_workload_uses_of_it(under: Under) -> None:
    said = under.run(
        MEMORY
        + """
        before = seen()
        current()
        ok(d.cuMemAlloc(100 << 20))
        say([before, seen()])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == [[512, 0, 512], [512, 100, 412]]


def test_nvml_shows_the_processes_of_the_workload_alone(under: Under) -> None:
    """Two processes on one device, of two workloads: each sees itself, and what watches beside one sees that one."""
    program = """
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        current()
        ok(d.cuMemAlloc(10 << 20))
        say("there"); wait_for_a_line()
        say([os.getpid(), [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]])
    """
    other = under.start(program, GPUMAX_LIMIT="256Mi", GPUMAX_GROUP="other")
    assert other.stdout is not None
    assert other.stdout.readline() == '"there"\n'
    own = under.start(program, GPUMAX_LIMIT="256Mi")
    assert own.stdout is not None
    assert own.stdout.readline() == '"there"\n'
    watch = under.run(
        """
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        say([each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)])
        """,
        GPUMAX_LIMIT="256Mi",
    )
    assert watch == [own.pid]
    for each in (own, other):
        out, _ = each.communicate("on\n", timeout=60)
        assert out == f"[{each.pid}, [{each.pid}]]\n"


def test_without_nvml_there_is_none_and_no_crash(under: Under) -> None:
    said = under.run(
        """
        import pynvml
        try: pynvml.nvmlInit()
        except pynvml.NVMLError as error: say(str(error))
        """,
        GPUMAX_REAL_LIBNVIDIA_ML="/nowhere/libnvidia-ml.so.1",
    )
    assert said == "NVML Shared Library Not Found"


ELSEWHERE = """
def elsewhere():
    lib, out, opened = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64(), ctypes.c_uint64()
    lib.gpumax_layer_elsewhere(ctypes.byref(out), ctypes.byref(opened))
    return [out.value, opened.value]
"""


def test_memory_that_two_processes_use_counts_once_where_it_was_made(under: Under) -> None:
    """By handle, as PyTorch's processes pass tensors on: both see what is free of their one limit, and it comes back with its owner."""
    owner = under.start(
        f"""
        {textwrap.indent(ELSEWHERE, " " * 8).lstrip()}
        current()
        p = ok(d.cuMemAlloc(100 << 20))
        ok(d.cuMemsetD8(p, 7, 100 << 20))
        handle = ok(d.cuIpcGetMemHandle(p))
        say([(ctypes.c_char * 64).from_address(handle.getPtr()).raw.hex(), free() >> 20, elsewhere()])
        wait_for_a_line()
        ok(d.cuMemFree(p))
        say(free() >> 20)
        """,
        GPUMAX_LIMIT="256Mi",
    )
    handle, left, given_out = line(owner)
    said = under.run(
        f"""
        {textwrap.indent(ELSEWHERE, " " * 8).lstrip()}
        current()
        handle = d.CUipcMemHandle()
        ctypes.memmove(handle.getPtr(), bytes.fromhex("{handle}"), 64)
        p = ok(d.cuIpcOpenMemHandle(handle, 1))
        seen = int(download(p, np.zeros(1, dtype=np.uint8))[0])
        most = [name(d.cuMemAlloc(157 << 20)), name(d.cuMemAlloc(150 << 20))]
        ok(d.cuIpcCloseMemHandle(p))
        say([seen, most, free() >> 20, elsewhere()])
        """,
        GPUMAX_LIMIT="256Mi",
    )
    tell(owner)
    assert (left, given_out) == (156, [1, 0])
    assert said == [7, ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"], 6, [0, 1]]
    assert line(owner) == 256
    end(owner)


def test_physical_memory_that_comes_by_a_descriptor_counts_where_it_was_made(under: Under) -> None:
    said = under.run(
        f"""
        {textwrap.indent(ELSEWHERE, " " * 8).lstrip()}
        current()
        kind = d.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        wish = d.CUmemAllocationProp()
        wish.type = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wish.location.type, wish.location.id = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, 0
        wish.requestedHandleTypes = kind
        made = ok(d.cuMemCreate(32 << 20, wish, 0))
        file = ok(d.cuMemExportToShareableHandle(made, kind, 0))
        again = ok(d.cuMemImportFromShareableHandle(file, kind))
        counted = [free() >> 20, elsewhere()]
        ok(d.cuMemRelease(again))
        ok(d.cuMemRelease(made))
        say(counted + [free() >> 20])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [32, [1, 1], 64]
