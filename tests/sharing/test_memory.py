"""Memory that is shared by a broker: what is guaranteed is there, what is borrowed comes and goes with every bit, more is refused."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sharing.rig import MIB, Group, Program, Rig, eventually

Make = Callable[..., Rig]

BIG = Group(memory=(100 * MIB, 900 * MIB), share=500, swap=True)

FILLED = """
    import hashlib
    def fill(mib, seed):
        data = np.arange(mib << 18, dtype=np.uint32) ^ np.uint32(seed * 2654435761 % 2**32)
        return upload(data), data
    def same(pointer, data): return bool((download(pointer, data) == data).all())
    def try_alloc(mib): return name(d.cuMemAlloc(mib << 20))
"""


@pytest.mark.parametrize(
    ("each", "device"), [(175, 256), pytest.param(700, 1024, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_two_that_do_not_fit_side_by_side_take_turns_and_lose_no_bit(
    each: int, device: int, rig: Make
) -> None:
    group = Group(memory=(device * MIB // 10, device * MIB * 9 // 10), share=500, swap=True)
    here = rig({"a": group, "b": group}, memory=device * MIB)
    program = """
    pointer, data = fill(MIB, os.getpid())
    sums = ok(d.cuMemAlloc(8))
    def checksum():
        ok(launch(module, "checksum", sums, pointer, data.nbytes))
        return int(download(sums, np.zeros(1, np.uint64))[0])
    first = checksum()
    say("filled")
    while not (counters()["swaps_in"] and counters()["swaps_out"]):
        assert checksum() == first
    say(same(pointer, data))
    wait_for_a_line()
    """
    both = [here.start(name, FILLED, f"MIB = {each}", program) for name in ("a", "b")]
    for one in both:
        assert one.until(lambda said: said != "filled")
    for one in both:
        one.tell()
        one.ends()


def test_what_is_guaranteed_is_said_to_be_free_whoever_has_borrowed_it(rig: Make) -> None:
    borrower = Group(memory=(50 * MIB, 240 * MIB), share=500, swap=True)
    here = rig({"a": borrower, "b": Group(memory=(150 * MIB, 150 * MIB), share=500)}, memory=256 * MIB)
    a = here.start("a", FILLED, "fill(200, 1); say('filled'); wait_for_a_line()")
    assert a.hear() == "filled"
    b = here.start(
        "b", FILLED, "say(ok(d.cuMemGetInfo())[0] >> 20); say(try_alloc(150)); say(ok(d.cuMemGetInfo())[0])"
    )
    assert [b.hear() for _ in range(3)] == [150, "CUDA_SUCCESS", 0]
    a.tell()


def test_beyond_the_limit_is_refused_and_within_it_is_had(rig: Make) -> None:
    here = rig({"a": Group(memory=(300 * MIB, 300 * MIB))})
    a = here.start(
        "a",
        FILLED,
        """
    got = [try_alloc(301), try_alloc(200), try_alloc(101), try_alloc(99)]
    say([got, ok(d.cuDeviceTotalMem(0)) >> 20, free() >> 20])
    """,
    )
    assert a.hear() == [
        ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"],
        300,
        1,
    ]


def test_one_limit_holds_for_all_processes_of_a_group_to_the_megabyte(rig: Make) -> None:
    here = rig({"a": Group(memory=(300 * MIB, 300 * MIB))})
    asks = "while True:\n    say(try_alloc(int(wait_for_a_line())))\n"
    one, other = (
        here.start("a", FILLED, asks),
        here.start("a", FILLED, asks, GPUMAX_GROUP="an account of its own"),
    )
    said = []
    for program, mib in ((one, 190), (other, 111), (other, 110), (one, 1)):
        program.tell(str(mib))
        said.append(program.hear() == "CUDA_SUCCESS")
    assert said == [True, False, True, False]


def test_what_is_freed_is_anothers_to_have(rig: Make) -> None:
    here = rig({"a": Group(memory=(300 * MIB, 300 * MIB))})
    frees = here.start(
        "a",
        FILLED
        + "it = ok(d.cuMemAlloc(290 << 20)); say(1); wait_for_a_line(); ok(d.cuMemFree(it)); say(2); wait_for_a_line()",
    )
    frees.hear()
    frees.tell()
    frees.hear()
    takes = here.start("a", FILLED, "say(try_alloc(290))", GPUMAX_GROUP="an account of its own")
    assert takes.hear() == "CUDA_SUCCESS"
    frees.tell()


def test_what_cannot_be_moved_has_to_fit_into_the_guarantee(rig: Make) -> None:
    here = rig({"a": Group(memory=(100 * MIB, 500 * MIB), swap=True)})
    a = here.start(
        "a", FILLED, "say([name(d.cuMemAllocManaged(mib << 20, 1)) for mib in (150, 80)] + [try_alloc(300)])"
    )
    assert a.hear() == ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS", "CUDA_SUCCESS"]


def test_an_owner_gets_its_guarantee_and_the_borrower_comes_back_whole(rig: Make) -> None:
    here = rig({
        "owner": Group(memory=(150 * MIB, 150 * MIB), share=500, swap=True),
        "borrower": Group(memory=(0, 225 * MIB), share=500, swap=True),
    }, memory=256 * MIB)  # fmt: skip
    borrower = here.start(
        "borrower",
        FILLED,
        "pointer, data = fill(150, 1); say(1); wait_for_a_line(); say(same(pointer, data))",
    )
    borrower.hear()
    owner = here.start(
        "owner", FILLED, "pointer, data = fill(140, 2); say(same(pointer, data)); wait_for_a_line()"
    )
    assert owner.hear()
    assert here.seen("SwapOut", "borrower")
    owner.tell()
    owner.ends()
    borrower.tell()
    assert borrower.hear()
    eventually(lambda: here.seen("SwappedIn", "borrower"))


def test_programs_that_allocate_more_and_more_while_others_swap_them_come_to_an_end(rig: Make) -> None:
    """An allocation that waits for room is no memory that can't be moved: all that was there before comes in beside it."""
    groups = {name: Group((5 * MIB, 200 * MIB), 300, swap=True) for name in "abc"}
    here = rig(groups, memory=256 * MIB)
    programs = [
        here.start(
            name,
            """
            parts = []
            for n in range(30):
                parts.append(ok(d.cuMemAlloc(6 << 20)))
                ok(d.cuMemsetD32(parts[-1], n + 1, 6 << 18)); ok(d.cuCtxSynchronize())
            say([int(download(p, np.empty(1, np.uint32))[0]) for p in parts] == list(range(1, 31)))
            wait_for_a_line()
            """,
        )
        for name in groups
    ]
    assert [program.hear() for program in programs] == [True] * 3


