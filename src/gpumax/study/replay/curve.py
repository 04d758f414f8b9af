"""Numbers that change in steps over time, added up exactly."""

from __future__ import annotations


class Curve:
    """A number over time. Areas are in units of the number times milliseconds, and exact: all of it is integers.

    area: up to the end of the window; whole: up to now. bins: area in each step since the beginning, as far as they reach.
    """

    __slots__ = ("_at_ms", "_from_ms", "_most", "_step_ms", "_until_ms", "area", "bins", "value", "whole")

    def __init__(self, from_ms: int, until_ms: int, step_ms: int, most: int) -> None:
        self._from_ms = self._at_ms = from_ms
        self._until_ms = until_ms
        self._step_ms = step_ms
        self._most = most
        self.value = 0
        self.area = 0
        self.whole = 0
        self.bins: list[int] = []

    def add(self, delta: int, now_ms: int) -> None:
        """The number changes now."""
        if now_ms > self._at_ms:
            self.pass_to(now_ms)
        self.value += delta

    def pass_to(self, now_ms: int) -> None:
        """The number has been what it is until now."""
        if self.value:
            self.area += self.value * max(0, min(now_ms, self._until_ms) - min(self._at_ms, self._until_ms))
            self.whole += self.value * (now_ms - self._at_ms)
            self._fill(now_ms)
        self._at_ms = now_ms

    def means(self, number: int) -> list[float]:
        """The mean of each step, for so many of them."""
        bins = self.bins[:number] + [0] * (number - len(self.bins))
        return [area / self._step_ms for area in bins]

    def _fill(self, now_ms: int) -> None:
        at_ms = self._at_ms - self._from_ms
        end_ms = now_ms - self._from_ms
        while at_ms < end_ms:
            index = at_ms // self._step_ms
            if index >= self._most:
                return
            until_ms = min(end_ms, (index + 1) * self._step_ms)
            if index >= len(self.bins):
                self.bins += [0] * (index + 1 - len(self.bins))
            self.bins[index] += self.value * (until_ms - at_ms)
            at_ms = until_ms
