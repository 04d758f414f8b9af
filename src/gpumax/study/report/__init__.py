"""A result as something to look at: one HTML file, or a picture a file."""

from __future__ import annotations

from gpumax.study.report.page import page
from gpumax.study.report.plots import plots

__all__ = ["page", "plots"]
