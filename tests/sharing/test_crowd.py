"""Two dozen programs share one device: each gets its turns and its memory, and computes what it would alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from interposer.layered import built
from sharing.rig import MIB, Group, Rig, eventually
from thorough import examples

Make = Callable[..., Rig]
COUNT = 24
STORMS = 4
SWAPS = examples(80, 1000)
"""Of all of them together: how often memory has come or gone, as the layer counts it."""


def test_two_dozen_programs_on_one_device_each_compute_what_they_would_alone(rig: Make) -> None:
    """Six of them want more than there is beside the others' guarantees, so some are swapped meanwhile."""
    groups = {f"g{n}": Group((20 * MIB, 20 * MIB), 40) for n in range(COUNT - 6)}
    groups |= {f"s{n}": Group((10 * MIB, 130 * MIB), 40, swap=True) for n in range(6)}
    here = rig(groups, memory=800 * MIB, contexts=COUNT)
    programs = [
        here.start(
            name,
            f"""
            n = {(120 if group.swap else 16) << 18}
            x = ok(d.cuMemAlloc(4 * n))
            axpy, one = ok(d.cuModuleGetFunction(module, b"axpy")), upload(np.ones(1000, np.float32))
            ok(d.cuMemsetD32(x, 0, n))
            def step(at, a):
                kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_uint64)
                ok(d.cuLaunchKernel(axpy, 1, 1, 1, 1, 1, 1, 0, 0, ((int(x) + 4 * at, int(one), a, 1000), kinds), 0))
            for turn in range(20):
                for at in (0, n // 2, n - 1000):
                    step(at, {number}.0 + turn)
                work(1)
            wanted = sum({number}.0 + turn for turn in range(20))
            whole, right = download(x, np.empty(n, np.float32)), np.zeros(n, np.float32)
            for at in (0, n // 2, n - 1000):
                right[at:at + 1000] = wanted
            say(bool((whole == right).all()))
            wait_for_a_line()
            """,
        )
        for number, (name, group) in enumerate(groups.items())
    ]
    assert [program.hear() for program in programs] == [True] * COUNT
    # What is said to a program is in the record right after that, so it may know earlier.
    eventually(lambda: {each["group"] for each in here.seen("Grant")} == set(groups))
    assert here.seen("SwapOut"), "all of it at once is more than the device has"
    for program in programs:
        program.tell()
        assert program.ends() == ""


@pytest.mark.deep
def test_after_many_swaps_under_load_every_buffer_of_every_program_is_whole(
    rig: Make, tmp_path: Path
) -> None:
    """Each has three threads that make, write, hint, fill, read and free without pause; two of them have room at once."""
    groups = {f"g{n}": Group((4 * MIB, 48 * MIB), 250, swap=True) for n in range(STORMS)}
    here = rig(groups, memory=48 * MIB, quantum_ms=5)
    storm = str(built("storm", tmp_path))
    programs = [
        here.run(name, storm, f"{seed}", f"{-(-SWAPS // STORMS)}", "kernels", "broker")
        for seed, name in enumerate(groups)
    ]
    for program in programs:
        program.hear()
    for program in programs:
        program.tell()
    assert sum(program.hear() for program in programs) >= SWAPS
    for program in programs:
        assert program.ends() == ""
    assert (
        {each["group"] for each in here.seen("SwappedIn")}
        == {each["group"] for each in here.seen("Hinted")}
        == set(groups)
    )
