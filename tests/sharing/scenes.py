"""Which programs make each step of the protocol: scenes that come to their steps again and again, whoever is killed or stopped in them."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Final

from sharing.rig import LOOP, MIB, Group, eventually
from sharing.serve import ANSWERED, ASKED
from sharing.steps import BROKER_KILLED, GOES_ON, KILLED, STOPPED, Cast, Scene, state_of

SWAPPED = {name: Group(memory=(10 * MIB, 60 * MIB), share=400, swap=True) for name in "ab"}
"""Of which one alone fits into the device's 64 MiB."""
QUICK = {"memory": 64 * MIB, "heartbeat_ms": 200, "quantum_ms": 30}
LOSES = """
    import socket, stat
    def lose():
        "The connection to the broker ends, and nothing else."
        for fd in os.listdir("/proc/self/fd"):
            try:
                if stat.S_ISSOCK(os.stat(int(fd)).st_mode):
                    it = socket.socket(fileno=os.dup(int(fd)))
                    it.shutdown(socket.SHUT_RDWR); it.close()
            except OSError:
                pass
"""
MOVES = """
    data = np.arange(10 << 20, dtype=np.uint32) ^ np.uint32(os.getpid())
    pointer, sums = upload(data), ok(d.cuMemAlloc(8))
    def checksum():
        ok(launch(module, "checksum", sums, pointer, data.nbytes))
        return int(download(sums, np.zeros(1, np.uint64))[0])
    first, turn = checksum(), 0
    while True:
        turn += 1
        assert checksum() == first
        if turn % 4 == 0:
            ok(d.cuMemFree(ok(d.cuMemAlloc(9 << 20))))
            assert name(d.cuMemAlloc(40 << 20)) == "CUDA_ERROR_OUT_OF_MEMORY"
            assert layer.gpumax_layer_hint(ctypes.c_ulonglong(int(pointer)), ctypes.c_ulonglong(0), turn // 4 % 2) == 0
            time.sleep(0.01)
        if turn % 16 == 0:
            lose()
        say(turn)
"""
COMPANION = """
    held = ok(d.cuMemAlloc(2 << 20))
    work()
    turn = 0
    while True:
        turn += 1
        ok(d.cuMemFree(ok(d.cuMemAlloc(3 << 20))))
        name(d.cuMemAlloc(59 << 20))
        work()
        say(turn)
"""
WORKS = """
    turn = 0
    while True:
        work(); turn += 1; say(turn)
"""
CHILDREN = """
    turn = 0
    while True:
        child = os.fork()
        if not child:
            current()
            kept = ok(d.cuMemAlloc(3 << 20))
            ok(d.cuMemFree(ok(d.cuMemAlloc(20 << 20))))
            ok(d.cuMemsetD8(kept, 1, 3 << 20)); ok(d.cuCtxSynchronize())
            sys.exit()
        _, status = os.waitpid(child, 0)
        assert status in (0, 9), status
        turn += 1; say(turn)
"""
STOPS = """
    turn = 0
    while True:
        work(); turn += 1; say(turn)
        os.kill(os.getpid(), 19)
"""
HOLDS = """
    data = np.arange(6 << 20, dtype=np.uint32) ^ np.uint32(os.getpid())
    pitched, width = ok(d.cuMemAllocPitch(1 << 20, 70, 4))
    ok(d.cuMemcpyHtoD(pitched, data.ctypes.data, data.nbytes))
    swappable, sums = upload(data), ok(d.cuMemAlloc(8))
    def checksums():
        found = []
        for pointer in (pitched, swappable):
            ok(launch(module, "checksum", sums, pointer, data.nbytes))
            found.append(int(download(sums, np.zeros(1, np.uint64))[0]))
        return found
"""
"""Memory of both kinds, that can be swapped and that can't, and what it sums up to."""
RESTS = (
    HOLDS
    + """
    first, turn = checksums(), 0
    assert first[0] == first[1]
    while True:
        assert checksums() == first
        turn += 1; say(turn)
        wait_for_a_line()
"""
)
NEEDS = """
    turn = 0
    while True:
        result, p = d.cuMemAlloc(220 << 20)
        if int(result) == 2:  # just then the other one doesn't rest
            time.sleep(0.02)
            continue
        work(); ok(d.cuMemFree(p))
        turn += 1; say(turn)
"""


def renew(cast: Cast) -> None:
    """What is said once to a process, another one is told."""
    if cast.awaited == "Pool" and not cast.mark:
        cast.mark = 1
        cast.of("a").process.kill()


def awaken(cast: Cast) -> None:
    """Who has stopped itself goes on when others have had the device meanwhile, or when what was waited for has come."""
    a, here = cast.of("a"), cast.here
    if state_of(a.pid) != "T":
        return
    last = max(
        (each["at"] for each in here.record() if each["pid"] == a.pid and each["kind"] == "Grant"), default=0
    )
    if not cast.awaited or here.seen("Fence", "a", last) or here.seen("Grant", "b", last):
        a.signal(signal.SIGCONT)


