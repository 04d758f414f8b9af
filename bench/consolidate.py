"""The hard consolidate: every node is one GPU short of a whole one; a gang of a tenth as many 8-GPU tasks as nodes waits.

There is room enough for all, but not in whole nodes: nobody has to stop, and as few tasks as the gang has must move.
"""

from __future__ import annotations

from typing import Final

from clusters import hard_consolidate
from hard import Hard

CONSOLIDATE: Final = Hard("hard consolidate", hard_consolidate, evicted=1, moved=True, goals_ms={500: 250})

if __name__ == "__main__":
    CONSOLIDATE.main(__doc__)
