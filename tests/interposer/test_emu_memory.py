"""Memory of an emulated device: it is counted, it runs out, it comes back, and what is not there can't be touched."""

from __future__ import annotations

from interposer.emulated import Machine


def test_memory_is_counted_and_runs_out(machine: Machine) -> None:
    """A context takes its part; an allocation that doesn't fit is refused at once and takes nothing."""
    program = """
    current()
    before = free()
    a = ok(d.cuMemAlloc(600 << 20))
    over = name(d.cuMemAlloc(600 << 20))
    full = free()
    ok(d.cuMemFree(a))
    say([before >> 20, over, full >> 20, free() >> 20, name(d.cuMemFree(a)), name(d.cuMemAlloc(1 << 62)), name(d.cuMemAlloc(0))])
    """
    assert machine.run(program) == [
        1024 - 64, "CUDA_ERROR_OUT_OF_MEMORY", 1024 - 64 - 600, 1024 - 64,
        "CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_INVALID_VALUE",
    ]  # fmt: skip


def test_every_family_is_counted_and_what_is_of_the_host_is_not(machine: Machine) -> None:
    program = """
    current()
    whole, used = free(), {}
    def family(what, allocate, release):
        got = allocate()
        used[what] = (whole - free()) >> 20
        release(got)
        assert free() == whole, what
    n = 64 << 20
    prop = d.CUmemAllocationProp()
    prop.type = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    prop.location.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    array = d.CUDA_ARRAY_DESCRIPTOR()
    array.Width, array.Height, array.Format, array.NumChannels = 4096, 4096, d.CUarray_format.CU_AD_FORMAT_FLOAT, 1
    family("plain", lambda: ok(d.cuMemAlloc(n)), lambda p: ok(d.cuMemFree(p)))
    family("pitch", lambda: ok(d.cuMemAllocPitch(1000, 1 << 16, 4))[0], lambda p: ok(d.cuMemFree(p)))
    family("managed", lambda: ok(d.cuMemAllocManaged(n, 1)), lambda p: ok(d.cuMemFree(p)))
    family("virtual", lambda: ok(d.cuMemCreate(n, prop, 0)), lambda h: ok(d.cuMemRelease(h)))
    family("async", lambda: ok(d.cuMemAllocAsync(n, 0)), lambda p: (ok(d.cuMemFreeAsync(p, 0)), ok(d.cuStreamSynchronize(0))))
    family("array", lambda: ok(d.cuArrayCreate(array)), lambda a: ok(d.cuArrayDestroy(a)))
    family("host", lambda: ok(d.cuMemHostAlloc(n, 0)), lambda p: ok(d.cuMemFreeHost(p)))
    say(used)
    """
    assert machine.run(program) == {
        "plain": 64, "pitch": 64, "managed": 64, "virtual": 64, "async": 64, "array": 64, "host": 0,
    }  # fmt: skip


def test_a_pool_keeps_what_it_was_told_to(machine: Machine) -> None:
    program = """
    current()
    whole = free()
    pool = ok(d.cuDeviceGetDefaultMemPool(ok(d.cuDeviceGet(0))))
    threshold = d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
    reserved = d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT
    ok(d.cuMemPoolSetAttribute(pool, threshold, d.cuuint64_t(32 << 20)))
    p = ok(d.cuMemAllocAsync(100 << 20, 0))
    ok(d.cuMemFreeAsync(p, 0))
    again = name(d.cuMemFreeAsync(p, 0))
    ok(d.cuStreamSynchronize(0))
    kept = int(ok(d.cuMemPoolGetAttribute(pool, reserved)))
    taken = whole - free()
    ok(d.cuMemPoolTrimTo(pool, 0))
    say([kept >> 20, taken >> 20, whole - free(), again])
    """
    assert machine.run(program) == [32, 32, 0, "CUDA_ERROR_INVALID_VALUE"]


