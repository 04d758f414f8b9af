"""Orders to move a part of what a process has, as a broker gives them; what the program says of its memory; pauses."""

from __future__ import annotations

from interposer.swapping import swapping
from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]


def test_a_part_goes_and_comes_by_pieces_and_all_of_it_is_whole(layer: Layer) -> None:
    """An order says how much may stay; what is small stays anyway, and counts."""
    said = swapping(
        layer,
        """
    small, large, larger = c.alloc(1000), fill(64), fill(96)
    steps = [out(100), out(50), out(50), back(80), back(200)]
    say([steps, whole(large, larger), in_use()])
    """,
    )
    assert said == [
        [[0, 0, 96, 64], [0, 0, 32, 64], [0, 0, 32, 0], [0, 0, 64, 32], [0, 0, 160, 96]],
        True,
        160,
    ]


def test_while_a_part_is_out_the_program_waits(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    buffer, found = fill(96), []
    out(64)
    def read():
        c.enter()
        found.append(whole(buffer))
    thread = threading.Thread(target=read)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    back(80)
    before = list(found)
    back()
    thread.join()
    say([before, found])
    """,
    )
    assert said == [[], [True]]


def test_what_is_freed_while_it_is_out_lets_the_program_go_on(layer: Layer) -> None:
    """Nobody orders back what isn't there any more."""
    said = swapping(
        layer,
        "it = fill(40); out(); c.free(it[0]); it = fill(8); say([c.launch(), whole(it), share().swapped])",
    )
    assert said == [0, True, 0]


def test_a_deadline_that_is_over_leaves_everything_where_it_is(layer: Layer) -> None:
    said = swapping(
        layer, "it = fill(96); say([out(0, 0)[0], in_use(), whole(it), out()[0], back(), whole(it)])"
    )
    assert said[0] in (2, 3)
    assert said[1:] == [96, True, 0, [0, 0, 96, 96], True]


def test_nothing_goes_while_a_stream_is_captured_and_no_capture_begins_while_something_is_out(
    layer: Layer,
) -> None:
    """A capture lets everybody through the gate, so it must find all memory in its place."""
    said = swapping(
        layer,
        """
    it, stream, graph, begun = fill(40), c_void_p(), c_void_p(), []
    c.check(c.lib.cuStreamCreate(byref(stream), 1))
    c.check(c.lib.cuStreamBeginCapture_v2(stream, 0))
    during = out(0, 20)
    c.check(c.lib.cuStreamEndCapture(stream, byref(graph)))
    out()
    def begin():
        c.enter()
        begun.append(c.lib.cuStreamBeginCapture_v2(stream, 0))
    thread = threading.Thread(target=begin)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    before = list(begun)
    back()
    thread.join()
    c.check(c.lib.cuStreamEndCapture(stream, byref(graph)))
    say([during[0], before, begun, whole(it)])
    """,
    )
    assert said == [2, [], [0], True]


def test_hints_hold_for_the_pieces_that_they_cover(layer: Layer) -> None:
    """96 MiB are three pieces. The first is read-only, so it's copied once; the second may be thrown away."""
    said = swapping(
        layer,
        """
    it = fill(96)
    first, last = c.read(it[0], 32 * MIB), c.read(it[0] + 64 * MIB, 32 * MIB)
    said = [hint(it[0], 40 * MIB, READ_ONLY), hint(it[0] + 32 * MIB, 32 * MIB, DISCARDABLE)]
    copied = []
    for _ in range(2):
        copied += [out()[3], back()[3]]
    say([said, copied, counters(c.lib)["spared"] // MIB, c.read(it[0], 32 * MIB) == first,
         c.read(it[0] + 64 * MIB, 32 * MIB) == last])
    """,
    )
    assert said == [[0, 0], [64, 64, 32, 64], 32 + 64, True, True]


def test_what_is_not_read_only_any_more_is_copied_again(layer: Layer) -> None:
    """Also where that is said while it is out: the host has the only copy then."""
    said = swapping(
        layer,
        """
    it = fill(40)
    hint(it[0], 0, READ_ONLY)
    out(); hint(it[0], 0, NORMAL); back()
    first = whole(it)
    c.write(it[0] + 39 * MIB, b"new")
    copied = out()[3]; back()
    say([first, copied, c.read(it[0] + 39 * MIB, 3).decode()])
    """,
    )
    assert said == [True, 40, "new"]


def test_hints_say_what_they_do_not_do(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it, small = fill(40), c.alloc(1000)
    say([hint(0x1234, 0, READ_ONLY), hint(small, 0, READ_ONLY), hint(it[0], 0, 7), c.lib.gpumax_layer_hint_begin(9)])
    """,
    )
    assert said == [1, 801, 1, -1]


def test_what_is_allocated_as_weights_is_read_only_from_the_end_of_the_block_on(layer: Layer) -> None:
    """Within the block it's being written, so what is swapped meanwhile is copied each time; caches never are."""
    said = swapping(
        layer,
        """
    begun = c.lib.gpumax_layer_hint_begin(READ_ONLY)
    weights = fill(40)
    inner = c.lib.gpumax_layer_hint_begin(DISCARDABLE)
    cache = c.alloc(8 * MIB)
    c.lib.gpumax_layer_hint_end(inner)
    copied = []
    for _ in range(2):
        copied.append(out()[3]); back()
    c.write(weights[0], b"late"); data = c.read(weights[0], weights[1])
    c.lib.gpumax_layer_hint_end(begun)
    plain = fill(3)
    for _ in range(2):
        copied.append(out()[3]); back()
    say([copied, c.read(weights[0], weights[1]) == data, whole(plain)])
    """,
    )
    assert said == [[40, 40, 44, 4], True, True]


def test_a_pause_gives_up_the_memory_until_it_ends(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it, found = fill(40), []
    paused = [c.lib.gpumax_layer_pause(5000), c.lib.gpumax_layer_pause(5000), in_use(), share().paused]
    def read():
        c.enter()
        found.append(whole(it))
    thread = threading.Thread(target=read)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    before = list(found)
    resumed = c.lib.gpumax_layer_resume()
    thread.join()
    say([paused, before, resumed, found, in_use(), share().paused])
    """,
    )
    assert said == [[0, 0, 0, 1], [], 0, [True], 40, 0]


def test_after_a_pause_whoever_needs_memory_waits_until_there_is_room(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it, found = fill(100), []
    c.lib.gpumax_layer_pause(5000)
    wish, other = AllocationProp(type=1, location=Location(1, 0)), c_uint64()
    driver("cuMemCreate", c_int, c_void_p, c_size_t, c_void_p, c_ulonglong)(
        ctypes.addressof(other), 64 * MIB, ctypes.addressof(wish), 0)
    c.lib.gpumax_layer_resume()
    def read():
        c.enter()
        found.append(whole(it))
    thread = threading.Thread(target=read)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    before = list(found)
    driver("cuMemRelease", c_int, c_uint64)(other.value)
    thread.join()
    say([before, found])
    """,
        SCRIPT_MEMORY=str(128 << 20),
    )
    assert said == [[], [True]]


def test_a_pause_without_swapping_is_not_supported_and_a_resume_harmless(layer: Layer) -> None:
    said = swapping(
        layer,
        "say([c.lib.gpumax_layer_pause(10), c.lib.gpumax_layer_resume(), c.launch()])",
        GPUMAX_SWAP="",
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [801, 600, 0]


def test_a_share_says_what_is_where(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    c.alloc(1000); fill(40); out()
    found = share()
    say([found.limit // MIB, found.used - 40 * MIB, found.own - 40 * MIB, found.swapped // MIB, found.pinned, found.share,
         found.mode, found.swaps])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [64, 1000, 1000, 40, 1000, 1000, 0, 1]


def test_what_cannot_be_swapped_is_counted_by_its_reason(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    shared, handle = c.alloc(40 * MIB), c_uint64()
    c.alloc(1000); fill(4); c.try_pitch(1 << 20, 2); c.try_managed(3 * MIB); c.try_alloc_async(5 * MIB)
    c.try_create(6 * MIB); c.try_array(1024, 1024); c.try_graph_node(c.graph(), 7 * MIB)
    c.check(c.lib.cuMemRetainAllocationHandle(byref(handle), c_void_p(shared)))
    mib = {name: size / MIB for name, size in pinned().items() if name != "small"}
    say([mib, pinned()["small"], out()[0], in_use() - int(share().pinned // MIB)])
    """,
    )
    mib, small, status, beside = said
    assert mib.pop("arrays") > 0
    assert mib == {"shared": 40, "plain": 2, "managed": 3, "pools": 5, "mapped": 6, "graphs": 7}
    assert (small, status) == (1000, 0)
    assert abs(beside) <= 8, "the scripted driver takes memory of graphs when they run"


def test_a_child_that_is_forked_while_all_is_out_has_an_open_gate_and_its_parent_all_its_memory(
    layer: Layer,
) -> None:
    said = swapping(
        layer,
        """
    import os
    it = fill(40)
    out()
    child = os.fork()
    if not child:
        os._exit(c.launch())
    ended = os.waitpid(child, 0)[1]
    say([ended, back(), whole(it)])
    """,
    )
    assert said == [0, [0, 0, 40, 40], True]


def test_beyond_what_may_be_pinned_copies_go_by_small_buffers(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it = [fill(70), fill(33)]
    for _ in range(3):
        out(); back()
    say([counters(c.lib)["staged"] > 0, whole(*it)])
    """,
        GPUMAX_SWAP_PINNED="1Mi",
    )
    assert said == [True, True]


def test_where_the_host_is_short_of_memory_what_has_no_room_stays_on_the_device(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    import resource
    it = fill(96)
    had = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (had + 45 * MIB, resource.RLIM_INFINITY))
    short = out()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say([short, out()[0], back()[0], whole(it)])
    """,
    )
    assert said == [[3, 2, 64, 32], 0, 0, True]


def test_what_waits_to_be_allocated_is_not_on_the_device(layer: Layer) -> None:
    """It is charged already, so that nobody else gets its part of the limit."""
    said = swapping(
        layer,
        """
    first, made = fill(40), []
    out()
    def allocate():
        c.enter()
        made.append(c.alloc(8 * MIB))
    thread = threading.Thread(target=allocate)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    found = share()
    back()
    thread.join()
    say([found.own // MIB, found.swapped // MIB, found.pinned, share().swapped, in_use(), whole(first)])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [48, 48, 0, 0, 48, True]


def test_while_memory_waits_for_room_the_program_may_free_and_that_makes_some(layer: Layer) -> None:
    """Somebody else has half of the device. What is freed needn't come in, and the rest then fits."""
    said = swapping(
        layer,
        """
    first, second, found = fill(60), fill(40), []
    out()
    wish, other = AllocationProp(type=1, location=Location(1, 0)), c_uint64()
    driver("cuMemCreate", c_int, c_void_p, c_size_t, c_void_p, c_ulonglong)(
        ctypes.addressof(other), 64 * MIB, ctypes.addressof(wish), 0)
    thread = threading.Thread(target=lambda: found.append(back(patience=60000)))
    thread.start()
    while in_use() < 64 + 60: pass
    c.free(first[0])
    thread.join()
    say([found[0][0], whole(second), in_use()])
    """,
        SCRIPT_MEMORY=str(128 << 20),
    )
    assert said == [0, True, 104]
