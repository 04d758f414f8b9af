"""Memory that is mostly zero costs the host nothing, and nobody sees a difference in what it holds."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from interposer.conftest import SMALL
from interposer.emulated import Machine

KEPT = """
import mmap
def kept():
    '''Bytes of this machine's memory that this process holds.'''
    files = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    here = sum(os.stat(f).st_blocks * 512 for f in files if os.path.exists(f) and "/memfd:" in os.readlink(f))
    text = open("/proc/self/status").read()
    return here + 1024 * int(text.split("RssAnon:")[1].split()[0])
current()
"""


def test_memory_that_is_mostly_zero_goes_to_the_host_and_back_and_takes_next_to_nothing(
    tmp_path: Path,
) -> None:
    """Six times 10 GiB here and there, of which a MiB was written."""
    machine = Machine(tmp_path, {"clock": "virtual", "devices": [SMALL | {"memory": "40Gi"}]})
    program = """
    n = 10 << 30
    p, q = ok(d.cuMemAlloc(n)), ok(d.cuMemAlloc(n))
    pinned = int(ok(d.cuMemHostAlloc(n, 0)))
    plain = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pool = os.memfd_create("pool")
    os.ftruncate(pool, n)
    shared = mmap.mmap(pool, n)
    places = [ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (plain, shared)]
    before = kept()
    ok(d.cuMemsetD8(q, 0, n))
    some = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    for at in (0, (5 << 30) + 12345, n - some.nbytes):
        ok(d.cuMemcpyHtoD(int(p) + at, some.ctypes.data, some.nbytes))
    ok(d.cuMemcpyDtoD(q, p, n))
    for host in (pinned, *places):
        ok(d.cuMemcpyDtoH(host, q, n))
        ok(d.cuMemsetD32(q, 7, 1 << 20))
        ok(d.cuMemcpyHtoD(q, host, n))
    same = [bool((download(int(q) + at, some) == some).all()) for at in (0, (5 << 30) + 12345, n - some.nbytes)]
    same += [bool((np.ctypeslib.as_array((ctypes.c_ubyte * some.nbytes).from_address(host + n - some.nbytes)) == some).all())
             for host in (pinned, *places)]
    say([same, not download(int(q) + (1 << 30), some).any(), (kept() - before) >> 20])
    """
    same, empty, took = machine.run(KEPT + textwrap.dedent(program))
    assert (same, empty) == ([True] * 6, True)
    assert took < 100


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_copied_where_the_bytes_are_those_that_should_be_there(seed: int, tmp_path: Path) -> None:
    """Random copies and fills between a device and three kinds of memory of the host, each beside the same in NumPy."""
    machine = Machine(tmp_path, {"clock": "virtual", "devices": [SMALL]})
    program = f"""
    rng = np.random.default_rng({seed})
    n = 5 << 20
    host, pool = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), os.memfd_create("pool")
    os.ftruncate(pool, n)
    maps = [host, mmap.mmap(pool, n)]
    heap = np.zeros(n, np.uint8)
    places = [int(ok(d.cuMemAlloc(n))) for _ in range(2)] + [int(ok(d.cuMemHostAlloc(n, 0)))]
    places += [ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in maps] + [heap.ctypes.data]
    models = [np.zeros(n, np.uint8) for _ in places]
    wrong = []
    for step in range(120):
        size = int(rng.integers(1, 4 << 20)) if step % 3 else int(rng.integers(1, 1024)) * 4096
        to, source = int(rng.integers(0, n - size + 1)), int(rng.integers(0, n - size + 1))
        if step % 4 == 0:
            to, source = to // 4096 * 4096, source // 4096 * 4096
        one, other = (int(x) for x in rng.integers(0, len(places), 2))
        if step % 5 == 0:
            one = int(rng.integers(0, 2))
            value = int(rng.choice([0, 0, 9]))
            ok(d.cuMemsetD8(places[one] + to, value, size))
            models[one][to : to + size] = value
        elif step % 5 == 1:
            some = rng.integers(0, 256, min(size, 99999), np.uint8)
            ok(d.cuMemcpy(places[one] + to, some.ctypes.data, some.nbytes))
            models[one][to : to + some.nbytes] = some
        elif one != other:
            ok(d.cuMemcpy(places[one] + to, places[other] + source, size))
            models[one][to : to + size] = models[other][source : source + size]
        out = np.empty(n, np.uint8)
        ok(d.cuMemcpy(out.ctypes.data, places[one], n))
        if not (out == models[one]).all():
            wrong.append(step)
    say(wrong)
    """
    assert machine.run(KEPT + textwrap.dedent(program)) == []
