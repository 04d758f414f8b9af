"""Those who wait, as gangs: from one decision to the next only rows that are others are read again.

What a gang asks follows from its row and from the nodes. Rows are known by identity, which is sound because they are frozen; that the nodes are
the same, the table of asks stands for, which is another where they are others, and for each decision in which tasks are tied to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpumax.model.workload import Task, Workload
from gpumax.policy.ask import Asks
from gpumax.policy.gang import Gang, Want
from gpumax.policy.topology import wished
from gpumax.policy.tree import Account


class _Memory:
    """The asks of the last decision, and by name the gangs as they were when it began. Nobody places those.

    There are none yet after the first decision with these asks: what may be the only one pays nothing for a next.
    """

    last: tuple[Asks, dict[str, Gang]] | None = None


_MEMORY: Final = _Memory()


class Gangs:
    """Makes the gangs of a decision. wants: what tasks of a workload ask."""

    def __init__(self, asks: Asks, wants: Callable[[Workload, list[Task]], list[Want]]) -> None:
        last = _MEMORY.last
        self._wants = wants
        self._before = last[1] if last is not None and last[0] is asks else None
        self._now: dict[str, Gang] = {}
        _MEMORY.last = (asks, self._now)

    def of(self, workload: Workload, pending: list[Task], account: Account) -> Gang:
        """The gang of a workload. pending: those of its tasks that wait; account: its queue."""
        if self._before is None:
            return Gang(workload, account, self._wants(workload, pending))
        known = self._before.get(workload.name)
        if known is None or known.workload is not workload:
            known = Gang(workload, account, self._wants(workload, pending))
            if wished(workload):
                return known  # where it may stand hangs on who stands where
            known.learn()
        known.account = account  # the queues of a decision go with it
        self._now[workload.name] = known
        return known.copy(account)
