"""Work that asks the same as work that was refused is refused with it, and what was found in one decision serves the next: no answer is another for that."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gpumax.formats.decision import encode_decision
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Workload
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from gpumax.policy.gang import Gang
from gpumax.policy.order import Order
from properties.strategies import snapshots
from properties.test_decisions import profile, refute

pytestmark = pytest.mark.deep


def _twin(row: Workload, number: int) -> Workload:
    """A workload that asks the same, and came with it."""
    name = f"{row.name}t{number}"
    tasks = tuple(replace(task, name=f"{name}-{rank}") for rank, task in enumerate(row.tasks))
    return replace(row, name=name, tasks=tasks)


@st.composite
def backlogs(draw: st.DrawFn) -> Snapshot:
    """Clusters in which most of what waits asks the same as something else."""
    snapshot = draw(snapshots())
    rows = list(snapshot.workloads)
    for row in snapshot.workloads:
        if all(task.state == "pending" for task in row.tasks):
            rows += [_twin(row, number) for number in range(draw(st.integers(0, 3)))]
    return replace(snapshot, workloads=tuple(sorted(rows, key=lambda row: row.name)))


def _one_by_one(snapshot: Snapshot) -> bytes:
    """The decision, nothing being known from others, and each gang tried by itself."""

    def nobody(_: Order, gang: Gang) -> list[Gang]:
        return []

    with patch.object(Order, "alike", nobody):
        return encode_decision(decide(deepcopy(snapshot), effort=NONE))


@profile
@given(backlogs())
def test_one_that_is_refused_answers_for_its_equals(snapshot: Snapshot) -> None:
    refute(
        snapshot, lambda state: encode_decision(decide(state, effort=NONE)) != _one_by_one(state) and "others"
    )


@profile
@given(backlogs(), st.randoms(use_true_random=False))
def test_what_was_found_in_the_last_decision_changes_nothing_in_the_next(
    snapshot: Snapshot, chance: Random
) -> None:
    """Some have gone, some are others, queues are in another order; all else are the very same rows."""
    rows = [row for row in snapshot.workloads if chance.random() < 0.8]
    rows = [replace(row, priority=row.priority + 1) if chance.random() < 0.2 else row for row in rows]
    after = replace(snapshot, workloads=tuple(rows), queues=tuple(reversed(snapshot.queues)))
    for _ in range(2):  # who waits is remembered from the second decision about the same nodes on
        decide(snapshot, effort=NONE)
    assert encode_decision(decide(after, effort=NONE)) == _one_by_one(after)
