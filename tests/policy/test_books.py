"""Room as it is kept: after any tasks leave, stay, come and go, it is what the tasks that are there say, however it was looked up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from random import Random

import numpy as np
from msgspec.structs import replace

from crowds import crowd
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, TaskTerm, Workload
from gpumax.policy.ask import Ask
from gpumax.policy.crowd import Columns, Crowd
from gpumax.policy.fit import Fits
from gpumax.policy.free import Room
from gpumax.policy.gang import Want
from gpumax.policy.held import Held
from gpumax.policy.ledger import Ledger
from gpumax.policy.onenode import OneNode
from gpumax.policy.place import promise, settle
from gpumax.policy.room import Touched
from gpumax.policy.score import Scores
from gpumax.policy.world import World
from neighbours import anyones, term
from steps import steps

APPS: tuple[dict[str, str], ...] = ({}, {"app": "x"}, {"app": "y"})


def _wishes(chance: Random) -> Affinity | None:
    """What a workload wishes of others: mostly nothing."""

    def rows(most: int) -> tuple[TaskTerm, ...]:
        make = chance.choice((term, anyones))
        return tuple(
            make(chance.choice(("host", "zone")), app=chance.choice("xy"))
            for _ in range(chance.randint(0, most))
        )

    near = Company(rows(1), tuple((chance.choice((1, 5)), row) for row in rows(1)))
    apart = Company(rows(1), tuple((chance.choice((1, 5)), row) for row in rows(1)))
    return chance.choice((None, Affinity(near=near, apart=apart)))


def drawn(number: int, *, tied: bool) -> Snapshot:
    """A cluster full of work of every kind and a gang that waits; tied: much of it cares who is near it."""
    snapshot = crowd(number, "a", gang=3, most_nodes=4, most_work=14)
    if not tied:
        return snapshot
    chance = Random(number)
    nodes = [
        replace(node, labels={**node.labels, **chance.choice(({"zone": "a"}, {"zone": "b"}, {}))})
        for node in snapshot.nodes
    ]

    def wishing(row: Workload) -> Workload:
        wishes = _wishes(chance)
        tasks = tuple(replace(task, affinity=wishes) for task in row.tasks)
        return replace(row, labels=chance.choice(APPS), tasks=tasks)

    return replace(snapshot, nodes=tuple(nodes), workloads=tuple(map(wishing, snapshot.workloads)))


class Books:
    """A ledger on which tasks leave, stay, come and go, and beside it plain lists of who is where."""

    def __init__(self, snapshot: Snapshot, chance: Random) -> None:
        self.world = World(snapshot)
        self.ledger = self.world.ledger
        self.chance = chance
        self.staying = list(self.world.held.values())
        self.leaving: list[Held] = []
        self.coming: list[Held] = []
        self.moving: list[Held] = []
        waits = [(row, task) for row in snapshot.workloads for task in row.tasks]
        self.wants = [self.world.wants(row, [task])[0] for row, task in waits]

    def step(self) -> None:
        """Somebody leaves, stays after all, comes, or goes again."""
        match self.chance.randint(0, 4):
            case 0 if self.staying:
                self.ledger.leave(self._pass(self.staying, self.leaving))
            case 1 if self.leaving:
                held = self.chance.choice(self.leaving)
                if self.ledger.could_stay([held]):
                    self.leaving.remove(held)
                    self.staying.append(held)
                    self.ledger.stay(held)
            case 2 if self.coming:
                held = self.coming.pop(self.chance.randrange(len(self.coming)))
                self.moving = [other for other in self.moving if other is not held]
                self.ledger.free(held)
            case 3:
                self.ledger = self.ledger.copy()
            case _:
                self._come()

    def _pass(self, there: list[Held], here: list[Held]) -> Held:
        held = there.pop(self.chance.randrange(len(there)))
        here.append(held)
        return held

    def _come(self) -> None:
        """One that fits comes, to start now; some come from elsewhere."""
        want = self.chance.choice(self.wants)
        choice = self.chance.randrange(len(want.ask.gpu))
        rows = np.flatnonzero(self.world.fits.fitting(self.ledger.now, want.ask, choice)).tolist()
        if rows:
            held = settle(self.ledger, want, choice, self.chance.choice(rows)).held
            self.coming.append(held)
            if self.chance.random() < 0.3:
                self.ledger.expect(held)
                self.moving.append(held)

    def anew(self) -> Ledger:
        """The books written from nothing."""
        ledger = Ledger(self.world.nodes.anew(), self.world.ties)
        for held in (*self.staying, *self.leaving, *self.coming):
            ledger.now.take(held)
        for held in self.leaving:
            ledger.leave(held)
        return ledger


def rooms(ledger: Ledger) -> list[object]:
    """All amounts of both rooms."""
    return [_amounts(ledger.now), _amounts(ledger.later)]


def _amounts(room: Room) -> list[object]:
    arrays = (room.cpu, room.memory, room.tasks, room.devices, room.gpus, *room.extended.values())
    return [*(each.tolist() for each in arrays), room.slices]


def test_room_is_what_the_tasks_that_are_there_leave() -> None:
    """Whatever went before: what is left, stayed, come and gone again leaves no trace, now and later."""
    for number in range(60):
        books = Books(drawn(number, tied=False), Random(number))
        for _ in range(30):
            books.step()
            assert rooms(books.ledger) == rooms(books.anew()), number


def _columns(columns: Columns) -> dict[int, dict[int, int]]:
    """What is there of each, without what isn't."""
    found = {
        number: {domain: n for domain, n in row.by.items() if n and domain >= 0}
        for number, row in columns.items()
    }
    return {number: row for number, row in found.items() if row}


