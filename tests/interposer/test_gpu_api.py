"""`gpumax.gpu`: what a program may know and say of its share, and that all of it is harmless where there is no layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpumax.native import library
from interposer.conftest import SMALL
from interposer.emulated import Machine

HEAD = """
        import gpumax.gpu as gpu
        def counters():
            values = (ctypes.c_uint64 * 16)()
            ctypes.CDLL("libcuda.so.1").gpumax_layer_counters(values, ctypes.c_size_t(16))
            return list(values)
        def swap():
            lib = ctypes.CDLL("libcuda.so.1")
            assert (lib.gpumax_layer_swap_out(10000), lib.gpumax_layer_swap_in()) == (0, 0)
        MIB = 1 << 20
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One device of a GiB."""
    return Machine(tmp_path, {"clock": "virtual", "devices": [SMALL]})


def under(machine: Machine, program: str, **settings: str) -> Any:
    """What a program says under the layer."""
    layer = {
        "LD_PRELOAD": f"{library('cuda')} {library('ml')}",
        "GPUMAX_REAL_LIBCUDA": str(machine.libraries / "libcuda.so.1"),
        "GPUMAX_GROUP": str(machine.libraries),
    }
    return machine.run(HEAD + program, **(layer | settings))


def test_without_the_layer_the_whole_device_is_there_and_nothing_is_done(machine: Machine) -> None:
    said = machine.run(
        HEAD
        + """
        current()
        with gpu.weights(), gpu.cache(), gpu.idle() as paused:
            pointer = ok(d.cuMemAlloc(MIB))
        have = gpu.share(7)
        say([have.layered, have.limit, have.used, have.share, have.mode, paused, gpu.pause(), gpu.resume()])
        """
    )
    assert said == [False, None, None, 1.0, None, False, False, False]


def test_it_imports_nothing_that_is_slow_and_loads_no_driver() -> None:
    program = (
        "import sys, gpumax.gpu; gpumax.gpu.share()\n"
        "print(sorted(set(sys.modules) & {'numpy', 'msgspec', 'click', 'asyncio', 'torch', 'yaml'}), 'libcuda' in open('/proc/self/maps').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    assert done.stdout == "[] False\n"


def test_a_program_is_told_its_limit_and_what_it_uses(machine: Machine) -> None:
    said = under(
        machine,
        """
        current()
        ok(d.cuMemAlloc(100 * MIB))
        have = gpu.share()
        say([have.layered, have.limit // MIB, have.guaranteed // MIB, have.used // MIB, have.own // MIB, have.share, have.mode, have.swaps])
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == [True, 512, 512, 100, 100, 1.0, None, False]


def test_before_cuda_begins_the_limit_is_known_and_nothing_is_used(machine: Machine) -> None:
    said = under(
        machine,
        "        have = gpu.share(); say([have.layered, have.limit, have.guaranteed, have.used, have.swaps])",
        GPUMAX_LIMIT="512Mi", GPUMAX_SWAP="1",
    )  # fmt: skip
    assert said == [True, 512 << 20, None, 0, True]


def test_a_device_that_isnt_there_is_told(machine: Machine) -> None:
    said = under(
        machine,
        """
        current()
        try: gpu.share(3)
        except ValueError as error: say(str(error))
        """,
        GPUMAX_LIMIT="512Mi",
    )
    assert said == "there is no device 3; this process counts them from 0"


def test_one_that_cant_be_there_is_told_before_cuda_begins_too(machine: Machine) -> None:
    said = under(
        machine,
        """
        said = []
        for device in (0, 7, -1):
            try: said.append(gpu.share(device).layered)
            except ValueError as error: said.append(str(error))
        say(said)
        """,
        GPUMAX_LIMIT="512Mi",
        CUDA_VISIBLE_DEVICES="0",
    )
    none = "there is no device {}; this process counts them from 0"
    assert said == [True, none.format(7), none.format(-1)]


WEIGHTS = """
        current()
        with gpu.weights():
            pointer = ok(d.cuMemAlloc(64 * MIB))
            ok(d.cuMemsetD32(pointer, 7, 16 * MIB))
        copied = []
        for _ in range(3):
            before = counters()[5]
            swap()
            copied.append((counters()[5] - before) // MIB)
        data = np.empty(16 * MIB, np.uint32)
        ok(d.cuMemcpyDtoH(data.ctypes.data, pointer, data.nbytes))
        say([copied, bool((data == 7).all())])
"""


def test_weights_are_copied_to_the_host_once(machine: Machine) -> None:
    copied, whole = under(machine, WEIGHTS, GPUMAX_SWAP="1")
    assert copied[1:] == [0, 0]
    assert whole


def test_what_isnt_a_weight_is_copied_each_time(machine: Machine) -> None:
    copied, whole = under(
        machine, WEIGHTS.replace("with gpu.weights():", "if True:").replace("swap()", "swap(); ok(d.cuMemsetD32(pointer, 7, 16 * MIB))"), GPUMAX_SWAP="1"
    )  # fmt: skip
    assert copied == [64, 64, 64]
    assert whole


def test_a_cache_is_never_copied(machine: Machine) -> None:
    said = under(
        machine,
        """
        current()
        with gpu.cache():
            pointer = ok(d.cuMemAlloc(64 * MIB))
        ok(d.cuMemsetD32(pointer, 7, 16 * MIB))
        before = counters()
        swap()
        after = counters()
        say([(after[5] - before[5]) // MIB, (after[7] - before[7]) // MIB, name(d.cuMemsetD32(pointer, 8, 16 * MIB))])
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [0, 64, "CUDA_SUCCESS"]


def test_a_block_that_fails_ends_its_hint(machine: Machine) -> None:
    """What is allocated after it is as any other memory."""
    said = under(
        machine,
        """
        current()
        try:
            with gpu.cache(): raise KeyError
        except KeyError: pass
        pointer = ok(d.cuMemAlloc(64 * MIB))
        ok(d.cuMemsetD32(pointer, 7, 16 * MIB))
        before = counters()
        swap()
        say((counters()[5] - before[5]) // MIB)
        """,
        GPUMAX_SWAP="1",
    )
    assert said == 64


def test_an_idle_program_gives_its_memory_up_and_finds_it_again(machine: Machine) -> None:
    said = under(
        machine,
        """
        current()
        data = np.arange(16 * MIB, dtype=np.uint32)
        pointer = upload(data)
        with gpu.idle() as paused:
            during = gpu.share()
        after = gpu.share()
        say([paused, during.swapped // MIB, during.paused, after.paused, bool((download(pointer, data) == data).all())])
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [True, 64, True, False, True]


def test_who_hasnt_paused_has_nothing_to_resume(machine: Machine) -> None:
    said = under(
        machine,
        """
        current()
        pointer = ok(d.cuMemAlloc(64 * MIB))
        said = [gpu.resume()]
        said += [gpu.pause(float("inf")), gpu.share().paused, gpu.resume(), gpu.resume(), gpu.share().paused]
        say(said)
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [False, True, True, True, False, False]
