"""What running work holds when a decision begins."""

from __future__ import annotations

from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, Task, Workload
from gpumax.policy.ledger import Held, Ledger, summed
from gpumax.policy.minimum import NOBODY, fixed
from gpumax.policy.slices import costs, lowest
from gpumax.policy.tree import NOTHING, Tree


def settle(snapshot: Snapshot, ledger: Ledger, tree: Tree) -> dict[str, Held]:
    """Count it in the ledger and, but for what is leaving, in its queues; what each task holds, by its name.

    Devices that a file leaves out are the lowest that fit, in task order.
    """
    helds: dict[str, Held] = {}
    leaving: list[Held] = []
    guessed: list[tuple[Workload, Task, list[Held]]] = []
    by_queue: dict[tuple[str, bool], list[Held]] = {}  # and whether it is never evicted
    holder = _Holder(ledger)
    for workload in snapshot.workloads:
        counted = safe = by_queue.setdefault((workload.queue, workload.preemptible is False), [])
        core = NOBODY
        if workload.preemptible == "semi":
            core, safe = fixed(workload), by_queue.setdefault((workload.queue, True), [])
        for task in workload.tasks:
            if task.state not in HOLDING or task.node is None:
                continue
            into = leaving if task.state == "releasing" else counted
            if core and task.name in core:
                into = safe
            if not task.devices and (task.request.gpu or task.request.slices):
                guessed.append((workload, task, into))
                continue
            held = helds[task.name] = holder.held(workload, task)
            into.append(held)
    ledger.settle(list(helds.values()), leaving)
    for workload, task, into in guessed:
        held = helds[task.name] = holder.held(workload, task)
        into.append(held)
        ledger.settle([held], [held] if into is leaving else [])
    for (queue, never), counted in by_queue.items():
        account = tree.accounts.get(queue)
        if account is not None and counted:
            amounts = summed(counted)
            tree.add(account, amounts, fixed=amounts if never else NOTHING)
            tree.want(account, amounts)
    return helds


class _Holder:
    """Reads from tasks what they hold."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._nodes = ledger.nodes
        self._sliced = bool(ledger.nodes.sliced.by_row)
        self._ties = None if ledger.now.crowd is None else ledger.now.crowd.ties

    def held(self, workload: Workload, task: Task) -> Held:
        """What a task holds of its node."""
        request = task.request
        row = self._nodes.row_of[task.node or ""]
        slices = self._slices(task, row) if self._sliced else ()
        devices = costs(slices) if slices else self._devices(task, row)
        gpu = devices[0][1] if len(devices) == 1 else sum([milli for _, milli in devices])
        extended = tuple(request.extended.items()) if request.extended else ()
        tied = None if self._ties is None else self._ties.of(workload, task)
        return Held(
            task.name, row, gpu, request.cpu_milli, request.memory_mib, extended, devices, slices, tied
        )

    def _devices(self, task: Task, row: int) -> tuple[tuple[int, int], ...]:
        if not task.devices:
            return self._guess(task, row)
        column_of = self._nodes.column_of[row]
        return tuple(
            [
                (column_of[share.index], share.milli or milli_of(share.slices))
                for share in task.devices
                if share.index in column_of
            ]
        )

    def _guess(self, task: Task, row: int) -> tuple[tuple[int, int], ...]:
        if not task.request.gpu:
            return ()
        gpu = task.request.gpu[0]
        usable, need = self._nodes.usable(gpu)
        free = self._ledger.now.devices[row]
        columns = [
            column for column in range(free.size) if usable[row, column] and free[column] >= need[row, column]
        ]
        return tuple((column, int(need[row, column])) for column in columns[: gpu.devices])

    def _slices(self, task: Task, row: int) -> tuple[tuple[int, str, int], ...]:
        """The slices that a task holds; where a file leaves them out, the lowest devices that can take them."""
        if not task.devices:
            devices = self._nodes.sliced.by_row.get(row, ())
            asked = tuple(sorted(task.request.slices.items()))
            return lowest(devices, self._ledger.now.slices.get(row, ()), asked)
        column_of = self._nodes.column_of[row]
        return tuple(
            (column_of[share.index], profile, count)
            for share in task.devices
            if share.index in column_of
            for profile, count in sorted(share.slices.items())
        )