def _sum(crowd: Crowd, there: Iterable[Held]) -> dict[int, dict[int, int]]:
    found: dict[int, dict[int, int]] = {}
    for held in there:
        for number, amount in held.tied.brings if held.tied else ():
            domain = crowd.ties.domains[number].of[held.row]
            if domain >= 0:
                row = found.setdefault(number, {})
                row[domain] = row.get(domain, 0) + amount
    return {number: {d: n for d, n in row.items() if n} for number, row in found.items() if any(row.values())}


def test_who_stands_where_is_counted_for_those_who_keep_away_and_those_who_are_near() -> None:
    """Whoever leaves or moves still keeps others away, and is near nobody any more."""
    met = 0
    for number in range(80):
        books = Books(drawn(number, tied=True), Random(number))
        for _ in range(30):
            books.step()
            now, later = books.ledger.now.crowd, books.ledger.later.crowd
            if now is None or later is None:
                break
            met += 1
            there = [*books.staying, *books.coming]
            present = [held for held in there if not any(held is other for other in books.moving)]
            assert _columns(now.most) == _sum(now, [*there, *books.leaving]), number
            assert _columns(now.least) == _columns(later.least) == _sum(now, present), number
            assert _columns(later.most) == _sum(now, there), number
            asked = [*books.ledger.needy, *books.ledger.firsts]
            needs = [held for held in books.coming if held.tied and held.tied.needs]
            assert {id(held) for held in asked} == {id(held) for held in needs} & set(map(id, present)), (
                number
            )
            _nodes_are_those(now)
            _nodes_are_those(later)
    assert met > 500


def _nodes_are_those(crowd: Crowd) -> None:
    for columns in (crowd.most, crowd.least):
        for number, counted in columns.items():
            domains = crowd.ties.domains[number]
            somewhere = [counted.by.get(domain, 0) > 0 and domain >= 0 for domain in domains.of]
            assert counted.somewhere(domains).tolist() == somewhere


def test_what_was_looked_up_before_is_never_out_of_date() -> None:
    """Which nodes fit, which is the best and what fragments come to be: as on books that nobody has looked into yet."""
    for number in range(60):
        books = Books(drawn(number, tied=False), Random(number))
        fits, scores = books.world.fits, books.world.scores
        asks = [(want.ask, at) for want in books.wants for at in range(len(want.ask.gpu))]
        for _ in range(20):
            books.step()
            for room in (books.ledger.now, books.ledger.later):
                fresh = room.handed(room.nodes)
                for ask, at in books.chance.sample(asks, min(4, len(asks))):
                    mask = Fits(room.nodes).fitting(fresh, ask, at)
                    assert fits.fitting(room, ask, at).tolist() == mask.tolist(), number
                    assert scores.best(room, ask, at, mask) == scores.best(fresh, ask, at, mask), number


