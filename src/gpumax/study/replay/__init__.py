"""A trace played through a cluster in memory, under the product's own loop or under policies that others have."""

from __future__ import annotations

from gpumax.study.replay.play import replay

__all__ = ["replay"]
