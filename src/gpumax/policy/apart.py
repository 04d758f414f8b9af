"""Why not now, for work that has to stand together: what is lacking in the domain that comes nearest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from gpumax.policy.ask import size
from gpumax.policy.branch import Branch, grown, scoped, sign
from gpumax.policy.gang import Want
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools
from gpumax.policy.place import Placer
from gpumax.policy.short import shortfall
from gpumax.policy.topology import Level, Scope
from gpumax.policy.words import NEVER, amounts, chunk_words
from gpumax.policy.world import World
from gpumax.units import format_count


class Apart(NamedTuple):
    """Why no domain has room. possible: one had if all nodes were empty."""

    possible: bool
    message: str
    nodes: dict[str, int]
    short: dict[str, int]


class Aparts:
    """Chunks that are served alike lack the same; each is looked at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[object, Apart | None] = {}

    def of(self, chunk: list[Want]) -> Apart | None:
        """What keeps the chunk apart; None where nothing is required of it."""
        if not scoped(chunk):
            return None
        # Those to whom it is tied are looked at by themselves.
        chunk = [replace(want, ask=want.ask.plain) for want in chunk]
        key = sign(chunk)
        if key not in self._known:
            self._known[key] = apart(self._world, chunk, Ledger(self._world.nodes))
        return self._known[key]


def apart(world: World, chunk: list[Want], empty: Ledger) -> Apart | None:
    """What keeps a chunk from standing as it has to; None where nothing of that kind is required."""
    branches = [branch for branch in _all(grown(chunk)) if branch.scope is not None and branch.scope.required]
    if not branches:
        return None
    placer = Placer(world.fits, world.scores)
    possible = placer.place(empty.copy(), chunk) is not None
    ledger = world.ledger if possible else empty
    for branch in branches:
        assert branch.scope is not None
        alone = [replace(want, scope=_alone(branch.scope)) for want in branch.everyone()]
        scope = alone[0].scope
        alone = [replace(want, scope=scope) for want in alone]
        if Placer(world.fits, world.scores).place(ledger.copy(), alone) is None:
            return _Lack(world, ledger, branch.scope, alone, possible).tell()
    needs = f"needs {chunk_words(chunk)}; what has to stand together fits part by part, but not all at once"
    if not possible:
        needs += f", not even on empty nodes{NEVER}"
    return Apart(possible, needs, _reasons(world, ledger, chunk[0]), {})


def _all(branch: Branch) -> list[Branch]:
    """The branch and all narrower ones, the widest first."""
    found = [branch]
    for inner in branch.inner:
        found += _all(inner)
    return found


def _alone(scope: Scope) -> Scope:
    other = Scope(None, scope.required, None, scope.name)
    other.rows = scope.rows
    return other


class _Lack:
    """What one scope lacks."""

    def __init__(self, world: World, ledger: Ledger, scope: Scope, wants: list[Want], possible: bool) -> None:
        self._world = world
        self._ledger = ledger.copy()
        self._scope = scope
        self._wants = wants
        self._possible = possible
        self._empty = "" if possible else "even empty, "

    def tell(self) -> Apart:
        """In words and numbers."""
        level, stands = self._scope.required, self._scope.fixed()
        assert level is not None
        who = f"group {self._scope.name} " if self._scope.name not in ("", "segment") else ""
        who = "a segment of it " if self._scope.name == "segment" else who
        needs = f"{who}needs {chunk_words(self._wants)} on one {level.label}"
        if not level.names:
            return self._plain(f"{needs}; no node has the labels of a {level.label}")
        if len(stands) > 1 or stands[:1] == [-1]:
            names = ", ".join(level.names[domain] for domain in stands if domain >= 0) or f"no {level.label}"
            return self._plain(f"{needs}; what runs of it stands in {names}, so nothing can join it")
        domain = stands[0] if stands else self._nearest(level)
        here = level.domain == domain
        free, what = self._free(here)
        before = self._ledger.later.copy()
        left = self._fill(here)
        short, spread = shortfall(self._world, self._ledger.later, left, here)
        nearest = self._world.nodes.names[next(iter(spread))] if spread else ""
        name = level.names[domain]
        where = f"the {level.label} where the rest of it runs ({name})" if stands else self._best(level, name)
        message = f"{needs}; {self._empty}{where} has {format_count(free)} free"
        if any(want.ask.slices for want in self._wants):
            message = f"{needs}; in {self._empty}{where}, {nearest} comes nearest and lacks {amounts(short)}"
        elif nearest and short.keys() <= {what}:
            row = self._world.nodes.row_of[nearest]
            there = int(before.gpus[row] if what == "gpu" else before.cpu[row])
            message += f", {format_count(there)} of them on {nearest}" if there and there < free else ""
        elif nearest:
            message += f"; {nearest} comes nearest and lacks {amounts(short)}"
        if not self._possible:
            message += NEVER
        return Apart(self._possible, message, _reasons(self._world, self._ledger, left[0]), short)

    def _best(self, level: Level, name: str) -> str:
        return f"the {'fullest' if self._possible else 'largest'} {level.label} ({name})"

    def _plain(self, message: str) -> Apart:
        return Apart(self._possible, message, _reasons(self._world, self._ledger, self._wants[0]), {})

    def _nearest(self, level: Level) -> int:
        """The domain that takes most of the tasks; among these the one with most free."""
        room, fits = self._ledger.later, self._world.fits
        counts: dict[int, int] = {}
        asks = {id(want.ask): want.ask for want in self._wants}
        for want in self._wants:
            counts[id(want.ask)] = counts.get(id(want.ask), 0) + 1
        takes = np.zeros(len(level.names), np.int64)
        could = np.zeros(level.domain.size, np.bool_)
        for key, ask in asks.items():
            most = np.zeros(level.domain.size, np.int64)
            for choice in range(len(ask.gpu)):
                most = np.maximum(most, fits.most(room, ask, choice, counts[key]))
                could |= fits.possible(ask, choice)
            takes += np.minimum(level.sums(most), counts[key])
        gpus = level.sums(np.where(could, room.gpus, 0))
        cores = level.sums(np.where(could, room.cpu, 0))
        return min(range(len(level.names)), key=lambda at: (-takes[at], -gpus[at], -cores[at], at))

    def _free(self, here: Bools) -> tuple[int, str]:
        """How much is free there of what is asked for."""
        room = self._ledger.later
        if any(want.amounts[0] for want in self._wants):
            return int(room.gpus[here].sum()), "gpu"
        return int(room.cpu[here].sum()), "cpu"

    def _fill(self, here: Bools) -> list[Want]:
        """The wants that find no room there when the others took theirs."""
        placer, left = Placer(self._world.fits, self._world.scores), []
        for want in sorted(self._wants, key=lambda want: size(want.ask, 0), reverse=True):
            choices = tuple(range(len(want.ask.gpu)))
            if placer.spot(self._ledger, want, choices, within=here) is None:
                left.append(want)
        return left or self._wants[:1]


def _reasons(world: World, ledger: Ledger, want: Want) -> dict[str, int]:
    """Why each node can't take a task; nodes that could take it by itself stand in the wrong place."""
    found = world.fits.reasons(ledger.later, want.ask)
    others = len(world.nodes.nodes) - sum(found.values())
    if others:
        found["TopologyMismatch"] = others
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
