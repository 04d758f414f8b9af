"""How a broker deals with those who don't keep to their parts, or rest for long: what an administrator may say of it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rules(NamedTuple):
    """As `python -m gpumax.broker` has them.

    ends_stuck: who holds a device, or what others need, and doesn't answer is ended; else it's told of. takes_off: who uses devices without
    a part is taken off them while others need the room. cold_s: who has rested for so long may be taken off as a whole; 0: nobody is; None: as the broker has it.
    """

    ends_stuck: bool = False
    takes_off: bool = False
    cold_s: float | None = None

    def words(self) -> list[str]:
        """The broker's options."""
        stuck = ["--stuck", "end"] if self.ends_stuck else []
        outside = ["--unfenced", "checkpoint"] if self.takes_off else []
        return [*stuck, *outside, *([] if self.cold_s is None else ["--cold", f"{self.cold_s:g}"])]


USUAL: Final = Rules()
