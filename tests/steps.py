"""How often a decision does what: calls of the policy's functions, counted. Steps are the same in every run; seconds are not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import gpumax.policy

POLICY = str(Path(gpumax.policy.__file__).parent)


def steps(work: Callable[[], object]) -> Counter[str]:
    """By function, as `Room.copy`, how often it was called; what it calls that isn't Python as `Room.view>copy`."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(POLICY):
            if event == "call":
                found[code.co_qualname] += 1
            elif event == "c_call":
                found[f"{code.co_qualname}>{getattr(argument, '__name__', '')}"] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found
