"""A cluster that is filled until nothing more fits: the protocol of the FGD paper, under the paper's rules and the product's own."""

from __future__ import annotations

from gpumax.study.inflate.play import RULES, inflate

__all__ = ["RULES", "inflate"]
