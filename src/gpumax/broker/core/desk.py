"""Where orders are collected while an event is handled, with the earliest moment at which to look again."""

from __future__ import annotations

from gpumax.broker.core.orders import Order, Report, Wake

SOONEST_NS = 20_000


class Desk:
    def __init__(self) -> None:
        self._orders: list[Order] = []
        self._wake: int | None = None
        self._armed: int | None = None

    def say(self, order: Order) -> None:
        self._orders.append(order)

    def report(self, kind: str, group: str, text: str) -> None:
        self._orders.append(Report(kind, group, text))

    def wake(self, at: int) -> None:
        if self._wake is None or at < self._wake:
            self._wake = at

    def forget_wakes(self) -> None:
        self._wake = None

    def collect(self, now: int) -> list[Order]:
        """All that was said since the last time, and a Wake where the moment is another."""
        if self._wake is not None:
            at = max(self._wake, now + SOONEST_NS)
            if self._armed is None or self._armed <= now or at != self._armed:
                self._armed = at
                self._orders.append(Wake(at))
        orders, self._orders, self._wake = self._orders, [], None
        return orders
