"""Groups of which somebody has come, and not everybody who is to: whoever comes first waits for the others, and not for ever."""

from __future__ import annotations

from gpumax.broker.core.desk import Desk
from gpumax.broker.core.gang import Gang
from gpumax.broker.core.shapes import SECOND
from gpumax.broker.core.state import Group, State


class Gathering:
    def __init__(self, state: State, desk: Desk) -> None:
        self.state = state
        self.desk = desk

    def arrived(self, group: Group, ranks: int, who: int) -> None:
        """One of its processes. Whoever comes first doesn't begin before the others are there, but waits for them only for so long."""
        s, gang = self.state, group.gang
        first = not gang.came
        gang.arrive(ranks, who)
        if gang.whole:
            s.gathering.pop(group.name, None)
            return
        if first or group.name not in s.gathering:
            gang.until = s.now + s.settings.gang_wait_ns
        s.gathering[group.name] = group

    def dispersed(self, group: Group) -> None:
        """None of its processes is left: the next ones begin anew."""
        group.gang = Gang()
        self.state.gathering.pop(group.name, None)

    def step(self) -> None:
        s = self.state
        for group in list(s.gathering.values()):
            if s.now < group.gang.until:
                self.desk.wake(group.gang.until)
                continue
            group.gang.begun = True
            del s.gathering[group.name]
            self.desk.report(
                "gang", group.name,
                f"{len(group.gang.came)} of {group.gang.ranks} processes have come in {s.settings.gang_wait_ns // SECOND} s; "
                "they go on without the others",
            )  # fmt: skip
