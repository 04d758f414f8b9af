"""On an emulated machine: nothing is lost by many swaps under load, and nothing is left by who is killed in the midst.

What a broker orders of several programs at once, a thousand times: tests/sharing/test_crowd.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from interposer.conftest import SMALL
from interposer.emulated import Machine, end, line, tell
from interposer.layered import Under, built, ran
from interposer.swapping import EMULATED
from interposer.under import HERE
from thorough import examples


@pytest.mark.parametrize(("clock", "orders"), [("virtual", 150), ("real", 60)])
def test_after_many_random_swaps_under_load_every_buffer_is_whole(
    clock: str, orders: int, tmp_path: Path
) -> None:
    machine = Under(tmp_path, {"clock": clock, "devices": [SMALL]})
    done = ran(machine, built("storm", tmp_path), "3", str(orders), "kernels", GPUMAX_SWAP="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) > orders // 2, "too few of the orders moved anything"


CALLS = (
    "cuMemAddressReserve", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemRelease", "cuMemHostRegister_v2",
    "cuStreamCreateWithPriority", "cuEventCreate", "cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2", "cuEventRecordWithFlags", "cuEventSynchronize",
    "cuCtxSynchronize", "cuMemAddressFree",
)  # fmt: skip


def test_whoever_is_killed_at_any_step_of_a_swap_leaves_nothing_on_the_device(tmp_path: Path) -> None:
    """At each call of the driver that a swap makes, every time that it's made: the next process finds the device free."""
    cycle = built("cycle", tmp_path)
    killed = 0
    for call in CALLS:
        for nth in count(1):
            machine = Under(
                tmp_path, {"devices": [SMALL], "faults": [{"call": call, "nth": nth, "kill": True}]}
            )
            done = ran(machine, cycle, GPUMAX_SWAP="1")
            if done.returncode == 0:
                assert done.stdout == "whole\n"
                break
            assert done.returncode == -signal.SIGKILL, (call, nth, done.stdout, done.stderr)
            killed += 1
        assert nth > 1, f"{call} is called by no swap"
    assert killed > 2 * len(CALLS)


def faulty(tmp_path: Path, call: str, nth: int, result: str, *, sticky: bool) -> Under:
    fault = {"call": call, "nth": nth, "result": result, "sticky": sticky}
    return Under(tmp_path, {"devices": [SMALL], "faults": [fault]})


@pytest.mark.parametrize("result", ["CUDA_ERROR_ECC_UNCORRECTABLE", "CUDA_ERROR_LAUNCH_FAILED"])
@pytest.mark.parametrize(("call", "nth"), [("cuMemcpyDtoHAsync_v2", 2), ("cuMemcpyHtoDAsync_v2", 2)])
def test_a_context_that_breaks_in_the_midst_of_a_swap_is_the_programs_error(
    call: str, nth: int, result: str, tmp_path: Path
) -> None:
    """What it had is lost with its context; but nobody waits for it, and the program is told what it would be told anyway."""
    machine = faulty(tmp_path, call, nth, result, sticky=True)
    said = machine.run(
        EMULATED
        + """
        pointer = upload(data)
        before = out()
        after = back()
        say([before[0], after[0], name(d.cuMemcpyDtoH(data.ctypes.data, pointer, 8)), name(d.cuCtxSynchronize())])
        """,
        GPUMAX_SWAP="1",
    )
    assert said[:2] in ([3, 0], [0, 0], [3, 3])
    assert said[2:] == [result, result]


@pytest.mark.parametrize(("call", "nth"), [("cuMemcpyDtoHAsync_v2", 2), ("cuMemcpyHtoDAsync_v2", 2)])
def test_a_copy_that_fails_once_is_made_again(call: str, nth: int, tmp_path: Path) -> None:
    machine = faulty(tmp_path, call, nth, "CUDA_ERROR_UNKNOWN", sticky=False)
    said = machine.run(
        EMULATED
        + """
        pointer = upload(data)
        orders = [out()[0], out()[0], back()[0], back()[0]]
        say([orders, bool((download(pointer, data) == data).all())])
        """,
        GPUMAX_SWAP="1",
    )
    assert sorted(said[0]) == [0, 0, 0, 3]
    assert said[1] is True