def test_addresses_stay_while_memory_behind_them_goes_and_comes(machine: Machine) -> None:
    """What the swap is built on: reserve once, map, unmap and release, map other memory at the same place."""
    program = """
    current()
    whole = free()
    prop = d.CUmemAllocationProp()
    prop.type = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    prop.location.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    step = ok(d.cuMemGetAllocationGranularity(prop, d.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM))
    rights = d.CUmemAccessDesc()
    rights.location.type = prop.location.type
    rights.flags = d.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    n = 8 << 20
    at = ok(d.cuMemAddressReserve(2 * n, 0, 0, 0))
    pattern = np.arange(n // 4, dtype=np.uint32)
    notes = {"step": step, "reserved": whole - free()}
    notes["unmapped"] = name(d.cuMemcpyHtoD(at, pattern.ctypes.data, n))
    for round in range(3):
        handle = ok(d.cuMemCreate(n, prop, 0))
        ok(d.cuMemMap(at, n, 0, handle, 0))
        notes["twice"] = name(d.cuMemMap(at, n, 0, handle, 0))
        notes["no rights"] = name(d.cuMemcpyHtoD(at, pattern.ctypes.data, n))
        ok(d.cuMemSetAccess(at, n, [rights], 1))
        ok(d.cuMemRelease(handle))
        notes["released twice"] = name(d.cuMemRelease(handle))
        ok(d.cuMemcpyHtoD(at, pattern.ctypes.data, n))
        assert (download(at, pattern) == pattern).all()
        notes["taken"] = whole - free()
        notes["beyond"] = name(d.cuMemcpyHtoD(int(at) + n - 4, pattern.ctypes.data, 8))
        notes["half"] = name(d.cuMemUnmap(at, n // 2))
        ok(d.cuMemUnmap(at, n))
        notes["left"] = whole - free()
    notes["free"] = name(d.cuMemAddressFree(at, 2 * n))
    notes["odd"] = name(d.cuMemCreate(step + 1, prop, 0))
    say(notes)
    """
    assert machine.run(program) == {
        "step": 2 << 20, "reserved": 0, "unmapped": "CUDA_ERROR_INVALID_VALUE", "twice": "CUDA_ERROR_INVALID_VALUE",
        "no rights": "CUDA_ERROR_INVALID_VALUE", "released twice": "CUDA_ERROR_INVALID_VALUE", "taken": 8 << 20,
        "beyond": "CUDA_ERROR_INVALID_VALUE", "half": "CUDA_ERROR_INVALID_VALUE", "left": 0, "free": "CUDA_SUCCESS",
        "odd": "CUDA_ERROR_INVALID_VALUE",
    }  # fmt: skip


def test_copies_and_fills_arrive_as_they_should(machine: Machine) -> None:
    program = """
    current()
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, 1 << 16, dtype=np.uint8)
    a, b = upload(x), ok(d.cuMemAlloc(x.nbytes))
    ok(d.cuMemcpyDtoD(b, a, x.nbytes))
    assert (download(b, x) == x).all()
    ok(d.cuMemsetD32(b, 0x01020304, 100))
    ok(d.cuMemsetD16(int(b) + 400, 0x0506, 10))
    ok(d.cuMemsetD8(int(b) + 420, 7, 3))
    wanted = x.copy()
    wanted[:400] = np.tile([4, 3, 2, 1], 100)
    wanted[400:420] = np.tile([6, 5], 10)
    wanted[420:423] = 7
    assert (download(b, x) == wanted).all()
    rows = d.CUDA_MEMCPY2D()
    rows.srcMemoryType = d.CUmemorytype.CU_MEMORYTYPE_DEVICE
    rows.dstMemoryType = d.CUmemorytype.CU_MEMORYTYPE_HOST
    out = np.zeros((10, 16), np.uint8)
    rows.srcDevice, rows.srcPitch, rows.srcXInBytes, rows.srcY = a, 256, 5, 2
    rows.dstHost, rows.dstPitch, rows.WidthInBytes, rows.Height = out.ctypes.data, 16, 16, 10
    ok(d.cuMemcpy2D(rows))
    assert (out == x.reshape(256, 256)[2:12, 5:21]).all()
    shape = d.CUDA_ARRAY_DESCRIPTOR()
    shape.Width, shape.Height, shape.Format, shape.NumChannels = 16, 10, d.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8, 1
    array = ok(d.cuArrayCreate(shape))
    back = np.zeros_like(out)
    to = d.CUDA_MEMCPY2D()
    to.srcMemoryType, to.srcHost, to.srcPitch = d.CUmemorytype.CU_MEMORYTYPE_HOST, out.ctypes.data, 16
    to.dstMemoryType, to.dstArray, to.WidthInBytes, to.Height = d.CUmemorytype.CU_MEMORYTYPE_ARRAY, array, 16, 10
    ok(d.cuMemcpy2D(to))
    of = d.CUDA_MEMCPY2D()
    of.srcMemoryType, of.srcArray = d.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
    of.dstMemoryType, of.dstHost, of.dstPitch = d.CUmemorytype.CU_MEMORYTYPE_HOST, back.ctypes.data, 16
    of.WidthInBytes, of.Height = 16, 10
    ok(d.cuMemcpy2D(of))
    assert (back == out).all()
    say([name(d.cuMemcpyHtoD(int(a) + x.nbytes - 1, x.ctypes.data, 2)), name(d.cuMemcpyHtoD(5, x.ctypes.data, 2)),
         name(d.cuMemsetD32(int(a) + 1, 0, 1))])
    """
    assert machine.run(program) == ["CUDA_ERROR_INVALID_VALUE"] * 3


