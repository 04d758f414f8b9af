"""The one door of the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from gpumax.loop.verify.company import check_company
from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.filters import check_filters
from gpumax.loop.verify.form import check_answers, check_form
from gpumax.loop.verify.gangs import check_gangs
from gpumax.loop.verify.known import Known
from gpumax.loop.verify.quota import check_quota
from gpumax.loop.verify.reclaim import check_evictions
from gpumax.loop.verify.reserve import check_reservations
from gpumax.loop.verify.room import check_room
from gpumax.loop.verify.shares import check_shares
from gpumax.loop.verify.spare import check_spare
from gpumax.loop.verify.stale import check_stale
from gpumax.loop.verify.topology import check_topology
from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot

Check = Callable[[Facts], Iterator[Violation]]

FIRST: Final[tuple[Check, ...]] = (check_form, check_shares)
"""What the others rest on: where these find something, nothing else is looked at."""
RULES: Final[tuple[Check, ...]] = (
    check_room, check_gangs, check_quota, check_filters, check_company, check_topology, check_evictions, check_spare, check_stale,
    check_reservations,
)  # fmt: skip


def verify(snapshot: Snapshot, decision: Decision, known: Known | None = None) -> tuple[Violation, ...]:
    """Every rule that the decision breaks; empty for a sound one.

    known: of the snapshot that was verified last, where this one came of it: what hasn't changed is not read again. It is
    brought up to date.
    """
    facts = Facts(snapshot, decision, known)
    return (*broken(facts), *check_answers(facts))


def broken(facts: Facts) -> tuple[Violation, ...]:
    """What is wrong with what the decision does, whatever it answers to those who wait."""
    found = tuple(chain.from_iterable(check(facts) for check in FIRST))
    return found or tuple(chain.from_iterable(check(facts) for check in RULES))
