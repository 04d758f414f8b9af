"""Making room for a gang: task by task on the node where it costs least, then without whom it can do."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from gpumax.policy.ask import Ask
from gpumax.policy.gang import Spot, Want
from gpumax.policy.ledger import Room
from gpumax.policy.place import Choices, Placer, promise, settle, size, ways
from gpumax.policy.victims import Cost, Opening, Part, Rules, Trial, opening
from gpumax.policy.world import World


class Candidates:
    """The parts that may go for one queue's work, by node, and for each ask the nodes by what room there would cost.

    Costs only rise as parts go, but on nodes where room changed otherwise. So a node's cost is looked at again when it
    is about to be chosen, and nodes in `touched`, which all candidates of a pass share, are put back in.
    """

    def __init__(self, world: World, parts: list[Part], rules: Rules, touched: list[int]) -> None:
        self.parts = parts
        self.rules = rules
        self.looked = 0  # nodes looked at so far
        self._world = world
        self._touched = touched
        self._by_row: dict[int, list[Part]] = {}
        for part in parts:
            for row in {held.row: None for held in part.helds}:
                self._by_row.setdefault(row, []).append(part)
        self._heaps: dict[tuple[Ask, int], tuple[int, list[tuple[Cost, int]]]] = {}

    def cheapest(self, trial: Trial, ask: Ask, choice: int) -> tuple[int, Opening] | None:
        """The node on which room for the ask costs least, and what has to go there."""
        heap = self._heap(trial, ask, choice)
        while heap:
            cost, row = heap[0]
            found = self._open(trial, ask, choice, row)
            if found is not None and found.cost <= cost:
                return row, found
            heappop(heap)
            if found is not None:
                heappush(heap, (found.cost, row))
        return None

    def reset(self) -> None:
        """A trial failed, and with it what was learnt on it."""
        self._heaps.clear()

    def _heap(self, trial: Trial, ask: Ask, choice: int) -> list[tuple[Cost, int]]:
        seen, heap = self._heaps.get((ask, choice), (-1, []))
        if seen < 0:
            enough = self._world.fits.fitting(self._freed(trial), ask, choice)
            rows = [row for row in self._by_row if enough[row]]
        else:
            rows = sorted(set(self._touched[seen:]))
        for row in rows:
            found = self._open(trial, ask, choice, row)
            if found is not None:
                heap.append((found.cost, row))
        if rows:
            heapify(heap)
        self._heaps[ask, choice] = (len(self._touched), heap)
        return heap

    def _freed(self, trial: Trial) -> Room:
        """Room as if everyone who may be asked had gone: where that isn't enough, nothing is."""
        room = trial.ledger.later.copy()
        room.take_all(
            [held for part in self.parts if not part.gone and part not in trial.gone for held in part.helds],
            -1,
        )
        return room

    def touch(self, rows: set[int]) -> None:
        """Room on these nodes has changed."""
        self._touched += sorted(rows)

    def _open(self, trial: Trial, ask: Ask, choice: int, row: int) -> Opening | None:
        if not self._world.fits.possible(ask, choice)[row]:
            return None
        self.looked += 1
        return opening(trial, self.rules, ask, choice, row, self._by_row.get(row, ()))


def make_room(
    world: World, placer: Placer, candidates: Candidates, wants: list[Want]
) -> tuple[Trial, list[Spot]] | None:
    """A trial in which all wants are placed and what had to go has gone; None where no way was found."""
    for choices in ways(wants):
        trial = Trial(world.ledger)
        spots = _place_all(placer, candidates, trial, wants, choices)
        if spots is not None:
            return trial, spots
    return None


def _place_all(
    placer: Placer, candidates: Candidates, trial: Trial, wants: list[Want], choices: Choices
) -> list[Spot] | None:
    spots = []
    for want in sorted(wants, key=lambda want: size(want.ask, choices[0]), reverse=True):
        spot = placer.spot(trial.ledger, want, choices)
        if spot is None:
            spot = _open_and_place(candidates, trial, want, choices)
        if spot is None:
            return None
        spots.append(spot)
    return spots


def _open_and_place(candidates: Candidates, trial: Trial, want: Want, choices: Choices) -> Spot | None:
    for at in dict.fromkeys(min(choice, len(want.ask.gpu) - 1) for choice in choices):
        found = candidates.cheapest(trial, want.ask, at)
        if found is not None:
            break
    else:
        return None
    row, (_, parts) = found
    rows = {row}
    for part in parts:
        trial.evict(part)
        rows |= {held.row for held in part.helds}
    spot = promise(trial.ledger, want, at, row)
    candidates.touch(rows)
    return spot


def spare(trial: Trial, dispensable: Callable[[Part], bool]) -> set[str]:
    """Let everyone stay whose room nobody took and who is not needed otherwise, the worst to lose first; their tasks."""
    tied = {extra for part in trial.gone for extra in part.rest}
    stay: set[str] = set()
    for part in sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True):
        if part not in tied and all(map(trial.ledger.could_stay, part.helds)) and dispensable(part):
            trial.spare(part)
            tied.difference_update(part.rest)
            stay.update(held.task for held in part.helds)
    return stay


def move(world: World, trial: Trial, part: Part) -> list[Spot]:
    """New places, on room that is free now, for all tasks of a part that has to go; empty where they don't all fit."""
    ledger = trial.ledger.copy()
    spots: list[Spot] = []
    for task in part.tasks:
        ask = world.asks.of(part.workload, task)
        for choice in range(len(ask.gpu)):
            row = world.scores.best(ledger.now, ask, choice, world.fits.fitting(ledger.now, ask, choice))
            if row is not None:
                spots.append(settle(ledger, Want(task, ask, ()), choice, row))
                break
        else:
            return []
    trial.ledger = ledger
    return spots
