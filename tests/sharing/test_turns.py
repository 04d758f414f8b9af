"""Programs under the layer get their turns from a broker: nobody submits without one, and whoever waits gets one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sharing.rig import Group, Rig, eventually, turns

Make = Callable[..., Rig]
FOREVER = "n = 0\nwhile True:\n    work(2); n += 1; say(n)\n"


def gave_back(here: Rig, times: int) -> None:
    eventually(lambda: len(list(turns(here.record()))) >= times)


@pytest.mark.parametrize("mode", ["fair", "strict"])
def test_two_programs_that_want_the_device_all_the_time_take_turns(mode: str, rig: Make) -> None:
    here = rig({"a": Group(share=700, mode=mode), "b": Group(share=300, mode=mode)})
    a, b = here.start("a", FOREVER), here.start("b", FOREVER)
    for program in (a, b):
        program.until(lambda n: n >= 60)
    names = [name for name, _, _ in turns(here.record())]
    assert names.count("a") > 1
    assert names.count("b") > 1


def test_whoever_waits_for_each_kernel_is_at_work_all_the_same(rig: Make) -> None:
    """When its turn is taken away it says that it wants more: else it would be owed nothing for the turns of others."""
    here = rig({"a": Group(share=700), "b": Group(share=300)})
    a, b = here.start("a", FOREVER), here.start("b", FOREVER)
    for program in (a, b):
        program.until(lambda n: n >= 60)
    record = here.record()
    taken = {(each["client"], each["lease"]) for each in record if each["kind"] == "Revoke"}
    wants = [
        each["wants"]
        for each in record
        if each["kind"] == "Released" and (each["client"], each["lease"]) in taken
    ]
    assert sum(wants) > len(wants) / 2  # on a machine that is busy with others it may seem to rest for once


def test_a_turn_lasts_until_the_device_has_done_what_was_submitted_in_it(rig: Make) -> None:
    """Another one waits all the time, so the turn is taken away early in a kernel of 400 ms: and ends, and is charged, after it."""
    here = rig({"a": Group(), "b": Group()})
    b = here.start("b", FOREVER)
    b.until(lambda n: n >= 5)
    here.start("a", "ok(spin(400))\nwhile True: ok(spin(0.01))\n")
    took = eventually(lambda: [end - start for name, start, end in turns(here.record()) if name == "a"])
    assert took[0] >= 400_000_000


def test_a_turn_lasts_so_long_in_a_context_too_that_began_where_nobody_saw_it(rig: Make) -> None:
    """As by the vendor's own libraries, which have tables of functions that nobody else knows."""
    here = rig({"a": Group(), "b": Group()})
    b = here.start("b", FOREVER)
    b.until(lambda n: n >= 5)
    here.start(
        "a",
        """
        emu, context = ctypes.CDLL(os.path.realpath(os.environ["GPUMAX_REAL_LIBCUDA"])), ctypes.c_void_p()
        for _ in range(2): emu.cuDevicePrimaryCtxReset_v2(0)
        assert emu.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        emu.cuCtxSetCurrent(context)
        module = load()
        function = ok(d.cuModuleGetFunction(module, b"spin"))
        ok(spin(400))
        while True: ok(spin(0.01))
        """,
    )
    took = eventually(lambda: [end - start for name, start, end in turns(here.record()) if name == "a"])
    assert took[0] >= 400_000_000


def test_whoever_rests_gives_the_device_back_and_asks_anew(rig: Make) -> None:
    here = rig({"a": Group()})
    a = here.start("a", "while True:\n    work(); say('done'); wait_for_a_line()\n")
    for turn in range(3):
        assert a.hear() == "done"
        gave_back(here, turn + 1)
        a.tell()


def test_a_program_alone_keeps_the_device_while_it_works(rig: Make) -> None:
    here = rig({"a": Group(share=1000)})
    a = here.start(
        "a",
        "for n in range(200):\n    ok(spin(0.2))\nok(d.cuCtxSynchronize())\nsay(counters()['gate_waits'])\n",
    )
    assert a.hear() <= 20


def test_processes_of_one_group_have_their_turn_together(rig: Make) -> None:
    here = rig({"a": Group(), "b": Group()})
    all_three = [here.start(name, FOREVER) for name in ("a", "a", "b")]
    for program in all_three:
        program.until(lambda n: n >= 20)
    eventually(lambda: len({each["pid"] for each in here.seen("Grant", "a")}) == 2)


def test_without_a_broker_work_goes_on_and_says_so_once(rig: Make) -> None:
    here = rig({"a": Group()})
    a = here.start("nobody", "work(); work(); say(counters()['without_broker'])")
    assert a.hear() == 1
    assert a.ends().count("no broker at") == 1


def test_a_broker_that_comes_late_is_found(rig: Make) -> None:
    here = rig({"a": Group()})
    here.kill_broker()
    a = here.start("a", FOREVER)
    a.until(lambda n: n >= 5)
    here.serve()
    eventually(lambda: len(here.seen("Ended", "a")) >= 0 and here.seen("Grant", "a"))
    seen = a.hear()
    a.until(lambda n: n > seen + 20)


def test_a_program_that_another_one_starts_is_a_client_of_its_own(rig: Make) -> None:
    here = rig({"a": Group()})
    a = here.start(
        "a",
        """
        work()
        import subprocess
        say(subprocess.run([sys.executable, "-c", open("/proc/self/cmdline").read().split("\\0")[2].split("work()")[0]
                           + "\\nwork()\\nprint('well')"], capture_output=True, text=True).stdout.strip())
        """,
    )
    assert a.hear() == "well"
    assert a.ends() == ""
    eventually(lambda: len({each["pid"] for each in here.seen("Grant", "a")}) == 2)


def test_a_program_that_asks_for_its_share_before_any_work_is_told_it(rig: Make) -> None:
    here = rig({"a": Group(share=300, mode="strict")})
    a = here.start(
        "a", "import gpumax.gpu; said = gpumax.gpu.share(); say([said.share, said.mode, said.limit >> 20])"
    )
    assert a.hear() == [0.3, "strict", 200]
