"""Faults that are none: changes of the policy by which no answer can be another one, nor its effort grow, and why.

Named by module and change, as `make mutants` prints them. They are listed apart in its output, and not counted.
"""

from __future__ import annotations

from typing import Final

EQUIVALENT: Final = {
    "free: FEW: Final = 6  ->  FEW: Final = 7": "up to how many rows it is faster to look at one by one; both ways find the same",
    "fit: SOFT_TAINT: Final = 1 << 20  ->  SOFT_TAINT: Final = 2 << 20": "any number larger than all weights together",
    "fragments: MIXER: Final = 2177342782468422677  ->  MIXER: Final = 2177342782468422678": "any number whose powers are different",
    "free: NOTHING_SHARED: Final = 1 << 30  ->  NOTHING_SHARED: Final = 2 << 30": "any number larger than a device",
    "order: self.stamp = 0  ->  self.stamp = 1": "where the count of offers begins",
    "branch: if len(wants) == 1:  ->  if False:": "a short way to what the lines below find as well",
    "gang: if len(wants) == 1:  ->  if False:": "a short way to what the line below finds as well",
    "ledger: if len(helds) == 1:  ->  if False:": "a short way to what the lines below find as well",
    "held: if len(helds) == 1:  ->  if False:": "a short way to what the lines below find as well",
}