def test_a_pointer_tells_what_it_is(machine: Machine) -> None:
    program = """
    context = current()
    p = ok(d.cuMemAlloc(1000))
    host = ok(d.cuMemHostAlloc(1000, 0))
    a = d.CUpointer_attribute
    def ask(pointer, attribute):
        result = d.cuPointerGetAttribute(attribute, pointer)
        return int(result[1]) if result[0] == 0 else name(result)
    inside = int(p) + 500
    say([ask(inside, a.CU_POINTER_ATTRIBUTE_MEMORY_TYPE), ask(host, a.CU_POINTER_ATTRIBUTE_MEMORY_TYPE),
         ask(inside, a.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) == int(p), ask(inside, a.CU_POINTER_ATTRIBUTE_RANGE_SIZE),
         ask(inside, a.CU_POINTER_ATTRIBUTE_CONTEXT) == int(context), [int(x) for x in ok(d.cuMemGetAddressRange(inside))] == [int(p), 1000],
         ask(4096, a.CU_POINTER_ATTRIBUTE_MEMORY_TYPE), name(d.cuMemGetAddressRange(4096))])
    """
    assert machine.run(program) == [
        2,
        1,
        True,
        1000,
        True,
        True,
        "CUDA_ERROR_INVALID_VALUE",
        "CUDA_ERROR_NOT_FOUND",
    ]


def test_contexts_come_and_go_with_all_that_is_in_them(machine: Machine) -> None:
    program = """
    ok(d.cuInit(0))
    device = ok(d.cuDeviceGet(0))
    nothing = name(d.cuMemAlloc(100))
    first = ok(d.cuDevicePrimaryCtxRetain(device))
    ok(d.cuCtxSetCurrent(first))
    whole = free()
    ok(d.cuMemAlloc(100 << 20))
    assert int(ok(d.cuDevicePrimaryCtxRetain(device))) == int(first)
    ok(d.cuDevicePrimaryCtxRelease(device))
    held = whole - free()
    ok(d.cuDevicePrimaryCtxRelease(device))
    gone = [name(d.cuMemAlloc(100)), name(d.cuDevicePrimaryCtxRelease(device))]
    other = ok(d.cuCtxCreate(None, 0, device))
    assert int(ok(d.cuCtxGetCurrent())) == int(other)
    left = whole - free()
    ok(d.cuCtxDestroy(other))
    say([nothing, held >> 20, gone, left, name(d.cuMemAlloc(100)), name(d.cuCtxDestroy(other)), name(d.cuCtxSetCurrent(d.CUcontext(12345)))])
    """
    assert machine.run(program) == [
        "CUDA_ERROR_INVALID_CONTEXT", 100, ["CUDA_ERROR_CONTEXT_IS_DESTROYED", "CUDA_ERROR_INVALID_CONTEXT"], 0,
        "CUDA_ERROR_CONTEXT_IS_DESTROYED", "CUDA_ERROR_INVALID_CONTEXT", "CUDA_ERROR_INVALID_CONTEXT",
    ]  # fmt: skip
