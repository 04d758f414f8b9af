"""What a broker says of itself: who has what, and why somebody waits."""

from __future__ import annotations

import msgspec
import pytest

from broker.world import GIB, MS, SECOND, World, group
from gpumax.broker.status import Status, status
from gpumax.broker.words import Mode


def seen(world: World) -> Status:
    assert world.broker
    return status(world.broker)


def test_a_status_tells_who_has_what_of_which_device() -> None:
    spec = group("a", 250, mode=Mode.STRICT, guarantee=2 * GIB, limit=8 * GIB)
    world = World([spec])
    world.start(spec, memory=3 * GIB, pinned=GIB)
    world.run(MS)
    said = msgspec.json.decode(msgspec.json.encode(seen(world)))
    assert said == {
        "epoch": 1,
        "devices": [{
            "uuid": "d0", "name": "", "bytes": 16 * GIB, "used": 4 * GIB, "state": "busy", "unfenced": [],
            "holder": "a", "serial": False,
        }],
        "groups": [{
            "name": "a", "mode": "strict", "share": 0.25, "guaranteed": 2 * GIB, "limit": 8 * GIB, "swap": True,
            "clients": [{
                "pid": 1, "client": 1, "lease": "granted",
                "devices": {"d0": {"resident": 4 * GIB, "swapped": 0, "pinned": GIB, "budget": 4 * GIB}},
            }],
            "swaps": {"out": 0, "in": 0, "bytes_out": 0, "bytes_in": 0}, "waits": None, "devices": ["d0"], "hangs": None,
        }],
    }  # fmt: skip


def test_who_waits_is_told_for_whom() -> None:
    specs = [group("a", 500), group("b", 500)]
    world = World(specs)
    for spec in specs:
        world.start(spec)
    world.run(10 * MS)
    assert [g.waits for g in seen(world).groups] == [None, "its turn: a has d0"]


def test_a_strict_group_waits_for_its_next_frame() -> None:
    spec = group("a", 300, mode=Mode.STRICT)
    world = World([spec])
    world.start(spec)
    world.run(SECOND + 30 * MS)
    assert seen(world).groups[0].waits == "its share of this frame is used"


@pytest.mark.parametrize("piece", [0, GIB], ids=["told of at the end", "told of in pieces"])
def test_who_is_swapped_out_is_told_who_has_the_room_and_what_it_has_cost(piece: int) -> None:
    specs = [group(name, 500, limit=12 * GIB) for name in "ab"]
    world = World(specs, piece=piece)
    for spec in specs:
        world.start(spec, memory=10 * GIB, kernel_ns=20 * MS)
    world.run(100 * SECOND)
    waits = {g.name: g.waits for g in seen(world).groups}
    out = (
        next(g.name for g in world.broker.state.groups.values() if g.place.value == "out")
        if world.broker
        else ""
    )
    other = "b" if out == "a" else "a"
    assert waits[out] == f"its memory is out: {other} has the room"
    swaps = seen(world).groups[0].swaps
    assert swaps.out
    assert swaps.bytes_out == swaps.out * 10 * GIB
    assert abs(swaps.in_ - swaps.out) <= 1, "it comes in as often as it goes, in however many pieces"


@pytest.mark.parametrize(
    ("ahead", "stops", "said"),
    [(0, True, "process 1 doesn't answer"), (1000, False, "process 1 has work that hasn't ended")],
    ids=["stopped", "queued far too much"],
)
def test_a_holder_that_does_not_go_on_is_not_said_to_rest(ahead: int, stops: bool, said: str) -> None:
    """Neither while it still has its turn, nor once it can't submit any more."""
    specs = [group("a", 500), group("b", 500)]
    world = World(specs)
    a, _ = world.start(specs[0], kernel_ns=200 * MS, ahead=ahead), world.start(specs[1], kernel_ns=20 * MS)
    world.run(SECOND)
    assert seen(world).groups[0].hangs is None
    if stops:
        world.stop(a)
    found = []
    while not any(r.kind == "fenced" for r in world.reports):
        world.run(world.now + SECOND)
        found.append(seen(world).groups[0].hangs)
    assert found[-1]
    assert set(found) <= {None, said, "process 1 has work that hasn't ended"}
    world.run(world.now + 3 * SECOND)
    assert seen(world).groups[0].hangs == said


def test_a_gang_that_is_not_whole_says_how_many_are_there() -> None:
    spec = group("gang")
    world = World([spec])
    world.start(spec, ranks=3)
    world.run(MS)
    (waits,) = (g.waits for g in seen(world).groups)
    assert waits == "1 of 3 processes are there; it waits for the others for 10 s"


def test_an_allocation_that_waits_for_room_says_so() -> None:
    specs = [group(name, 500, limit=12 * GIB) for name in "ab"]
    world = World(specs)
    world.start(specs[0], memory=10 * GIB, kernel_ns=300 * MS)
    world.run(SECOND)
    world.start(specs[1], memory=10 * GIB)
    world.run(world.now + 100 * MS)
    assert [g.waits for g in seen(world).groups] == [None, "10240 MiB on d0: others have the room"]
