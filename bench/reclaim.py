"""The hard reclaim: every GPU held by another queue's one-GPU tasks, one gang of a tenth as many 8-GPU tasks as nodes.

KAI-Scheduler publishes 104, 130, 241, 816 and 8,970 ms for its ReclaimLargeJobs at 10, 50, 100, 200 and 500 nodes, on
hardware that it doesn't state and with about 100 ms of start-up in each (docs/developer/designs/vectorizing-resources).
"""

from __future__ import annotations

from typing import Final

from clusters import DEVICES, hard_reclaim
from hard import Hard

PUBLISHED_MS: Final = {50: 130, 100: 241, 200: 816, 500: 8970}
BESIDE: Final = {nodes: f" (KAI publishes {ms})" for nodes, ms in PUBLISHED_MS.items()}
GOALS_MS: Final = {100: 10, 200: 20, 500: 50, 1000: 150}
RECLAIM: Final = Hard("hard reclaim", hard_reclaim, evicted=DEVICES, goals_ms=GOALS_MS, beside=BESIDE)

if __name__ == "__main__":
    RECLAIM.main(__doc__)
