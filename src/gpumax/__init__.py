"""gpumax: teams get the most out of the GPUs that they already have."""

from __future__ import annotations

TYPE_CHECKING = False  # without `typing`, whose import takes longer than the start of a task's supervisor may
if TYPE_CHECKING:
    from gpumax.formats.snapshot import load_snapshot
    from gpumax.policy.decide import decide

__all__ = ["__version__", "decide", "load_snapshot"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Late, because the command line must start without NumPy.
    if name == "decide":
        from gpumax.policy.decide import decide

        return decide
    if name == "load_snapshot":
        from gpumax.formats.snapshot import load_snapshot

        return load_snapshot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
