"""Who stops with a lease, and how work goes on while there is no broker. What is killed or stopped at each step: test_steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from sharing.rig import Group, Program, Rig, eventually
from sharing.scenes import LOSES, MOVES, QUICK, SWAPPED

Make = Callable[..., Rig]


def goes_on(program: Program, turns: int = 10) -> None:
    since = program.newest()
    program.until(lambda turn: turn >= since + turns)


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
    here = rig(SWAPPED, **QUICK)
    a, b = (here.start(name, LOSES, MOVES) for name in SWAPPED)
    for program in (a, b):
        program.until(lambda turn: turn >= 5)
    b.kill()
    eventually(lambda: here.seen("Died", "b"))
    here.kill_broker()
    goes_on(a, 40)
