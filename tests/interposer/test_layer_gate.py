"""Whoever submits work waits while the gate is closed, and nobody else does; closing waits for those who are inside."""

from __future__ import annotations

import pytest

from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]

# What a program does that submits work, each in its way.
SUBMITS = {
    "kernel": "c.launch()",
    "kernel of a per-thread stream": "c.launch('_ptsz')",
    "graph": "c.lib.cuGraphLaunch(None, None)",
    "copy": "c.lib.cuMemcpyHtoD_v2(c_uint64(it), b'x' * 8, c_size_t(8))",
    "set": "c.lib.cuMemsetD8_v2(c_uint64(it), c_uint(1), c_size_t(8))",
    "memory": "c.try_alloc(8)[0]",
    "memory in stream order": "c.try_alloc_async(8)[0]",
    "physical memory": "c.try_create(2 * MIB)[0]",
}
HELD = """
    import threading
    c = Cuda()
    it = c.alloc(64)
    hold = lambda held: c.lib.gpumax_layer_hold(held, 5000)
    def waits():
        "Returns when a thread waits at the gate: the layer counts them."
        before = counters(c.lib)["gate_waits"]
        done = []
        def submit():
            c.enter()
            done.append(SUBMIT)
        thread = threading.Thread(target=submit)
        thread.start()
        while counters(c.lib)["gate_waits"] == before: pass
        return thread, done
"""


@pytest.mark.parametrize("kind", SUBMITS)
def test_what_submits_work_waits_while_the_gate_is_closed(kind: str, layer: Layer) -> None:
    said = layer.run(
        HELD.replace("SUBMIT", SUBMITS[kind])
        + """
    closed = hold(1)
    thread, done = waits()
    before = list(done)
    hold(0)
    thread.join()
    say([closed, before, done])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, [], [0]]


def test_while_it_is_closed_all_else_goes_on(layer: Layer) -> None:
    """A process that may not submit can wait for what it submitted, free memory and ask."""
    said = layer.run(
        """
        c = Cuda()
        it = c.alloc(8 * MIB)
        c.check(c.lib.gpumax_layer_hold(1, 5000))
        c.sync()
        c.free(it)
        say([c.info()[0] // MIB, c.total() // MIB, counters(c.lib)["gate_waits"]])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [64, 64, 0]


def test_nobody_is_held_up_while_a_stream_is_captured(layer: Layer) -> None:
    """And as long as it is captured the gate can't be closed: whoever would close it is told so, and it is open again."""
    said = layer.run(
        """
        c = Cuda()
        graph = c_void_p()
        c.check(c.lib.cuStreamBeginCapture_v2(None, 0))
        got = [c.lib.gpumax_layer_hold(1, 20), c.launch()]
        c.check(c.lib.cuStreamEndCapture(None, byref(graph)))
        got += [c.lib.cuStreamEndCapture(None, byref(graph)), c.lib.gpumax_layer_hold(1, 5000)]
        c.lib.gpumax_layer_hold(0, 0)
        say(got + [c.launch()])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [600, 0, 401, 0, 0]


def test_threads_that_end_leave_their_place_to_others(layer: Layer) -> None:
    said = layer.run(
        """
        import threading
        c = Cuda()
        for _ in range(50):
            thread = threading.Thread(target=lambda: (c.enter(), c.launch()))
            thread.start(); thread.join()
        say(c.lib.gpumax_layer_hold(1, 5000))
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == 0


def test_a_child_isnt_held_by_what_its_parent_may_not(layer: Layer) -> None:
    """The parent has not used the device yet when it is held, so the child is a process like any other."""
    said = layer.run(
        """
        import os
        lib = ctypes.CDLL("libcuda.so.1")
        lib.gpumax_layer_hold(1, 5000)
        child = os.fork()
        if child == 0:
            c = Cuda()
            sys.exit(c.launch() or c.try_alloc(65 * MIB)[0] != 2)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == 0