def test_a_device_that_is_lost_while_all_is_out_lets_the_program_find_that_out(tmp_path: Path) -> None:
    machine = Under(tmp_path, {"devices": [SMALL]})
    said = machine.run(
        EMULATED
        + """
        pointer = upload(data)
        out()
        emu.gpumax_emu_set(0, b"broken", ctypes.c_double(719.0))
        back()
        say(name(d.cuMemcpyDtoH(data.ctypes.data, pointer, 8)))
        """,
        GPUMAX_SWAP="1",
    )
    assert said == "CUDA_ERROR_LAUNCH_FAILED"


def test_work_that_does_not_end_in_time_keeps_its_memory(tmp_path: Path) -> None:
    machine = Under(tmp_path, {"devices": [SMALL]})
    said = machine.run(
        EMULATED
        + """
        pointer = upload(data)
        module = load()
        launch(module, "spin", 400_000_000)
        during = out(patience=20)
        ok(d.cuCtxSynchronize())
        after = out()
        say([during[0], after[0], back()[0], bool((download(pointer, data) == data).all())])
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [2, 0, 0, True]


def started(machine: Under, program: str, group: str) -> subprocess.Popen[str]:
    """A process that has been in, and is out."""
    process = machine.start(program, GPUMAX_SWAP="1", GPUMAX_GROUP=group)
    assert line(process) == "there"
    return process


def test_one_comes_in_as_another_leaves(tmp_path: Path) -> None:
    """Together they have more than there is. Who comes waits for room piece by piece, and both are whole again and again."""
    machine = Under(tmp_path, {"devices": [SMALL | {"memory": "256Mi", "context": "16Mi"}]})
    program = (
        EMULATED
        + """
        data = np.random.default_rng(os.getpid()).integers(0, 2**32, 32 << 20, dtype=np.uint32)
        pointer = upload(data)
        out()
        say("there")
        for step in sys.stdin:
            if step == "in\\n":
                done = back(patience=60000)
                assert (download(pointer, data) == data).all()
            else:
                done = out(patience=60000)
            say(done[0])
        """
    )
    one, other = (started(machine, program, f"{tmp_path}{i}") for i in range(2))
    try:
        tell(one, "in")
        assert line(one) == 0
        for leaves, comes in ((one, other), (other, one)) * 2:
            tell(comes, "in")
            tell(leaves, "out")
            assert line(leaves) == 0
            assert line(comes) == 0
    finally:
        end(one)
        end(other)


def test_who_is_forked_while_its_parent_is_out_holds_nothing_of_it(tmp_path: Path) -> None:
    machine: Machine = Under(tmp_path, {"devices": [SMALL]})
    said = machine.run(
        EMULATED
        + """
        import signal
        pointer = upload(data)
        out()
        child = os.fork()
        if not child:
            signal.pause()
        used = 1024 - (free() >> 20)
        came = back()
        whole = bool((download(pointer, data) == data).all())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        say([used, came[0], whole])
        """,
        GPUMAX_SWAP="1",
    )
    assert said == [64, 0, True]


@pytest.mark.deep
def test_in_whatever_order_memory_is_used_swapped_and_hinted_a_plain_model_agrees(tmp_path: Path) -> None:
    machine = Under(tmp_path, {"clock": "virtual", "devices": [SMALL]})
    done = ran(
        machine,
        sys.executable,
        HERE / "anyorder.py",
        str(examples(8, 100)),
        GPUMAX_SWAP="1",
        PYTHONPATH=str(HERE.parent),
    )
    assert (done.returncode, done.stdout) == (0, "agreed\n"), done.stderr
