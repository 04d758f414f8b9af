"""Finding places for tasks that start together, on room that is free now or will be."""

from __future__ import annotations

from gpumax.policy.ask import Ask
from gpumax.policy.fit import Fits
from gpumax.policy.gang import Spot, Want
from gpumax.policy.ledger import Held, Ledger
from gpumax.policy.score import Scores, pick_devices


class Placer:
    """Places chunks on ledgers. What failed once on a ledger that only fills up is not tried again."""

    def __init__(self, fits: Fits, scores: Scores) -> None:
        self._fits = fits
        self._scores = scores
        self._hopeless: set[tuple[tuple[Ask, int], ...]] = set()

    def place(self, ledger: Ledger, wants: list[Want]) -> tuple[Ledger, list[Spot]] | None:
        """The ledger with all of the wants placed, and where; None where they don't all fit."""
        signature = _signature(wants)
        if signature in self._hopeless:
            return None
        for choice in range(max(len(want.ask.gpu) for want in wants)):
            found = self._place_all(ledger, wants, choice)
            if found is not None:
                return found
        self._hopeless.add(signature)
        return None

    def forget(self) -> None:
        """Room has become free: what failed may fit now."""
        self._hopeless.clear()

    def _place_all(self, ledger: Ledger, wants: list[Want], choice: int) -> tuple[Ledger, list[Spot]] | None:
        if len(wants) == 1:
            spot = self.spot(ledger, wants[0], choice)
            return None if spot is None else (ledger, [spot])
        if not self._enough(ledger, wants, choice):
            return None
        trial = ledger.copy()
        spots = []
        # Largest first: a small task that is placed early can cut the only hole that a large one fits.
        for want in sorted(wants, key=lambda want: size(want.ask, choice), reverse=True):
            spot = self.spot(trial, want, choice)
            if spot is None:
                return None
            spots.append(spot)
        return trial, spots

    def _enough(self, ledger: Ledger, wants: list[Want], choice: int) -> bool:
        """A cheap necessary condition, so that gangs without hope cost no copy: enough places for each ask by itself."""
        counts: dict[Ask, int] = {}
        for want in wants:
            counts[want.ask] = counts.get(want.ask, 0) + 1
        for ask, count in counts.items():
            at = min(choice, len(ask.gpu) - 1)
            fitting = self._fits.fitting(ledger.later, ask, at)
            gpu = ask.gpu[at]
            if gpu is None:
                if not fitting.any():
                    return False
            elif gpu.milli == 1000 and not gpu.memory_mib:
                if int((ledger.later.view(gpu).fitting[fitting] // gpu.devices).sum()) < count:
                    return False
            elif not fitting.any():
                return False
        return True

    def spot(self, ledger: Ledger, want: Want, choice: int) -> Spot | None:
        """Place one task on the ledger, now where that is possible, else for when others have left."""
        ask = want.ask
        at = min(choice, len(ask.gpu) - 1)
        row = self._scores.best(ledger.now, ask, at, self._fits.fitting(ledger.now, ask, at))
        if row is not None:
            return settle(ledger, want, at, row)
        if ledger.later is ledger.now:
            return None
        row = self._scores.best(ledger.later, ask, at, self._fits.fitting(ledger.later, ask, at))
        return None if row is None else promise(ledger, want, at, row)


def settle(ledger: Ledger, want: Want, choice: int, row: int) -> Spot:
    """Place a task on a node that has room for it now."""
    spot = _spot(ledger, want, choice, row, later=False)
    ledger.hold(spot.held)
    return spot


def promise(ledger: Ledger, want: Want, choice: int, row: int) -> Spot:
    """Place a task on a node that has room for it once others have left."""
    spot = _spot(ledger, want, choice, row, later=True)
    ledger.promise(spot.held)
    return spot


def _spot(ledger: Ledger, want: Want, choice: int, row: int, *, later: bool) -> Spot:
    room = ledger.later if later else ledger.now
    devices = pick_devices(room, ledger.now, want.ask, choice, row)
    gpu = sum([milli for _, milli in devices])
    held = Held(want.task.name, row, gpu, want.ask.cpu, want.ask.memory, want.ask.extended, devices)
    return Spot(want, held, _awaited(ledger, held) if later else ())


def _awaited(ledger: Ledger, held: Held) -> tuple[str, ...]:
    """The leaving tasks whose room this one takes: those on its devices, then, by name, as many as it still lacks."""
    row, now = held.row, ledger.now
    lacking = {column for column, milli in held.devices if now.devices[row, column] < milli}
    short = [held.cpu - int(now.cpu[row]), held.memory - int(now.memory[row]), 1 - int(now.tasks[row])]
    short += [amount - int(now.extended[name][row]) for name, amount in held.extended]
    names = []
    on_devices = [
        other for other in ledger.leaving.get(row, ()) if lacking & {column for column, _ in other.devices}
    ]
    others = sorted(
        (other for other in ledger.leaving.get(row, ()) if other not in on_devices),
        key=lambda other: other.task,
    )
    for other in (*on_devices, *others):
        freed = [other.cpu, other.memory, 1]
        freed += [dict(other.extended).get(name, 0) for name, _ in held.extended]
        helps = any(lack > 0 and free > 0 for lack, free in zip(short, freed, strict=True))
        if other in on_devices or helps:
            names.append(other.task)
            short = [lack - free for lack, free in zip(short, freed, strict=True)]
    return tuple(sorted(names))


def size(ask: Ask, choice: int) -> tuple[int, int, int]:
    """How hard a task is to place: milli-devices, then cores, then memory."""
    gpu = ask.gpu[min(choice, len(ask.gpu) - 1)]
    milli = 0 if gpu is None else gpu.devices * (gpu.milli if not gpu.memory_mib else 1)
    return (milli, ask.cpu, ask.memory)


def _signature(wants: list[Want]) -> tuple[tuple[Ask, int], ...]:
    counts: dict[Ask, int] = {}
    for want in wants:
        counts[want.ask] = counts.get(want.ask, 0) + 1
    return tuple(counts.items())
