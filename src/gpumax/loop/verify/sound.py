"""What is left of a decision when all that belongs to a workload that broke a rule is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot


def sound(snapshot: Snapshot, decision: Decision, violations: Sequence[Violation]) -> Decision:
    """The decision without what breaks a rule."""
    if not violations:
        return decision
    assert snapshot.workloads is not None
    return Decision(shares=decision.shares, warnings=decision.warnings)
