"""Graphs of an emulated driver: looked at, copied, put into each other, updated, with memory of their own; copies in batches; mipmaps."""

from __future__ import annotations

from interposer.emulated import Machine

BUILD = """
    context = current()
    m = load()
    n = 256
    x, one = upload(np.zeros(n, np.float32)), upload(np.ones(n, np.float32))
    axpy = ok(d.cuModuleGetFunction(m, b"axpy"))
    def kernel(y=None, a=1.0):
        p = d.CUDA_KERNEL_NODE_PARAMS()
        p.func = axpy
        p.gridDimX = p.gridDimY = p.gridDimZ = p.blockDimX = p.blockDimY = p.blockDimZ = 1
        kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_uint64)
        p.kernelParams = ((int(x if y is None else y), int(one), a, n), kinds)
        return p
    def add(graph, after=(), **more):
        return ok(d.cuGraphAddKernelNode(graph, list(after) or None, len(after), kernel(**more)))
    def run(exe):
        ok(d.cuGraphLaunch(exe, 0)); ok(d.cuCtxSynchronize())
        return float(download(x, np.empty(n, np.float32))[0])
"""


def test_a_copy_of_a_graph_and_a_graph_within_one_do_the_same(machine: Machine) -> None:
    program = (
        BUILD
        + """
    graph = ok(d.cuGraphCreate(0))
    first = add(graph)
    second = add(graph, [first])
    copy = ok(d.cuGraphClone(graph))
    found = ok(d.cuGraphNodeFindInClone(second, copy))
    outer = ok(d.cuGraphCreate(0))
    node = ok(d.cuGraphAddChildGraphNode(outer, None, 0, graph))
    last = add(outer, [node])
    ok(d.cuGraphDestroy(graph))
    said = [run(ok(d.cuGraphInstantiate(copy, 0))), run(ok(d.cuGraphInstantiate(outer, 0)))]
    def count(call, *of):
        return int(call(*of)[-1])
    inner = ok(d.cuGraphChildGraphNodeGetGraph(node))
    say(said + [name(d.cuGraphDestroy(inner)), int(ok(d.cuGraphNodeGetDependencies(found, 1))[0][0]) != 0,
         count(d.cuGraphGetRootNodes, copy, 0), count(d.cuGraphGetEdges, outer, 0), count(d.cuGraphNodeGetDependentNodes, last, 0),
         name(d.cuGraphNodeFindInClone(last, copy)), name(d.cuGraphDestroy(outer))])
    """
    )
    said = machine.run(program)
    assert said == [
        2.0,
        5.0,
        "CUDA_ERROR_INVALID_VALUE",
        True,
        1,
        1,
        0,
        "CUDA_ERROR_INVALID_VALUE",
        "CUDA_SUCCESS",
    ]


def test_what_was_instantiated_takes_new_parameters_and_refuses_another_shape(machine: Machine) -> None:
    program = (
        BUILD
        + """
    def graph(*factors):
        made = ok(d.cuGraphCreate(0))
        before = []
        for a in factors:
            before = [add(made, before, a=a)]
        return made
    exe = ok(d.cuGraphInstantiate(graph(1.0, 1.0), 0))
    said = [run(exe)]
    ok(d.cuGraphExecUpdate(exe, graph(10.0, 20.0)))
    said.append(run(exe))
    other = ok(d.cuGraphCreate(0))
    ok(d.cuGraphAddEmptyNode(other, None, 0))
    ok(d.cuGraphAddEmptyNode(other, None, 0))
    for wrong in (graph(1.0), other):
        info = (ctypes.c_int * 6)()
        ctypes.CDLL("libcuda.so.1").cuGraphExecUpdate_v2(ctypes.c_void_p(int(exe)), ctypes.c_void_p(int(wrong)), info)
        said += [name(d.cuGraphExecUpdate(exe, wrong)), info[0]]
    say(said + [run(exe)])
    """
    )
    failed = "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"
    assert machine.run(program) == [
        2.0, 32.0, failed, 2, failed,
        3, 62.0,
    ]  # fmt: skip


def test_memory_of_a_graph_is_there_as_long_as_anything_of_it(machine: Machine) -> None:
    program = (
        BUILD
        + """
    graph = ok(d.cuGraphCreate(0))
    before = free()
    p = d.CUDA_MEM_ALLOC_NODE_PARAMS()
    p.poolProps.allocType = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    p.poolProps.location.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    p.bytesize = 64 << 20
    made = ok(d.cuGraphAddMemAllocNode(graph, None, 0, p))
    used = ok(d.cuDeviceGetGraphMemAttribute(0, d.CUgraphMem_attribute.CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT))
    there = [before - free(), int(used), name(d.cuMemFree(p.dptr)), name(d.cuGraphClone(graph))]
    work = add(graph, [made], y=p.dptr)
    ok(d.cuGraphAddMemFreeNode(graph, [work], 1, p.dptr))
    twice = name(d.cuGraphAddMemFreeNode(graph, [work], 1, p.dptr))
    exe = ok(d.cuGraphInstantiate(graph, 0))
    ok(d.cuGraphDestroy(graph))
    run(exe)
    there += [twice, before - free()]
    ok(d.cuGraphExecDestroy(exe))
    p.bytesize = 2 << 30
    more = ok(d.cuGraphCreate(0))
    say(there + [before - free(), name(d.cuGraphAddMemAllocNode(more, None, 0, p))])
    """
    )
    size, wrong = 64 << 20, "CUDA_ERROR_INVALID_VALUE"
    assert machine.run(program) == [
        size, size, wrong, "CUDA_ERROR_NOT_SUPPORTED", wrong, size, 0, "CUDA_ERROR_OUT_OF_MEMORY",
    ]  # fmt: skip


