"""What graphs allocate is charged to them, by whichever function a node came, until they and what was made of them are gone."""

from __future__ import annotations

import pytest

from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]
BEGIN = """
    c = Cuda()
    class Wish(ctypes.Structure):
        "A node of any kind: the kind, and 16 bytes on what it needs."
        _fields_ = [("type", c_int), ("reserved", c_int * 3), ("rest", c_char * 240)]
    def wish(kind, what):
        made = Wish(type=kind)
        ctypes.memmove(ctypes.addressof(made) + 16, byref(what), ctypes.sizeof(what))
        return made
    def memory(size): return wish(10, AllocNode(pool=PoolProps(type=1, location=Location(1, 0)), bytes=size))
    class Child(ctypes.Structure):
        _fields_ = [("graph", c_void_p), ("ownership", c_int)]
    def add(graph, node):
        it = c_void_p()
        return c.lib.cuGraphAddNode_v2(byref(it), graph, None, None, c_size_t(0), byref(node))
    def free(): return c.info()[0] // MIB
"""


def test_a_node_of_any_kind_that_allocates_is_held_to_the_limit(layer: Layer) -> None:
    said = layer.run(
        BEGIN
        + """
    graph = c.graph()
    got = [add(graph, memory(65 * MIB)), add(graph, memory(40 * MIB)), free(), add(graph, memory(25 * MIB))]
    c.check(c.lib.cuGraphDestroy(graph))
    say(got + [free()])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [2, 0, 24, 2, 64]


def test_a_node_that_the_driver_refuses_is_not_counted(layer: Layer) -> None:
    said = layer.run(
        BEGIN + "\n    say([add(c.graph(), memory(40 * MIB)), free()])\n",
        GPUMAX_LIMIT="64Mi", SCRIPT_FAIL="cuGraphAddNode_v2:1",
    )  # fmt: skip
    assert said == [1, 64]


@pytest.mark.parametrize(("ownership", "left"), [(1, 64), (0, 24)])
def test_a_graph_that_becomes_a_node_for_good_ends_with_the_graph_that_it_is_in(
    ownership: int, left: int, layer: Layer
) -> None:
    """Moved, it is the other's, and so is its memory: nobody destroys it by itself. Copied, it stays what it is."""
    said = layer.run(
        BEGIN
        + f"""
    child, parent, made = c.graph(), c.graph(), c_void_p()
    c.check(add(child, memory(40 * MIB)))
    c.check(add(parent, wish(4, Child(child, {ownership}))))
    c.check(c.lib.cuGraphInstantiateWithFlags(byref(made), parent, c_ulonglong(0)))
    c.check(c.lib.cuGraphDestroy(parent))
    got = [free()]
    c.check(c.lib.cuGraphExecDestroy(made))
    say(got + [free()])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [24, left]
