"""A program that ends in good order says so, and gives back what it doesn't use; nothing keeps it from ending."""

from __future__ import annotations

import signal
from collections.abc import Callable

from sharing.rig import Group, Rig, eventually

Make = Callable[..., Rig]
FREED = "ok(d.cuMemFree(ok(d.cuMemAlloc(3 << 20)))); work()\n"


def test_what_it_has_freed_is_anothers_before_its_end_is_seen(rig: Make) -> None:
    here = rig({"a": Group()})
    here.start("a", FREED).ends()
    eventually(lambda: here.seen("Died"))
    ends = [each["kind"] for each in here.record() if each["kind"] in ("Returned", "Leaving", "Died")]
    assert ends == ["Returned", "Leaving", "Died"]


def test_a_child_does_not_say_it_for_its_parent(rig: Make) -> None:
    here = rig({"a": Group()})
    a = here.start(
        "a",
        """
        work()
        child = os.fork()
        if not child:
            sys.exit()
        os.waitpid(child, 0)
        work(); say("still here")
        """,
    )
    assert a.hear() == "still here"
    a.ends()
    eventually(lambda: here.seen("Died"))
    assert [each["pid"] for each in here.seen("Leaving")] == [a.pid]


def test_a_broker_that_does_not_answer_keeps_nobody_from_ending(rig: Make) -> None:
    here = rig({"a": Group()})
    a = here.start("a", FREED + "say(1); wait_for_a_line()\n")
    a.hear()
    assert here.broker is not None
    here.broker.send_signal(signal.SIGSTOP)
    a.tell()
    a.ends()
