"""Faults that are none: changes of the policy by which no answer can be another one, nor its effort grow, and why."""

from __future__ import annotations

from typing import Final

EQUIVALENT: Final = {
    "ledger: FEW: Final = 6  ->  FEW: Final = 7": "up to how many rows one by one is faster; both ways come to the same",
}
