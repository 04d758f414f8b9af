"""Whatever is killed or stopped at whatever step, the others go on, nothing is granted twice, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interposer.under import page
from sharing.rig import MIB, Group, Program, Rig, eventually

Make = Callable[..., Rig]

GROUPS = {
    name: Group(memory=(10 * MIB, 60 * MIB), share=400, swap=True) for name in ("a", "b")
}  # of which one alone fits into the device's 64 MiB
WORKS = """
    data = np.arange(10 << 20, dtype=np.uint32) ^ np.uint32(os.getpid())
    pointer, sums = upload(data), ok(d.cuMemAlloc(8))
    def checksum():
        ok(launch(module, "checksum", sums, pointer, data.nbytes))
        return int(download(sums, np.zeros(1, np.uint64))[0])
    first, turn = checksum(), 0
    while True:
        turn += 1
        assert checksum() == first
        if turn % 8 == 0:
            ok(d.cuMemFree(ok(d.cuMemAlloc(9 << 20))))
            time.sleep(0.01)
        say(turn)
"""
HEARD = ("Joined", "Wanted", "Released", "Asked", "Returned", "SwappedOut", "SwappedIn", "Beat")
SAID = ("Welcome", "Grant", "Revoke", "Ended", "SwapOut", "SwapIn", "MemGrant", "Pool")
EVERY_DAY = {("it is killed", "Grant"), ("it is killed", "SwapOut"), ("it is stopped", "Revoke"),
             ("the broker is killed", "SwappedOut"), ("the broker is killed", "Asked")}  # fmt: skip
STEPS = [
    pytest.param(what, step, marks=() if (what, step) in EVERY_DAY else pytest.mark.slow, id=f"{what} at {step}")
    for what in ("it is killed", "it is stopped", "the broker is killed")
    for step in (*HEARD, *SAID)
]  # fmt: skip


def goes_on(program: Program, turns: int = 10) -> None:
    since = program.newest()
    program.until(lambda turn: turn >= since + turns)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def begin(rig: Make, *faults: dict[str, Any]) -> tuple[Rig, Program, Program]:
    here = rig(GROUPS, *faults, memory=64 * MIB, heartbeat_ms=200, quantum_ms=30)
    return here, here.start("a", WORKS), here.start("b", WORKS)


@pytest.mark.parametrize(("what", "step"), STEPS)
def test_at_every_step_others_go_on(what: str, step: str, rig: Make) -> None:
    nth = 1 if step in ("Joined", "Welcome", "Pool", "Revoke") else 3
    here, a, b = begin(rig, {"kind": step, "group": "a", "nth": nth, "what": what})
    eventually(lambda: here.seen(what))
    if what == "the broker is killed":
        here.broken()
        here.serve()
    elif what == "it is killed":
        a.process.wait()
        goes_on(b)
        a = here.start("a", WORKS)
    else:
        last = here.seen(what)[0]["at"]
        eventually(lambda: here.seen("Grant", "b", last) or len(here.seen("Beat", "b", last)) > 10)
        a.signal(signal.SIGCONT)
    goes_on(a)
    goes_on(b)
    nothing_is_left(here, a, b)


def nothing_is_left(here: Rig, *programs: Program) -> None:
    """All processes end, whatever way, and so does what was kept for them."""
    assert here.broker is not None
    for program in programs:
        program.signal(signal.SIGTERM)
        program.process.wait()
    eventually(lambda: not here.pages)
    files = open_files(here.broker.pid)
    again = here.start("a", "work(); say(1)")
    again.hear()
    again.ends()
    eventually(lambda: not here.pages)
    eventually(lambda: open_files(here.broker.pid) == files if here.broker else False)
    assert not page(f"{here.folder}/a").exists()


def stopped_without_a_call(a: Program, here: Rig) -> bool:
    """It has stopped itself with the lease in its hands; if it had given it back before, it goes on and tries again."""

    def stopped() -> bool:
        return Path(f"/proc/{a.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    eventually(stopped)
    since = here.record()[-1]["at"]
    eventually(lambda: here.seen("Fence", "a") or here.seen("Grant", "b", since))
    if here.seen("Fence", "a"):
        return True
    a.signal(signal.SIGCONT)
    return False


def test_a_holder_that_stops_is_fenced_and_asks_anew_when_it_goes_on(rig: Make) -> None:
    here = rig({"a": Group(), "b": Group()}, heartbeat_ms=200)
    b = here.start("b", "n = 0\nwhile True:\n    work(2); n += 1; say(n)\n")
    a = here.start("a", "n = 0\nwhile True:\n    work(); n += 1; say(n); os.kill(os.getpid(), 19)\n")
    while not stopped_without_a_call(a, here):
        pass
    goes_on(b)
    a.signal(signal.SIGCONT)
    a.newest()
    a.signal(signal.SIGCONT)


def test_a_holder_goes_on_while_the_broker_is_away_and_the_other_waits_for_it(rig: Make) -> None:
    here = rig({"a": Group(), "b": Group()})
    forever = "n = 0\nwhile True:\n    ok(spin(1)); n += 1; n % 20 or ok(d.cuCtxSynchronize()); say(n)\n"
    both = {name: here.start(name, forever) for name in ("a", "b")}
    eventually(lambda: here.seen("Grant", "a") and here.seen("Grant", "b"))
    here.kill_broker()
    here.serve()
    for program in both.values():
        goes_on(program, 100)


def test_a_broker_that_lost_its_pages_gives_new_ones(rig: Make) -> None:
    """It can't know who still submits by the old ones, so for a moment two may: that isn't promised."""
    here = rig({"a": Group(), "b": Group()})
    forever = "n = 0\nwhile True:\n    work(); n += 1; say(n)\n"
    both = [here.start(name, forever) for name in ("a", "b")]
    for program in both:
        program.until(lambda n: n >= 5)
    here.kill_broker()
    for path in (here.directory / "pages").iterdir():
        path.unlink()
    here.forgetful = True
    here.serve()
    for program in both:
        goes_on(program, 20)


def test_where_no_broker_comes_back_work_goes_on_without_turns_and_memory_comes_in(rig: Make) -> None:
    here, a, b = begin(rig)
    for program in (a, b):
        program.until(lambda turn: turn >= 5)
    b.kill()
    eventually(lambda: here.seen("Died", "b"))
    here.kill_broker()
    goes_on(a, 40)
