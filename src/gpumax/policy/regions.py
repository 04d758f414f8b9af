"""The nodes in which a scope may stand as a whole, and which of them are best; judged by counts, before anything is tried."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from gpumax.policy.ask import Ask, Choices, alternatives
from gpumax.policy.branch import Branch
from gpumax.policy.fit import Fits
from gpumax.policy.free import Room
from gpumax.policy.gang import Want
from gpumax.policy.nodes import Bools, Ints
from gpumax.policy.topology import NOWHERE, Level


class Near(NamedTuple):
    """A preferred level of a wider scope, and its domains that are in use."""

    level: Level
    used: frozenset[int]


class Region(NamedTuple):
    """Nodes in which a scope may stand, and how much is free there. many: domains of its preferred level that it takes."""

    many: int
    level: int
    strange: bool
    tight: bool
    free: int
    domain: int
    of: Level | None

    def rows(self, mask: Bools) -> Bools:
        """Its nodes among these."""
        return mask if self.of is None else mask & (self.of.domain == self.domain)

    def key(self) -> tuple[int, int, bool, bool, int, int]:
        """Few domains first, then the narrowest around them, then where the gang is already, then the fullest."""
        return self[:6]


class Regions:
    """The regions of one branch on one ledger."""

    def __init__(
        self, fits: Fits, choices: Choices, room: Room, branch: Branch, mask: Bools, near: Near | None
    ) -> None:
        assert branch.scope is not None
        self._scope = branch.scope
        self._mask = mask
        self._near = near
        wants = branch.everyone()
        # A segment of which only a part is placed now goes where the rest has room, too.
        self._rest = len(wants) if branch.scope.name != "segment" else max(len(wants), branch.scope.size)
        self._most = most_of(fits, choices, room, wants, mask, many=self._rest)
        self._free: Ints = np.where(mask, free_of(room, wants), 0)
        self._needs = _needs(wants, choices)
        self._amounts = [np.where(mask, column, 0) for column in (room.gpus, room.cpu, room.memory)]

    def find(self) -> list[Region]:
        """All regions, in no order."""
        scope, preferred = self._scope, self._scope.preferred
        if preferred is None:
            assert scope.required is not None
            return self.of(scope.required, 0)
        found: list[Region] = []
        for number, level in enumerate((preferred, *preferred.above())):
            found += self.of(level, number)
            if level is scope.required:
                return found
        if scope.required is None:
            many = self._many(self._mask, whole=False)
            found.append(Region(many, 99, strange=False, tight=False, free=0, domain=0, of=None))
        return found

    def of(self, level: Level, number: int) -> list[Region]:
        """The domains of a level, those in which the scope stands alone where it stands in any."""
        enough = np.ones(len(level.names), np.bool_)
        for _, count, most in self._most:
            enough &= level.sums(most) >= count
        for need, amounts in zip(self._needs, self._amounts, strict=True):
            if need:
                enough &= level.sums(np.maximum(amounts, 0)) >= need
        domains = np.flatnonzero(enough).tolist()
        stands = {int(level.domain[row]) for row in self._scope.rows}
        if stands:
            domains = [domain for domain in domains if stands == {domain}]
        free = level.sums(self._free)
        holds = sum((level.sums(most) for _, _, most in self._most), np.zeros(len(level.names), np.int64))
        found = []
        for domain in domains:
            many, strange = 0, False
            if self._scope.preferred is not None or self._near is not None:
                rows = self._mask & (level.domain == domain)
                many, strange = self._many(rows, whole=number == 0), self._strange(rows)
            tight = self._rest > int(holds[domain])
            found.append(Region(many, number, strange, tight, int(free[domain]), domain, level))
        return found

    def _many(self, rows: Bools, *, whole: bool) -> int:
        """At least how many domains of the preferred level it takes beside those in which the scope stands."""
        level = self._scope.preferred
        if level is None:
            return 0
        if whole:
            return 0 if self._scope.rows else 1
        used = np.zeros(len(level.names), np.bool_)
        used[[domain for row in self._scope.rows if (domain := int(level.domain[row])) != NOWHERE]] = True
        most_of_all = 0
        for _, count, most in self._most:
            holds = level.sums(np.where(rows, most, 0))
            left = count - int(holds[used].sum())
            sums = np.cumsum(np.sort(holds[~used])[::-1])
            reached = int(sums[-1]) if sums.size else 0
            many = int(np.searchsorted(sums, min(left, reached))) + 1 if left > 0 else 0
            most_of_all = max(most_of_all, many + max(left - reached, 0))
        return most_of_all

    def _strange(self, rows: Bools) -> bool:
        """Whether a wider scope stands elsewhere, as far as its preferred level goes."""
        near = self._near
        if near is None or not near.used:
            return False
        return not np.isin(near.level.domain[rows], list(near.used)).any()


def _needs(wants: list[Want], choices: Choices) -> tuple[int, int, int]:
    """What all wants take together at least: milli-devices, millicores, MiB."""
    gpu = 0
    for want in wants:
        asks = [want.ask.gpu[at] for at in alternatives(want.ask, choices)]
        gpu += min(
            ask.devices * ask.milli if ask is not None and not ask.memory_mib else 0
            for ask in asks
        )  # fmt: skip
    return gpu, sum(want.ask.cpu for want in wants), sum(want.ask.memory for want in wants)


def most_of(
    fits: Fits, choices: Choices, room: Room, wants: list[Want], rows: Bools, many: int = 1
) -> list[tuple[Ask, int, Ints]]:
    """For each ask how many wants there are of it, and for each of these nodes at most how many it takes."""
    counts = Counter(want.ask for want in wants)
    found = []
    for ask, count in counts.items():
        most = np.zeros(rows.size, np.int64)
        for at in alternatives(ask, choices):
            most += fits.most(room, ask, at, count * many)
        found.append((ask, count, np.where(rows, most, 0)))
    return found


def free_of(room: Room, wants: list[Want]) -> Ints:
    """What counts as free when the fullest is looked for."""
    return room.gpus if any(want.ask.gpu[0] is not None for want in wants) else room.cpu
