"""The hard preempt: every GPU held by one-GPU tasks of the queue in which a gang of higher priority waits.

The gang has a tenth as many 8-GPU tasks as there are nodes, as in the hard reclaim (`reclaim.py`).
"""

from __future__ import annotations

from typing import Final

from clusters import DEVICES, hard_preempt
from hard import Hard
from reclaim import GOALS_MS

PREEMPT: Final = Hard("hard preempt", hard_preempt, evicted=DEVICES, goals_ms=GOALS_MS)

if __name__ == "__main__":
    PREEMPT.main(__doc__)