def _back(ledger: Ledger, helds: list[Held]) -> bool:
    """Whether these can stay, told by putting them back on a copy."""
    room = ledger.later.copy()
    for held in helds:
        room.take(held)
    for held in helds:
        amounts = [room.cpu[held.row], room.memory[held.row], room.tasks[held.row]]
        amounts += [room.extended[name][held.row] for name, amount in held.extended if name in room.extended]
        amounts += [room.devices[held.row, column] for column, _ in held.devices]
        if min(amounts) < 0 or not room.sound(held.row):
            return False
    return True


def _sets(chance: Random, helds: list[Held]) -> Iterator[list[Held]]:
    for _ in range(6):
        yield chance.sample(helds, min(len(helds), chance.randint(1, 3)))


def test_who_leaves_could_stay_where_all_of_them_fit_back() -> None:
    """Several together fit only where there is room for their sum: of devices, cores, memory, slots, slices and the like."""
    found = set()
    for number in range(150):
        books = Books(drawn(number, tied=False), Random(number))
        for held in books.chance.sample(books.staying, len(books.staying) // 2):
            books.staying.remove(held)
            books.leaving.append(held)
            books.ledger.leave(held)
        _fill(books)
        for helds in _sets(books.chance, books.leaving):
            found.add(fits := _back(books.ledger, helds))
            assert books.ledger.could_stay(helds) == fits, number
    assert found == {True, False}


def _fill(books: Books) -> None:
    """Give some of the room that becomes free to others."""
    for want in books.chance.sample(books.wants, min(4, len(books.wants))):
        rows = np.flatnonzero(books.world.fits.fitting(books.ledger.later, want.ask, 0)).tolist()
        if rows:
            promise(books.ledger, want, 0, rows[0])


def test_of_an_ask_a_node_takes_at_most_as_many_as_is_told() -> None:
    """None where it may not go; never fewer than come there one after the other."""
    for number in range(60):
        books = Books(drawn(number, tied=False), Random(number))
        for _ in range(10):
            books.step()
        for want in books.chance.sample(books.wants, min(4, len(books.wants))):
            told = books.world.fits.most(books.ledger.now, want.ask, 0, 5).tolist()
            may = books.world.fits.fitting(books.ledger.now, want.ask, 0).tolist()
            assert [most > 0 for most in told] == may, number
            assert all(come <= most <= 5 for come, most in zip(_come(books, want), told, strict=True)), number


def _come(books: Books, want: Want) -> Iterator[int]:
    """How many such tasks fit on each node, placed one after the other; no more than five are tried."""
    for row in range(len(books.world.nodes.nodes)):
        ledger, count = books.ledger.copy(), 0
        while count < 5 and books.world.fits.fitting(ledger.now, want.ask, 0)[row]:
            settle(ledger, want, 0, row)
            count += 1
        yield count


def test_of_two_rooms_there_is_what_both_have() -> None:
    """All nodes at once, or one; whoever keeps others away in either does so in what both are."""
    for number in range(80):
        snapshot = drawn(number, tied=number % 2 == 1)
        one, other = Books(snapshot, Random(number)), Books(snapshot, Random(number + 1))
        for _ in range(25):
            one.step()
            other.step()
        mine, theirs = one.ledger.now, other.ledger.later
        both, by_row = mine.capped(theirs), mine.copy()
        for row in range(len(snapshot.nodes)):
            by_row.cap(row, theirs)
        assert _amounts(both) == _amounts(by_row) == _least(mine, theirs), number
        if mine.crowd is not None and theirs.crowd is not None and both.crowd is not None:
            here, there, found = (_columns(each.most) for each in (mine.crowd, theirs.crowd, both.crowd))
            for column in here | there | found:
                rows = (each.get(column, {}) for each in (here, there, found))
                a, b, c = ({domain: n for domain, n in row.items() if n > 0} for row in rows)
                assert c == {domain: max(a.get(domain, 0), b.get(domain, 0)) for domain in a | b}, number


def _least(one: Room, other: Room) -> list[object]:
    """Of everything the less that is free; of slices the more that are there."""
    devices = np.minimum(one.devices, other.devices)
    pairs = [(one.cpu, other.cpu), (one.memory, other.memory), (one.tasks, other.tasks)]
    extended = [(free, other.extended[name]) for name, free in one.extended.items()]
    slices = {
        row: tuple(
            tuple(max(pair) for pair in zip(*states, strict=True))
            for states in zip(there, other.slices[row], strict=True)
        )
        for row, there in one.slices.items()
    }
    arrays = [*(np.minimum(*pair) for pair in pairs), devices, devices.sum(axis=1)]
    return [*(each.tolist() for each in (*arrays, *(np.minimum(*pair) for pair in extended))), slices]


def test_a_node_that_is_used_up_has_no_device_left() -> None:
    """Nothing of any, and no slice fits; its cores and its memory stay."""
    for number in range(20):
        room = Books(drawn(number, tied=False), Random(number)).ledger.now.copy()
        for row, cpu in enumerate(room.cpu.tolist()):
            room.drain(row)
            assert (room.devices[row].sum(), room.gpus[row], room.cpu[row]) == (0, 0, cpu)
            assert room.layout(row, (("1g.5gb", 1),)) is None


def test_one_node_by_itself_has_the_room_that_the_books_have() -> None:
    """Whether an ask fits now, and when some of those there have gone; of help are those who free what is short."""
    found = set()
    for number in range(120):
        books = Books(drawn(number, tied=False), Random(number))
        for _ in range(8):
            books.step()
        fits, room = books.world.fits, books.ledger.later
        for want in books.chance.sample(books.wants, min(4, len(books.wants))):
            for row in np.flatnonzero(fits.possible(want.ask, 0)).tolist():
                node = OneNode(books.ledger, want.ask, 0, row)
                here = [held for held in books.staying if held.row == row]
                going = books.chance.sample(here, min(len(here), 2))
                assert node.fits() == fits.fitting(room, want.ask, 0)[row], number
                for held in going:
                    assert node.helps([held]) == _frees(books, want, held), number
                    found.add((node.fits(), node.helps([held])))
                after = room.copy()
                for held in going:
                    after.take(held, -1)
                node.free(going)
                assert node.fits() == fits.fitting(after, want.ask, 0)[row], number
                node.free(going, -1)
                assert node.fits() == fits.fitting(room, want.ask, 0)[row], number
    assert found == {(True, False), (False, True), (False, False)}


def _frees(books: Books, want: Want, held: Held) -> bool:
    """Whether a task holds of its node what an ask lacks there."""
    room, row, ask = books.ledger.later, held.row, want.ask
    extended = dict(held.extended)
    lacking = [
        (ask.cpu - room.cpu[row], held.cpu), (ask.memory - room.memory[row], held.memory), (1 - room.tasks[row], 1),
        *((amount - room.extended[name][row], extended.get(name, 0)) for name, amount in ask.extended),
    ]  # fmt: skip
    if ask.slices and held.slices and room.layout(row, ask.slices) is None:
        return True
    gpu = ask.gpu[0]
    if gpu is not None:
        usable, need = room.nodes.usable(gpu)
        free = room.devices[row]
        if (usable[row] & (free >= need[row])).sum() < gpu.devices:
            mine = [column for column, _ in held.devices if usable[row, column]]
            lacking += [(need[row, column] - free[column], 1) for column in mine]
    return any(lack > 0 and holds > 0 for lack, holds in lacking)


def test_what_is_known_is_not_looked_up_again() -> None:
    """Asked twice, no node is looked at and no fragment measured a second time."""
    for number in range(40):
        books = Books(drawn(number, tied=False), Random(number))
        fits, scores = books.world.fits, books.world.scores
        for _ in range(10):
            books.step()
            room, ask = books.ledger.now, books.chance.choice(books.wants).ask
            scores.best(room, ask, 0, fits.fitting(room, ask, 0))
            again = steps(partial(_look, fits, scores, room, ask))
            assert (
                not {"Fits._look", "_fits_on", "_look", "_look_at", "Fragments._measured"} & again.keys()
            ), number


def _look(fits: Fits, scores: Scores, room: Room, ask: Ask) -> None:
    scores.best(room, ask, 0, fits.fitting(room, ask, 0))


def test_what_was_learnt_of_a_node_before_it_changed_is_known_to_be_old() -> None:
    """Whatever changed in between, and however often."""
    chance, touched = Random(0), Touched()
    looks: list[tuple[int, set[int]]] = []  # after so many changes, and what has changed since
    for _ in range(60):
        looks.append((len(touched.rows), set()))
        rows = chance.choices(range(6), k=chance.randint(0, 2))
        touched.add(rows)
        for stamp, changed in looks:
            changed.update(rows)
            assert [touched.since(row, stamp) for row in range(6)] == [row in changed for row in range(6)]
