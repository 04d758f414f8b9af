"""No allocation gets beyond the limit, of whatever kind; what is freed is there again; and the share looks like the whole."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from interposer.under import Layer, ended, heard, layer, page, scripted, tell

__all__ = ["layer", "scripted"]

# Each kind as (allocate what `size` says -> result and thing, give it back).
KINDS = {
    "plain": ("c.try_alloc(size)", "c.free(it)"),
    "pitch": ("c.try_pitch(1 * MIB, size // MIB)", "c.free(it)"),
    "managed": ("c.try_managed(size)", "c.free(it)"),
    "async": ("c.try_alloc_async(size)", "c.free_async(it); c.sync()"),
    "async_per_thread": ("c.try_alloc_async(size, '_ptsz')", "c.free_async(it, '_ptsz'); c.sync()"),
    "async_freed_plainly": ("c.try_alloc_async(size)", "c.free(it)"),
    "physical": ("c.try_create(size)", "c.release(it)"),
    "array": ("c.try_array(MIB // 4, size // MIB)", "c.check(c.lib.cuArrayDestroy(c_void_p(it)))"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_beyond_the_limit_is_out_of_memory_at_once(kind: str, layer: Layer) -> None:
    """Each kind: too much at once; the rest of the limit exactly; a bit more; and after giving back, all of it again."""
    take, give = KINDS[kind]
    said = layer.run(
        f"""
        c = Cuda()
        def take(size): return {take}
        def give(it): {give}
        got = [take(66 * MIB)[0]]
        first, it = take(40 * MIB)
        second, other = take(24 * MIB)
        got += [first, second, c.try_alloc(1)[0], take(2 * MIB)[0]]
        give(it); give(other)
        got += [take(64 * MIB)[0]]
        say(got)
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [2, 0, 0, 2, 2, 0]


