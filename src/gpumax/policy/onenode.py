"""One node's room in plain integers, on which it is tried who would have to go for one task."""

from __future__ import annotations

from gpumax.policy.ask import Ask
from gpumax.policy.held import Held
from gpumax.policy.ledger import Ledger
from gpumax.policy.slices import added


class OneNode:
    """What a node will have free, less what the ask takes: it fits when nothing is below zero."""

    def __init__(self, ledger: Ledger, ask: Ask, choice: int, row: int) -> None:
        room = ledger.later
        self._row = row
        self._cpu = int(room.cpu[row]) - ask.cpu
        self._memory = int(room.memory[row]) - ask.memory
        self._tasks = int(room.tasks[row]) - 1
        self._extended = {
            name: int(room.extended[name][row]) - amount if name in room.extended else -amount
            for name, amount in ask.extended
        }
        self._sliced = ledger.nodes.sliced
        self._asked = ask.slices
        self._states = room.slices.get(row, ()) if ask.slices else ()
        gpu = ask.gpu[choice]
        # What each usable device has beyond the need.
        self._devices: dict[int, int] = {}
        self._missing = 0
        if gpu is not None:
            usable, need = ledger.nodes.usable(gpu)
            spare = zip((room.devices[row] - need[row]).tolist(), usable[row].tolist(), strict=True)
            self._devices = {column: free for column, (free, can) in enumerate(spare) if can}
            self._missing = gpu.devices - sum([free >= 0 for free in self._devices.values()])

    def fits(self) -> bool:
        """Whether the ask fits."""
        return (
            self._missing <= 0
            and self._cpu >= 0
            and self._memory >= 0
            and self._tasks >= 0
            and (not self._extended or all(free >= 0 for free in self._extended.values()))
            and (not self._asked or self._slices_fit())
        )

    def _slices_fit(self) -> bool:
        return bool(self._states) and self._sliced.layout(self._row, self._states, self._asked) is not None

    def helps(self, helds: list[Held]) -> bool:
        """Whether these tasks free something here that is still short."""
        for held in helds:
            if held.row != self._row:
                continue
            if self._missing > 0:
                for column, _ in held.devices:
                    if self._devices.get(column, 0) < 0:
                        return True
            if (self._cpu < 0 and held.cpu) or (self._memory < 0 and held.memory) or self._tasks < 0:
                return True
            if self._extended and any(
                self._extended.get(name, 0) < 0 and amount for name, amount in held.extended
            ):
                return True
            if self._asked and held.slices and not self._slices_fit():
                return True
        return False

    def free(self, helds: list[Held], sign: int = 1) -> None:
        """Count these tasks as gone (1) or as there again (-1)."""
        for held in helds:
            if held.row == self._row:
                self._free(held, sign)

    def _free(self, held: Held, sign: int) -> None:
        self._cpu += sign * held.cpu
        self._memory += sign * held.memory
        self._tasks += sign
        for name, amount in held.extended:
            if name in self._extended:
                self._extended[name] += sign * amount
        if self._asked and held.slices and self._states:
            self._states = added(self._sliced.by_row[self._row], self._states, held.slices, -sign)
        for column, milli in held.devices:
            before = self._devices.get(column)
            if before is not None:
                now = self._devices[column] = before + sign * milli
                self._missing += (now < 0) - (before < 0)
