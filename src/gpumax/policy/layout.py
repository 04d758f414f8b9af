"""Which domains a gang goes to: scope by scope, the widest first, with bounded steps back where a choice spoils the next.

A domain is tried for real only if its nodes' room could be enough by count. Where tasks of several sizes share a domain,
other ways to place them on its nodes are tried, too, where these are few. So what fits is missed only where the steps are used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gpumax.policy.ask import Choices, size
from gpumax.policy.branch import Branch, grown
from gpumax.policy.crowd import NO_COLUMNS
from gpumax.policy.fit import Fits
from gpumax.policy.free import Room
from gpumax.policy.gang import Spot, Want
from gpumax.policy.gather import brought, needy
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools
from gpumax.policy.places import MOST_ROWS, MOST_TRIES, Laid, Places
from gpumax.policy.regions import Near, Region, Regions, free_of, most_of
from gpumax.policy.topology import NOWHERE, Level

STEPS: Final = 200
"""How many domains one layout tries beyond the first that could do for each of its scopes."""


class Layout:
    """One search with one choice of alternatives."""

    def __init__(self, places: Places, fits: Fits, choices: Choices, *, later: bool) -> None:
        self._places = places
        self._fits = fits
        self._choices = choices
        self._later = later
        self._steps = STEPS
        self._tries = 0
        self._coming = NO_COLUMNS

    def find(self, ledger: Ledger, wants: list[Want], within: Bools | None) -> Laid | None:
        """Places for all of the wants; None where none were found."""
        root = grown(wants)
        self._steps = STEPS + root.count()
        self._tries = MOST_TRIES if len({want.ask for want in wants}) > 1 and len(wants) <= MOST_ROWS else 0
        mask = np.ones(len(ledger.nodes.nodes), np.bool_) if within is None else within
        self._coming = brought(wants) if needy(wants) else NO_COLUMNS
        return next((laid for laid in self._solutions(ledger, root, mask, None) if laid[0].kept()), None)

    def _solutions(self, ledger: Ledger, branch: Branch, mask: Bools, near: Near | None) -> Iterator[Laid]:
        """Every way to place a branch on these nodes, the best first."""
        for region in self._regions(ledger, branch, mask, near):
            if self._steps <= 0:
                return
            self._steps -= 1
            rows = region.rows(mask)
            if self._siblings_fit(ledger, branch, rows):
                yield from self._fill(ledger, branch, rows, near)

    def _fill(self, ledger: Ledger, branch: Branch, rows: Bools, near: Near | None) -> Iterator[Laid]:
        """The narrower scopes one after the other, the hardest first, then what stands in no narrower one."""
        inner = sorted(branch.inner, key=self.hardness, reverse=True)
        depth = len(inner) + bool(branch.wants)
        done: list[list[Spot]] = []

        def start(at: Ledger) -> Iterator[Laid]:
            number, spots = len(done), [spot for part in done for spot in part]
            if number == len(inner):
                return self._own(at, branch, rows, spots)
            return self._solutions(at, inner[number], rows, self._near(branch, spots) or near)

        stack = [start(ledger)]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                if done:
                    done.pop()
                continue
            done.append(found[1])
            if len(stack) < depth:
                stack.append(start(found[0]))
                continue
            yield found[0], [spot for part in done for spot in part]
            done.pop()

    def _near(self, branch: Branch, spots: list[Spot]) -> Near | None:
        level = None if branch.scope is None else branch.scope.preferred
        if branch.scope is None or level is None:
            return None
        rows = [*branch.scope.rows, *(spot.held.row for spot in spots)]
        return Near(level, frozenset(int(level.domain[row]) for row in rows) - {NOWHERE})

    def _own(self, ledger: Ledger, branch: Branch, rows: Bools, spots: list[Spot]) -> Iterator[Laid]:
        """The best way to place what stands in no narrower scope; other ways, where these may be what others need."""
        near = self._near(branch, spots)
        found = None
        if near is not None:
            found = self._close(ledger, branch.wants, rows, near)
        if found is None:
            found = self._places.together(
                ledger.copy(),
                branch.wants,
                self._choices,
                later=self._later,
                within=rows,
                coming=self._coming,
            )
        if found is not None:
            yield found
        if self._tries and rows.sum() <= MOST_ROWS:
            order = sorted(branch.wants, key=lambda want: size(want.ask, self._choices[0]), reverse=True)
            yield from self._others(ledger, order, np.flatnonzero(rows).tolist(), [])

    def _others(self, ledger: Ledger, left: list[Want], rows: list[int], spots: list[Spot]) -> Iterator[Laid]:
        """Every way to place these tasks; tasks that ask the same go to nodes in rising order, as it is all one which is which."""
        if not left:
            yield ledger, spots
            return
        want, rest = left[0], left[1:]
        alike = bool(spots) and spots[-1].want.ask is want.ask
        for row in rows:
            if self._tries <= 0:
                return
            if alike and row < spots[-1].held.row:
                continue
            self._tries -= 1
            here = np.zeros(len(ledger.nodes.nodes), np.bool_)
            here[row] = True
            trial = ledger.copy()
            spot = self._spot(trial, want, here)
            if spot is not None:
                yield from self._others(trial, rest, rows, [*spots, spot])

    def _spot(self, trial: Ledger, want: Want, here: Bools) -> Spot | None:
        return self._places.spot(
            trial, want, self._choices, later=self._later, loose=False, within=here, coming=self._coming
        )

    def _close(self, ledger: Ledger, wants: list[Want], rows: Bools, near: Near) -> Laid | None:
        """On as few domains of the preferred level as possible: in those in use, then in the one that holds most."""
        trial, left, spots = ledger.copy(), list(wants), list[Spot]()
        left.sort(key=lambda want: size(want.ask, self._choices[0]), reverse=True)
        used, shut = set(near.used), set[int]()
        while left:
            domain = self._next(trial, left, rows, near.level, used - shut, shut)
            if domain is None:
                return None
            here = rows & (near.level.domain == domain)
            rest: list[Want] = []
            for want in left:
                spot = self._spot(trial, want, here)
                if spot is None:
                    rest.append(want)
                else:
                    spots.append(spot)
            if len(rest) < len(left):
                used.add(domain)
            shut.add(domain)
            left = rest
        return trial, spots

    def _next(
        self, trial: Ledger, left: list[Want], rows: Bools, level: Level, used: set[int], shut: set[int]
    ) -> int | None:
        """The domain to fill next: one in use, then the fullest that holds all that is left, then what holds most."""
        room = self._room(trial)
        most = sum(
            (most for _, _, most in most_of(self._fits, self._choices, room, left, rows)),
            np.zeros(rows.size, np.int64),
        )
        holds = level.sums(most)
        free = level.sums(np.where(rows, free_of(room, left), 0))
        lone = int(most[level.domain == NOWHERE].sum())
        candidates = [
            (domain not in used, holds[domain] < len(left), -int(holds[domain]), int(free[domain]), domain)
            if holds[domain] < len(left)
            else (domain not in used, False, 0, int(free[domain]), domain)
            for domain in range(len(level.names))
            if holds[domain] > 0 and domain not in shut
        ]
        if candidates:
            return min(candidates)[-1]
        return NOWHERE if lone and NOWHERE not in shut else None

    def _regions(self, ledger: Ledger, branch: Branch, mask: Bools, near: Near | None = None) -> list[Region]:
        """The nodes in which a branch may stand as a whole, the best first; only where the room could be enough."""
        scope = branch.scope
        if scope is None or (scope.required is None and scope.preferred is None):
            return [Region(0, 0, strange=False, tight=False, free=0, domain=0, of=None)]
        found = Regions(self._fits, self._choices, self._room(ledger), branch, mask, near).find()
        return sorted(found, key=Region.key)

    def homes(self, room: Room, branch: Branch, mask: Bools) -> list[Bools]:
        """The nodes of each domain that is required of the whole branch and where the room could be enough."""
        if branch.scope is None or branch.scope.required is None:
            return [mask]
        found = Regions(self._fits, self._choices, room, branch, mask, None).of(branch.scope.required, 0)
        return [region.rows(mask) for region in found]

    def _siblings_fit(self, ledger: Ledger, branch: Branch, rows: Bools) -> bool:
        """A necessary condition on narrower scopes that are alike, as segments are: enough domains by count."""
        alike: dict[object, list[Branch]] = {}
        for inner in branch.inner:
            if inner.scope is not None and inner.scope.required is not None and not inner.inner:
                alike.setdefault((inner.sign(), id(inner.scope.parent)), []).append(inner)
        room = self._room(ledger)
        for same in alike.values():
            scope = same[0].scope
            if len(same) < 2 or scope is None or scope.required is None or scope.rows:
                continue
            wants = same[0].wants
            fit = min(
                (
                    int((scope.required.sums(most) // count).sum())
                    for _, count, most in most_of(
                        self._fits, self._choices, room, wants, rows, many=len(same)
                    )
                ),
                default=0,
            )
            if fit < len(same):
                return False
        return True

    def hardness(self, branch: Branch) -> tuple[bool, int, int, int]:
        """Those that have no choice first, then what asks most."""
        wants = branch.everyone()
        sizes = [size(want.ask, self._choices[0]) for want in wants]
        fixed = branch.scope is not None and bool(branch.scope.rows)
        return fixed, sum(entry[0] for entry in sizes), sum(entry[2] for entry in sizes), len(wants)

    def _room(self, ledger: Ledger) -> Room:
        return ledger.later if self._later else ledger.now
