"""Finding places for tasks that start together, on room that is free now or will be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from gpumax.policy.ask import Ask, Choices, alternatives, size
from gpumax.policy.branch import scoped, sign
from gpumax.policy.crowd import NO_COLUMNS
from gpumax.policy.fit import Fits
from gpumax.policy.free import Room
from gpumax.policy.gang import Spot, Want
from gpumax.policy.gather import Gather, needy, tied
from gpumax.policy.held import Held
from gpumax.policy.layout import Layout
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools
from gpumax.policy.places import Laid
from gpumax.policy.score import Scores, pick_devices
from gpumax.policy.slices import added, all_fit, costs
from gpumax.units import MILLI


def ways(wants: list[Want]) -> Iterator[Choices]:
    """All tasks with the same alternative, in the order that was written; then each with whichever serves it first."""
    most = max(len(want.ask.gpu) for want in wants)
    for choice in range(most):
        yield (choice,)
    if most > 1 and len(wants) > 1:
        yield tuple(range(most))


class Placer:
    """Places chunks on ledgers. What failed once on a ledger that only fills up is not tried again."""

    def __init__(self, fits: Fits, scores: Scores) -> None:
        self._fits = fits
        self._scores = scores
        self._hopeless: set[object] = set()

    def place(self, ledger: Ledger, wants: list[Want]) -> Laid | None:
        """The ledger with all of the wants placed, and where; None where they don't all fit.

        To start now beats everything else; room that others have yet to leave is only used where free room isn't enough.
        """
        signature = sign(wants)
        if signature in self._hopeless:
            return None
        for later in (False, True) if ledger.later is not ledger.now else (False,):
            for choices in ways(wants):
                found = self.arrange(ledger, wants, choices, later=later)
                if found is not None:
                    return found
        if ledger.fresh is None or not needy(wants):  # whom others need may come after them
            self._hopeless.add(signature)
        return None

    def hopeless(self, wants: list[Want]) -> bool:
        """Whether the like of these failed before."""
        return sign(wants) in self._hopeless

    def forget(self) -> None:
        """Room has become free: what failed may fit now."""
        self._hopeless.clear()

    def arrange(
        self,
        ledger: Ledger,
        wants: list[Want],
        choices: Choices,
        *,
        later: bool = True,
        within: Bools | None = None,
    ) -> Laid | None:
        """As `place`, with these alternatives only; `later`: also on room that others have yet to leave.

        within: on these nodes only.
        """
        if scoped(wants):
            return Layout(self, self._fits, choices, later=later).find(ledger, wants, within)
        return self.together(ledger, wants, choices, later=later, within=within)

    def together(
        self,
        ledger: Ledger,
        wants: list[Want],
        choices: Choices,
        *,
        later: bool,
        within: Bools | None,
        coming: frozenset[int] = NO_COLUMNS,
    ) -> Laid | None:
        """As `arrange`, whatever the wants wish of the topology. coming: what others bring who are placed with them."""
        if len(wants) == 1:
            spot = self.spot(ledger, wants[0], choices, later=later, within=within, coming=coming)
            return None if spot is None else (ledger, [spot])
        room = ledger.later if later else ledger.now
        if self._plenty(room, wants, choices, within):
            # That can't fail, so it needs no ledger of its own.
            order = next(self._orders(room, wants, choices))
            spots = self._in_order(ledger, order, choices, later=later, loose=False, within=within)
            assert spots is not None
            return ledger, spots
        if not self._enough(room, wants, choices, within):
            return None
        if ledger.fresh is not None and tied(wants):
            return self._gathered(
                ledger, wants, choices, Gather(self, choices, later=later, within=within, coming=coming)
            )
        for order in self._orders(room, wants, choices):
            for loose in (False, True) if _shares_several(wants) else (False,):
                trial = ledger.copy()
                spots = self._in_order(trial, order, choices, later=later, loose=loose, within=within)
                if spots is not None:
                    return trial, spots
        return None

    def _gathered(self, ledger: Ledger, wants: list[Want], choices: Choices, gather: Gather) -> Laid | None:
        """As `together`, for tasks that are tied to each other: whoever needs others after them, or else before, as the first."""
        orders = list(self._orders(ledger.later, wants, choices))
        if needy(wants):
            orders = [
                sorted(order, key=lambda want: needy((want,)), reverse=before)
                for before in (False, True)
                for order in orders
            ]
        for order in orders:
            for loose in (False, True) if _shares_several(wants) else (False,):
                trial = ledger.copy()
                spots = gather.in_turn(trial, order, loose=loose)
                if spots is not None and (gather.partial or trial.kept()):
                    return trial, spots
        ways = (gather.every_way(ledger, order) for order in (orders[0], *orders[1:][-1:]))
        return gather.meet(ledger, orders[0]) or next(filter(None, ways), None)

    def _in_order(
        self,
        trial: Ledger,
        order: list[Want],
        choices: Choices,
        *,
        later: bool,
        loose: bool,
        within: Bools | None,
    ) -> list[Spot] | None:
        spots: list[Spot] = []
        for want in order:
            spot = self.spot(trial, want, choices, later=later, loose=loose, within=within)
            if spot is None:
                return None
            spots.append(spot)
        return spots

    def _orders(self, room: Room, wants: list[Want], choices: Choices) -> Iterator[list[Want]]:
        """Largest first: a small task that is placed early can cut the only hole that a large one fits.

        Where that fails and tasks differ: first those that fewest nodes can take; then those that ask for memory of devices,
        of which nobody knows how large they are before they have a device.
        """
        yield sorted(wants, key=lambda want: size(want.ask, choices[0]), reverse=True)
        asks = {want.ask for want in wants}
        if len(asks) > 1:
            nodes = {
                ask: sum(int(self._fits.open_to(room, ask, at).sum()) for at in alternatives(ask, choices))
                for ask in asks
            }
            yield sorted(wants, key=lambda want: (-nodes[want.ask], size(want.ask, choices[0])), reverse=True)
        memory = {ask: max(gpu.memory_mib if gpu is not None else 0 for gpu in ask.gpu) for ask in asks}
        if min(memory.values()) < max(memory.values()):
            yield sorted(wants, key=lambda want: (memory[want.ask], size(want.ask, choices[0])), reverse=True)

    def _plenty(self, room: Room, wants: list[Want], choices: Choices, within: Bools | None) -> bool:
        """Whether all find places whichever they take: each spoils one node at most, and for every ask there are as many as tasks."""
        asks = dict.fromkeys([want.ask for want in wants])
        return all(
            ask.filter.tied is None
            and any(
                np.count_nonzero(self._fitting(room, ask, at, within, NO_COLUMNS)) >= len(wants)
                for at in alternatives(ask, choices)
            )
            for ask in asks
        )

    def _enough(self, room: Room, wants: list[Want], choices: Choices, within: Bools | None) -> bool:
        """A cheap necessary condition, so that gangs without hope cost no copy: enough places for each ask by itself."""
        counts: dict[Ask, int] = {}
        for want in wants:
            counts[want.ask] = counts.get(want.ask, 0) + 1
        return all(
            sum(self._places_for(room, ask, at, count, within) for at in alternatives(ask, choices)) >= count
            for ask, count in counts.items()
        )

    def _places_for(self, room: Room, ask: Ask, at: int, count: int, within: Bools | None) -> int:
        """At most how many tasks of an ask find room; `count` stands for enough."""
        fitting = self._fits.open_to(room, ask, at)
        fitting = fitting if within is None else fitting & within
        gpu = ask.gpu[at]
        if gpu is not None and gpu.milli == MILLI and not gpu.memory_mib:
            return int((room.view(gpu).fitting[fitting] // gpu.devices).sum())
        return count if fitting.any() else 0

    def _fitting(self, room: Room, ask: Ask, at: int, within: Bools | None, coming: frozenset[int]) -> Bools:
        fitting = self._fits.fitting(room, ask, at, coming)
        return fitting if within is None else fitting & within

    def spot(
        self,
        ledger: Ledger,
        want: Want,
        choices: Choices,
        *,
        later: bool = True,
        loose: bool = False,
        within: Bools | None = None,
        coming: frozenset[int] = NO_COLUMNS,
    ) -> Spot | None:
        """Place one task on the ledger, now where that is possible, else, if `later`, for when others have left.

        loose: on the emptiest devices of the node, instead of the fullest. within: on these nodes only. coming: what those
        bring who are placed with it.
        """
        ask = want.ask
        for at in alternatives(ask, choices):
            row = self._scores.best(ledger.now, ask, at, self._fitting(ledger.now, ask, at, within, coming))
            if row is not None:
                return settle(ledger, want, at, row, loose=loose)
        if not later or ledger.later is ledger.now:
            return None
        for at in alternatives(ask, choices):
            row = self._scores.best(
                ledger.later, ask, at, self._fitting(ledger.later, ask, at, within, coming)
            )
            if row is not None:
                return promise(ledger, want, at, row, loose=loose)
        return None


def _shares_several(wants: list[Want]) -> bool:
    """Whether a task wants parts of several devices: which ones the first takes then decides what the next can have."""
    return any(
        gpu is not None and gpu.devices > 1 and (gpu.milli < MILLI or gpu.memory_mib > 0)
        for ask in dict.fromkeys(want.ask for want in wants)
        for gpu in ask.gpu
    )


def settle(ledger: Ledger, want: Want, choice: int, row: int, *, loose: bool = False) -> Spot:
    """Place a task on a node that has room for it now."""
    spot = _spot(ledger, want, choice, row, later=False, loose=loose)
    ledger.hold(spot.held)
    return spot


def promise(ledger: Ledger, want: Want, choice: int, row: int, *, loose: bool = False) -> Spot:
    """Place a task on a node that has room for it once others have left."""
    spot = _spot(ledger, want, choice, row, later=True, loose=loose)
    ledger.promise(spot.held)
    return replace(spot, after=awaited(ledger, spot.held))


def _spot(ledger: Ledger, want: Want, choice: int, row: int, *, later: bool, loose: bool) -> Spot:
    room = ledger.later if later else ledger.now
    ask = want.ask
    layout = room.layout(row, ask.slices) if ask.slices else None
    slices = layout.slices if layout is not None else ()
    devices = costs(slices) if slices else pick_devices(room, ledger.now, ask, choice, row, loose=loose)
    gpu = sum([part for _, part in devices])
    tied = ask.filter.tied
    held = Held(want.task.name, row, gpu, ask.cpu, ask.memory, ask.extended, devices, slices, tied)
    return Spot(want, held, ())


def awaited(ledger: Ledger, held: Held) -> tuple[str, ...]:
    """The leaving tasks whose room a promised task takes: those on its devices, then, by name, as many as are needed.

    Measured against what is there without any of them, so that what waits on the same node counts what came before.
    """
    row, later, leaving = held.row, ledger.later, ledger.leaving.get(held.row, ())
    away = [] if held.tied is None else _keeping_away(ledger, held)
    if not leaving:
        return tuple(sorted(away))
    freed: dict[int, int] = {}
    for other in leaving:
        for column, part in other.devices:
            freed[column] = freed.get(column, 0) + part
    lacking = {column for column, _ in held.devices if later.devices[row, column] < freed.get(column, 0)}
    names = [other.task for other in leaving if not lacking.isdisjoint(column for column, _ in other.devices)]
    if held.slices:
        names = _slices_in_the_way(ledger, held, leaving)
    names += [name for name in away if name not in names]
    free = [
        later.cpu[row],
        later.memory[row],
        later.tasks[row],
        *(later.extended[name][row] for name, _ in held.extended),
    ]
    amounts = [other.sized(held) for other in leaving]
    short = [sum(column) - int(left) for column, left in zip(zip(*amounts, strict=True), free, strict=True)]
    asked = held.sized(held)
    # Those on its devices count first.
    rows = sorted(
        zip(leaving, amounts, strict=True), key=lambda pair: (pair[0].task not in names, pair[0].task)
    )
    for other, amount in rows:
        helps = any(
            lack > 0 and gain > 0 and ask for lack, gain, ask in zip(short, amount, asked, strict=True)
        )
        if helps and other.task not in names:
            names.append(other.task)
        if other.task in names:
            short = [lack - gain for lack, gain in zip(short, amount, strict=True)]
    return tuple(sorted(names))


def _keeping_away(ledger: Ledger, held: Held) -> list[str]:
    """Those who leave and, as long as they are there, keep a task off its node, wherever they stand."""
    tied, crowd = held.tied, ledger.now.crowd
    if tied is None or crowd is None or not tied.shuns:
        return []
    return [
        other.task
        for row, leaving in ledger.leaving.items()
        for other in leaving
        if other.tied is not None and crowd.ties.meet(other.tied.blocks(tied), row, held.row)
    ]


def _slices_in_the_way(ledger: Ledger, held: Held, leaving: tuple[Held, ...]) -> list[str]:
    """Those, by name as many as are needed, whose slices can't stand beside all that will be on these devices."""
    mine = {column for column, _, _ in held.slices}
    devices, states = ledger.nodes.sliced.by_row[held.row], ledger.later.slices[held.row]
    names = []
    for other in sorted(leaving, key=lambda other: other.task, reverse=True):
        here = tuple(part for part in other.slices if part[0] in mine)
        beside = added(devices, states, here)
        if all_fit(devices, beside):
            states = beside
        else:
            names.append(other.task)
    return names