def test_copies_in_a_batch_are_those_copies(machine: Machine) -> None:
    program = """
    current()
    s = ok(d.cuStreamCreate(1))
    given = np.arange(1000, dtype=np.uint32)
    a, b = upload(given), upload(np.zeros(1000, np.uint32))
    out = np.zeros(1000, np.uint32)
    host = ok(d.cuMemHostAlloc(4000, 0))
    p = d.CUmemcpyAttributes()
    p.srcAccessOrder = d.CUmemcpySrcAccessOrder.CU_MEMCPY_SRC_ACCESS_ORDER_STREAM
    to, of = [d.CUdeviceptr(int(b) + 400), d.CUdeviceptr(int(host))], [d.CUdeviceptr(int(a)), d.CUdeviceptr(int(b))]
    ok(d.cuMemcpyBatchAsync(to, of, [400, 4000], 2, [p], [0], 1, s))
    ok(d.cuStreamSynchronize(s))
    ctypes.memmove(out.ctypes.data, int(host), 4000)
    wrong = [name(d.cuMemcpyBatchAsync(to, of, [400, 4000], 2, [p], [0], 1, 0)),
             name(d.cuMemcpyBatchAsync(to, of, [400, 4000], 2, [p], [1], 1, s))]
    say([bool((out[100:200] == given[:100]).all()), int(out.sum()), wrong])
    """
    assert machine.run(program) == [True, 4950, ["CUDA_ERROR_INVALID_HANDLE", "CUDA_ERROR_INVALID_VALUE"]]


def test_mipmaps_are_arrays_each_half_as_large(machine: Machine) -> None:
    program = """
    current()
    before = free()
    shape = d.CUDA_ARRAY3D_DESCRIPTOR()
    shape.Width, shape.Height, shape.NumChannels = 512, 256, 1
    shape.Format = d.CUarray_format.CU_AD_FORMAT_FLOAT
    mipmap = ok(d.cuMipmappedArrayCreate(shape, 4))
    sizes = [ok(d.cuArrayGetDescriptor(ok(d.cuMipmappedArrayGetLevel(mipmap, i)))) for i in range(4)]
    took = before - free()
    said = [[(each.Width, each.Height) for each in sizes], took == ok(d.cuMipmappedArrayGetMemoryRequirements(mipmap, 0)).size,
            name(d.cuMipmappedArrayGetLevel(mipmap, 4))]
    ok(d.cuMipmappedArrayDestroy(mipmap))
    say(said + [before - free(), name(d.cuMipmappedArrayDestroy(mipmap))])
    """
    sizes, same, beyond, left, again = machine.run(program)
    assert sizes == [[512, 256], [256, 128], [128, 64], [64, 32]]
    assert (same, beyond, left, again) == (True, "CUDA_ERROR_INVALID_VALUE", 0, "CUDA_ERROR_INVALID_HANDLE")


def test_what_a_stream_allocates_while_it_is_captured_the_graph_has(machine: Machine) -> None:
    """And frees, too; it's there for what is captured behind it, each time the graph is launched."""
    program = """
    current()
    stream, out = ok(d.cuStreamCreate(1)), np.zeros(4, np.uint32)
    ok(d.cuStreamBeginCapture(stream, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
    p = ok(d.cuMemAllocAsync(1 << 20, stream))
    ok(d.cuMemsetD32Async(p, 7, 4, stream))
    ok(d.cuMemcpyDtoHAsync(out.ctypes.data, p, 16, stream))
    ok(d.cuMemFreeAsync(p, stream))
    graph = ok(d.cuStreamEndCapture(stream))
    run, seen = ok(d.cuGraphInstantiate(graph, 0)), []
    for _ in range(2):
        out[:] = 0
        ok(d.cuGraphLaunch(run, stream))
        ok(d.cuStreamSynchronize(stream))
        seen.append(out.tolist())
    say([seen, [int(ok(d.cuGraphNodeGetType(each))) for each in ok(d.cuGraphGetNodes(graph, 4))[0]]])
    """
    seen, kinds = machine.run(program)
    assert seen == [[7] * 4] * 2
    assert [kinds[0], kinds[-1]] == [10, 11]