def test_all_kinds_share_one_limit(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        graph = c.graph()
        got = [c.try_alloc(8 * MIB)[0], c.try_pitch(MIB, 8)[0], c.try_managed(8 * MIB)[0], c.try_alloc_async(8 * MIB)[0],
               c.try_create(8 * MIB)[0], c.try_array(MIB // 4, 8)[0], c.try_graph_node(graph, 8 * MIB), c.info()[0] // MIB]
        got += [c.try_alloc(9 * MIB)[0], c.try_pitch(MIB, 9)[0], c.try_managed(9 * MIB)[0], c.try_alloc_async(9 * MIB)[0],
                c.try_create(10 * MIB)[0], c.try_array(MIB // 4, 9)[0], c.try_graph_node(graph, 9 * MIB)]
        say(got + [c.try_alloc(8 * MIB)[0], c.info()[0], counters(c.lib)["refused"]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0] * 7 + [8] + [2] * 7 + [0, 0, 7]


def test_the_share_looks_like_the_whole_device(layer: Layer) -> None:
    said = layer.run(
        "c = Cuda(); before = c.info(); it = c.alloc(3 * MIB); during = c.info(); c.free(it); say([c.total(), before, during, c.info()])",
        GPUMAX_LIMIT="64Mi",
    )
    whole = 64 << 20
    assert said == [whole, [whole, whole], [61 << 20, whole], [whole, whole]]


def test_a_limit_above_the_device_is_what_the_device_has_and_said_once(layer: Layer) -> None:
    said, errors = layer.talk(
        "c = Cuda(); c.alloc(1); say([c.total() // MIB, c.info()[1] // MIB, Cuda(device=1).info()[1] // MIB])",
        GPUMAX_LIMIT="1Ti", SCRIPT_MEMORY="0x4000000",
    )  # fmt: skip
    assert said == [64, 64, 64]
    assert (
        errors
        == "gpumax: GPUMAX_LIMIT is 1099511627776 bytes, and device 0 has 67108864: the limit limits nothing there\n"
    )


@pytest.mark.parametrize(
    "nonsense", ["much", "-1", "0", "1.5Gi", "12Q", "99999999999999999999", "1e9", "20000000Ti"]
)
def test_a_limit_that_is_no_number_is_said_once_and_limits_nothing(nonsense: str, layer: Layer) -> None:
    said, errors = layer.talk(
        "c = Cuda(); say([c.try_alloc(100 * MIB)[0], c.total()])", GPUMAX_LIMIT=nonsense
    )
    assert said == [0, 8 << 30]
    assert errors == (
        f"gpumax: GPUMAX_LIMIT={nonsense}: not a whole number of bytes above zero, as 10737418240 or 10Gi; nothing is enforced\n"
    )


def test_devices_have_their_limits_by_themselves(layer: Layer) -> None:
    said = layer.run(
        "a = Cuda(device=0); a.alloc(64 * MIB); b = Cuda(device=1); say([b.try_alloc(64 * MIB)[0], b.try_alloc(1)[0]])",
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, 2]


def test_physical_memory_counts_until_it_is_neither_held_nor_mapped(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        def free(): return c.info()[0] // MIB
        handle = c.try_create(32 * MIB)[1]
        at = c.reserve(64 * MIB)
        c.map(at, 32 * MIB, handle)
        got = [free()]
        c.release(handle)
        got.append(free())
        again = c_uint64()
        c.check(c.lib.cuMemRetainAllocationHandle(byref(again), c_void_p(at)))
        c.unmap(at, 32 * MIB)
        got.append(free())
        c.release(again.value)
        say(got + [free()])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [32, 32, 32, 64]


def test_a_handle_that_was_given_several_times_counts_until_the_last_of_them_is_released(
    layer: Layer,
) -> None:
    """The driver gives one number each time. What it refuses to release any more counts nothing, either."""
    said = layer.run(
        """
        c = Cuda()
        def free(): return c.info()[0] // MIB
        handle, again = c.try_create(32 * MIB)[1], c_uint64()
        first, second = c.reserve(32 * MIB), c.reserve(32 * MIB)
        c.map(first, 32 * MIB, handle)
        c.map(second, 32 * MIB, handle)
        same = []
        for _ in range(2):
            c.check(c.lib.cuMemRetainAllocationHandle(byref(again), c_void_p(first)))
            same.append(again.value == handle)
        got = [free()]
        for _ in range(2):
            c.release(handle)
            got.append(free())
        c.unmap(first, 32 * MIB)
        c.unmap(second, 32 * MIB)
        got.append(free())
        c.release(handle)
        got.append(free())
        say([same, got, c.try_alloc(64 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [[True, True], [32, 32, 32, 32, 64], 0]


def test_what_a_pool_keeps_counts_and_is_given_back_before_anything_is_refused(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        result, it = c.try_alloc_async(48 * MIB)
        c.free_async(it)
        kept = c.info()[0] // MIB
        say([result, kept, c.try_alloc(60 * MIB)[0], c.info()[0] // MIB])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, 16, 0, 4]


def test_the_memory_of_graphs_is_there_again_when_they_and_what_was_made_of_them_are_gone(
    layer: Layer,
) -> None:
    said = layer.run(
        """
        c = Cuda()
        def free(): return c.info()[0] // MIB
        graph, made = c.graph(), c_void_p()
        got = [c.try_graph_node(graph, 40 * MIB), free()]
        c.check(c.lib.cuGraphInstantiateWithFlags(byref(made), graph, c_ulonglong(0)))
        c.check(c.lib.cuGraphDestroy(graph))
        got.append(free())
        c.check(c.lib.cuGraphExecDestroy(made))
        say(got + [free()])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, 24, 24, 64]


@pytest.mark.parametrize(
    ("call", "take"),
    [("cuMemAlloc_v2", "c.try_alloc(8 * MIB)[0]"), ("cuMemCreate", "c.try_create(8 * MIB)[0]"),
     ("cuGraphAddMemAllocNode", "c.try_graph_node(c.graph(), 8 * MIB)")],
)  # fmt: skip
def test_what_the_driver_refuses_is_not_counted(call: str, take: str, layer: Layer) -> None:
    said = layer.run(
        f"c = Cuda(); say([({take}) != 0, c.info()[0] // MIB])", GPUMAX_LIMIT="64Mi", SCRIPT_FAIL=f"{call}:1"
    )
    assert said == [True, 64]


def test_what_could_not_be_freed_still_counts(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        it = c.alloc(8 * MIB)
        wrong = [c.lib.cuMemFree_v2(c_uint64(it)), c.info()[0] // MIB]
        c.free(it)
        say([*wrong, c.info()[0] // MIB, c.lib.cuMemFree_v2(c_uint64(it)), c.info()[0] // MIB])
        """,
        GPUMAX_LIMIT="64Mi", SCRIPT_FAIL="cuMemFree_v2:1",
    )  # fmt: skip
    assert said == [1, 56, 64, 1, 64]


@pytest.mark.parametrize("end", ["cuDevicePrimaryCtxReset_v2", "cuDevicePrimaryCtxRelease_v2"])
def test_the_end_of_a_context_gives_back_what_was_allocated_in_it(end: str, layer: Layer) -> None:
    said = layer.run(
        f"""
        c = Cuda()
        for _ in range(5): c.alloc(8 * MIB)
        c.check(c.lib.{end}(0))
        c = Cuda()
        say([c.info()[0] // MIB, c.try_alloc(64 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [64, 0]


HOLDER = """
    c = Cuda()
    c.alloc(40 * MIB)
    say("holds")
    hear()
"""


def test_processes_of_a_group_share_one_limit(layer: Layer) -> None:
    holder = layer.start(HOLDER, GPUMAX_LIMIT="64Mi")
    assert heard(holder) == "holds"
    said = layer.run(
        "c = Cuda(); say([c.info()[0] // MIB, c.try_alloc(25 * MIB)[0], c.try_alloc(24 * MIB)[0]])",
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [24, 2, 0]
    ended(holder)


def test_another_group_has_a_limit_of_its_own(layer: Layer) -> None:
    holder = layer.start(HOLDER, GPUMAX_LIMIT="64Mi")
    assert heard(holder) == "holds"
    said = layer.run("say(Cuda().try_alloc(64 * MIB)[0])", GPUMAX_LIMIT="64Mi", GPUMAX_GROUP="another")
    assert said == 0
    ended(holder)


def test_without_a_group_the_processes_of_a_job_share(layer: Layer) -> None:
    """A job is what a shell calls so: a process group."""
    program = """
        import subprocess
        c = Cuda()
        c.alloc(40 * MIB)
        code = "from client import *; print(Cuda().try_alloc(40 * MIB)[0])"
        say([int(subprocess.run([sys.executable, "-c", code], start_new_session=apart, capture_output=True).stdout)
             for apart in (False, True)])
    """
    assert layer.run(program, GPUMAX_LIMIT="64Mi", GPUMAX_GROUP="") == [2, 0]


def test_what_a_killed_process_held_is_there_again(layer: Layer) -> None:
    holder = layer.start(HOLDER, GPUMAX_LIMIT="64Mi")
    assert heard(holder) == "holds"
    holder.kill()
    # Not waited for: what is left of it, until its parent looks, holds nothing any more.
    said = layer.run(
        """
        import time
        c = Cuda()
        result = c.try_alloc(64 * MIB)[0]
        while result == 2: result = c.try_alloc(64 * MIB)[0]
        say([result, c.info()[0]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, 0]
    holder.communicate()


def test_what_a_process_held_before_exec_is_there_again(layer: Layer) -> None:
    program = """
        import os
        c = Cuda()
        c.alloc(40 * MIB)
        os.execv(sys.executable, [sys.executable, "-c", "print('\\"gone on\\"', flush=True); input()"])
    """
    holder = layer.start(program, GPUMAX_LIMIT="64Mi")
    assert heard(holder) == "gone on"
    assert layer.run("say(Cuda().try_alloc(64 * MIB)[0])", GPUMAX_LIMIT="64Mi") == 0
    ended(holder)


def test_many_processes_at_once_never_hold_more_than_the_limit(layer: Layer) -> None:
    """24 processes take and give at random; when all hold what they got, it is within the limit, and to the byte what is said."""
    program = """
        import random
        c = Cuda()
        held, got = [], 0
        say("ready"); hear()
        for _ in range(300):
            size = random.randrange(1, 5 * MIB)
            result, it = c.try_alloc(size)
            if result == 0:
                held.append((size, it))
            if held and (result or random.random() < 0.4):
                c.free(held.pop(random.randrange(len(held)))[1])
        say(sum(size for size, _ in held)); hear()
        say(c.info()[0]); hear()
    """
    many = [layer.start(program, GPUMAX_LIMIT="64Mi") for _ in range(24)]
    assert {heard(each) for each in many} == {"ready"}
    for each in many:
        tell(each)
    held = sum(heard(each) for each in many)
    assert held <= 64 << 20
    for each in many:
        tell(each)
    assert {heard(each) for each in many} == {(64 << 20) - held}
    for each in many:
        ended(each)


KEEPER = """
import ctypes, mmap, os, signal, sys, threading
with open(sys.argv[1], "r+b") as file:
    whole = mmap.mmap(file.fileno(), 0)
lock = (ctypes.c_char * 40).from_buffer(whole, 8)  # behind the magic number, and before who has it
libc = ctypes.CDLL(None)
assert libc.pthread_mutex_lock(lock) == 0
whole[48:52] = os.getpid().to_bytes(4, sys.byteorder)
print("locked", flush=True)
if sys.argv[2] == "stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    threading.Event().wait(3)  # longer than whoever waits takes between two looks
assert libc.pthread_mutex_unlock(lock) == 0
print("unlocked", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["slow", "stopped"])
def test_whoever_keeps_the_page_for_long_costs_nobody_a_byte(how: str, layer: Layer) -> None:
    """Where it is slow it's waited for, and the limit holds; where it is stopped others go on, and what they give back counts later."""
    program = layer.start(
        """
        c = Cuda()
        _, it = c.try_alloc(40 * MIB)
        say("holds"); hear()
        c.free(it); say("freed"); hear()
        say([c.info()[0] // MIB, c.try_alloc(40 * MIB)[0], c.try_alloc(40 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert heard(program) == "holds"
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER, page(layer.group), how], stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "locked\n"
        tell(program)
        assert heard(program) == "freed"
        keeper.send_signal(signal.SIGCONT)
        assert keeper.stdout.readline() == "unlocked\n"
    tell(program)
    assert heard(program) == [64, 0, 2]
    ended(program)


def test_a_page_that_is_none_is_said_and_the_limit_holds_for_the_process(layer: Layer) -> None:
    """Somebody left a file of another kind where the page would be."""
    first = layer.start(HOLDER, GPUMAX_LIMIT="64Mi", GPUMAX_GROUP=f"stale-{layer.group}")
    assert heard(first) == "holds"
    first.kill()
    first.communicate()
    path = page(f"stale-{layer.group}")
    assert path.exists()
    path.write_bytes(b"garbage" * 20)
    said, errors = layer.talk(
        "c = Cuda(); say([c.try_alloc(65 * MIB)[0], c.try_alloc(64 * MIB)[0]])",
        GPUMAX_LIMIT="64Mi", GPUMAX_GROUP=f"stale-{layer.group}",
    )  # fmt: skip
    path.unlink()
    assert said == [2, 0]
    assert errors.startswith(f"gpumax: {path} can't be used")
    assert errors.count("\n") == 1