def test_whoever_asks_for_memory_when_the_broker_is_gone_goes_on_without_it(rig: Make) -> None:
    here = rig({"a": Group((20 * MIB, 800 * MIB), 300, swap=True)})
    a = here.start(
        "a",
        FILLED,
        """
        pointer, data = fill(10, 1)
        say("filled"); wait_for_a_line()
        other, more = fill(200, 2)
        say(same(pointer, data) and same(other, more))
        """,
    )
    a.hear()
    here.kill_broker()
    a.tell()
    assert a.hear()
    assert "doesn't come back" in a.ends()


def test_what_was_asked_of_a_broker_that_died_is_had_once_and_not_twice(rig: Make) -> None:
    """Who believed to have more than its broker knows of would take room that others have been promised."""
    here = rig({"a": Group((20 * MIB, 800 * MIB), 300, swap=True)})
    a = here.start(
        "a",
        FILLED,
        """
        say(try_alloc(10)); wait_for_a_line()
        say("asks"); say(try_alloc(100)); wait_for_a_line()
        say(try_alloc(100)); wait_for_a_line()
        """,
    )
    assert a.hear() == "CUDA_SUCCESS"
    assert here.broker is not None
    here.broker.send_signal(signal.SIGSTOP)
    a.tell()
    assert a.hear() == "asks"
    eventually(lambda: Path(f"/proc/{a.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S")
    here.kill_broker()
    here.serve()
    assert a.hear() == "CUDA_SUCCESS"
    before = time.monotonic_ns()
    a.tell()
    assert a.hear() == "CUDA_SUCCESS"
    eventually(lambda: here.seen("Asked", "a", before))
    a.tell()
    a.ends()


LENDS = {
    "owner": Group(memory=(150 * MIB, 150 * MIB), share=500, swap=True),
    "borrower": Group(memory=(0, 225 * MIB), share=500, swap=True),
}
BORROWS = (
    "pointer, data = fill(200, 1); say(1); wait_for_a_line(); say(same(pointer, data)); wait_for_a_line()"
)
OWNS = "say('asks'); pointer, data = fill(140, 2); say(same(pointer, data)); wait_for_a_line()"


def owner_waits(rig: Make, *program: str) -> tuple[Rig, Program, Program]:
    """A borrower is stopped, and an owner wants its room, for longer than it should take."""
    here = rig(LENDS, memory=256 * MIB, settings={"memory_wait_ns": 300_000_000})
    borrower = here.start("borrower", FILLED, BORROWS)
    assert borrower.hear() == 1
    borrower.signal(signal.SIGSTOP)
    owner = here.start("owner", FILLED, *(program or (OWNS,)))
    assert owner.hear() == "asks"
    eventually(lambda: here.seen("report waits", "owner"))
    return here, borrower, owner


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "is killed"])
def test_an_owner_waits_for_a_borrower_that_is_stopped_and_has_the_room_when_it(
    ends: bool, rig: Make
) -> None:
    _, borrower, owner = owner_waits(rig)
    assert owner.lines.empty()
    borrower.signal(signal.SIGKILL if ends else signal.SIGCONT)
    assert owner.hear() is True
    owner.tell()
    owner.ends()
    if not ends:
        borrower.tell()
        assert borrower.hear() is True


def test_who_waits_for_room_of_its_own_asks_the_next_broker_anew(rig: Make) -> None:
    here, borrower, owner = owner_waits(rig)
    here.kill_broker()
    before = time.monotonic_ns()
    here.serve()
    eventually(lambda: here.seen("Asked", "owner", before))
    assert owner.lines.empty()
    borrower.signal(signal.SIGCONT)
    assert owner.hear() is True
    assert not here.seen("MemDeny", "owner")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_for_room_of_its_own_can_be_ended(number: signal.Signals, rig: Make) -> None:
    """Python's own handler of SIGINT would have to wait for the call's end."""
    here, borrower, owner = owner_waits(
        rig, "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)", OWNS
    )
    owner.signal(number)
    assert owner.process.wait(60) == -number
    eventually(lambda: here.seen("Died", "owner"))
    borrower.signal(signal.SIGCONT)
    borrower.tell()
    assert borrower.hear() is True


def test_where_the_guarantee_is_enough_no_more_is_asked_for(rig: Make) -> None:
    """A little more than is needed would be borrowed, and for what is borrowed nobody waits as for their own."""
    here = rig({"owner": Group(memory=(150 * MIB, 200 * MIB), share=500, swap=True)}, memory=256 * MIB)
    owner = here.start("owner", FILLED, "say([try_alloc(18), try_alloc(132)])")
    assert owner.hear() == ["CUDA_SUCCESS"] * 2
    assert [each["bytes"] // MIB for each in here.seen("Asked", "owner")] == [20, 130]
