"""What a decision did that no decision does."""

from __future__ import annotations

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """rule: its number in policy.md, 0 for what the decision's own form demands, 11 for
    reservations. workload, task: empty where none is meant.

    message: what was found, with the numbers.
    """

    rule: int
    message: str
    workload: str = ""
    task: str = ""

    def __str__(self) -> str:
        about = " ".join(part for part in (self.workload, self.task) if part)
        return f"rule {self.rule}: {about}: {self.message}" if about else f"rule {self.rule}: {self.message}"
