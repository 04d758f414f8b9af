"""What if: the same work under other quotas, on other nodes, or on the smallest cluster that meets a goal."""

from __future__ import annotations

from gpumax.study.whatif.difference import compare
from gpumax.study.whatif.question import Wish, ask
from gpumax.study.whatif.sizes import find

__all__ = ["Wish", "ask", "compare", "find"]