def administrate(cast: Cast) -> None:
    """Group a gets another share, or ends."""
    wanted = SHARED["a"].wish()
    if not cast.turns.get(cast.of("a").pid):
        return
    if cast.awaited == "Config" and len(cast.here.seen("Config", "a", cast.since + 1)) == cast.mark:
        cast.mark += 1
        cast.here.wish(configure=["a", wanted | {"share": 300 + cast.mark % 100}])
    if cast.awaited == "Refuse" and not cast.mark:
        cast.mark = 1
        cast.here.wish(remove="a")


def readmit(cast: Cast) -> None:
    """A group that has ended can be had again once its processes have."""
    assert cast.broken is not None
    if cast.broken["step"] != "Refuse" or cast.broken["kind"] == BROKER_KILLED:
        return
    cast.of("a").kill()
    eventually(lambda: cast.here.seen("Died", "a", cast.broken["at"] if cast.broken else 0))
    cast.here.wish(add=["a", SHARED["a"].wish()])


def stick(cast: Cast) -> None:
    """Group a stops, until it's seen that nobody needs anything of it just then."""
    if cast.awaited != "End":
        return
    a, here = cast.of("a"), cast.here
    if state_of(a.pid) == "T":
        if len(here.seen("Beat", "b", cast.mark)) > 20:
            a.signal(signal.SIGCONT)
            cast.turns.pop(a.pid, None)
    elif cast.turns.get(a.pid):
        cast.mark = here.record()[-1]["at"]
        a.signal(signal.SIGSTOP)


def take_off(cast: Cast) -> None:
    """Group a rests until b has had the device for itself. For what the next broker finds, one is killed while a is away."""
    a, b, here = cast.of("a"), cast.of("b"), cast.here
    now = [(each.pid, cast.turns.get(each.pid, 0)) for each in (a, b)]
    if cast.rests[:1] != now[:1]:
        cast.rests = now
    elif len(cast.rests) == 2 and cast.rests[1] != now[1] and now[0][1] and now[1][1]:
        cast.rests = now[:1]
        with suppress(BrokenPipeError):
            a.tell()
    if cast.awaited != "Found":
        return
    if not list((here.directory / "away").glob("[0-9]*")):
        cast.mark = 0
    elif not cast.mark:
        cast.mark = 1
        here.kill_broker()
        here.serve(*([cast.fault] if cast.fault else []))


SHARED = {name: Group(share=400) for name in "ab"}
GONE: Final = "its process has ended by then"
SCENES: Final = {
    "they take turns in memory": Scene(
        (
            "Joined", "Welcome", "Inventory", "Wanted", "Grant", "Revoke", "Released", "Ended", "Asked", "MemGrant", "MemDeny", "Pool",
            "Returned", "SwapOut", "SwappedOut", "SwapIn", "SwappedIn", "Hinted", "Beat", "Left",
        ),
        (("a", (LOSES, MOVES)), ("b", (LOSES, MOVES))), SWAPPED, QUICK, renew, once=("Pool",),
    ),
    "two of a group share its limit": Scene(
        ("Trim",), (("a", (COMPANION,)), ("a", (COMPANION,)), ("b", (WORKS,))), SWAPPED, QUICK | {"memory": 256 * MIB}
    ),
    "some come and go": Scene(
        ("Leaving", "Died", "Reclaimed"), (("a", (CHILDREN,)), ("b", (LOOP, WORKS))), SHARED,
        {"heartbeat_ms": 200, "buries": True, "settings": {"burial_ns": 2_000_000_000}},
        head="", spared={(step, what): GONE for step in ("Died", "Reclaimed") for what in (KILLED, STOPPED)},
    ),
    "a holder stops": Scene(
        ("Look", "PageSeen", "Fence"), (("a", (STOPS,)), ("b", (WORKS,))), SHARED, {"heartbeat_ms": 200}, awaken,
        more=(GOES_ON,), spared={(step, STOPPED): "it's stopped already" for step in ("Look", "PageSeen", "Fence")},
    ),
    "who is stuck is ended": Scene(
        ("End",), (("a", (LOSES, MOVES)), ("b", (LOSES, MOVES))), SWAPPED, QUICK | {"stuck": "end", "settings": {"cold_ns": 0}}, stick, once=("End",),
        spared={("End", what): GONE for what in (KILLED, STOPPED)},
    ),
    "its share changes and ends": Scene(
        ("Config", "Refuse"), (("a", (WORKS,)), ("b", (WORKS,))), SHARED, {"heartbeat_ms": 200}, administrate, readmit, once=("Refuse",),
    ),
    "the driver takes one off the device": Scene(
        ("Checkpoint", ASKED, ANSWERED, "Checkpointed", "Restore", "Restored", "Found"), (("a", (RESTS,)), ("b", (NEEDS,))),
        {
            "a": Group(memory=(120 * MIB, 120 * MIB), swap=True),
            "b": Group(memory=(100 * MIB, 250 * MIB), swap=True),
        },  # what b wants has no room beside what of a can't be swapped
        {
            "memory": 256 * MIB, "driver": True,
            "settings": {"cold_ns": 200_000_000, "idle_ns": 200_000_000, "stuck_ns": 200_000_000, "memory_wait_ns": 60_000_000_000},
        },
        take_off, turns=2, once=("Found",),
    ),
}  # fmt: skip
