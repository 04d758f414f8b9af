"""What running work holds when a decision begins.

From one snapshot to the next little changes as a rule, and rows that don't are often the very objects of the snapshot before:
then only the others are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final, NamedTuple

from gpumax.model.node import Node
from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceShare, Task, Workload
from gpumax.policy.census import Census
from gpumax.policy.free import Room
from gpumax.policy.held import Held, summed
from gpumax.policy.ledger import Ledger
from gpumax.policy.minimum import NOBODY, fixed
from gpumax.policy.nodes import Nodes
from gpumax.policy.slices import costs, lowest
from gpumax.policy.ties import Ties
from gpumax.policy.tree import NOTHING, Tree, Vector

_Key = tuple[str, bool]
"""A queue, and whether what is held is never evicted."""


class _Read(NamedTuple):
    """What workloads hold. leaving: those who leave, by workload; guessed: of whom a file leaves the devices out."""

    helds: dict[str, Held]
    counted: dict[_Key, list[Held]]
    leaving: dict[str, list[Held]]
    guessed: list[tuple[Workload, Task, list[Held]]]


class _Standing(NamedTuple):
    """What all workloads of a snapshot hold. room: what they leave free, as long as nobody has left."""

    nodes: tuple[Node, ...]
    workloads: tuple[Workload, ...]
    helds: dict[str, Held]
    sums: dict[_Key, Vector]
    leaving: dict[str, list[Held]]
    room: Room


class _Memory:
    """What stood when the last decision began; nothing where some of it depends on more than the rows themselves."""

    last: _Standing | None = None


_MEMORY: Final = _Memory()


def settle(
    snapshot: Snapshot, census: Census, nodes: Nodes, ties: Ties | None, tree: Tree
) -> tuple[Ledger, dict[str, Held]]:
    """A ledger on which it is counted, and what each task holds, by its name. It is counted in its queues, too, but for what is leaving.

    Devices that a file leaves out are the lowest that fit, in task order.
    """
    before = _MEMORY.last
    found = None
    if before is not None and before.nodes is snapshot.nodes and ties is None:
        found = _followed(before, snapshot, census, nodes)
    ledger, standing, lasting = found or _anew(snapshot, nodes, ties)
    _MEMORY.last = standing if lasting else None
    for (queue, never), amounts in standing.sums.items():
        account = tree.accounts.get(queue)
        if account is not None:
            tree.add(account, amounts, fixed=amounts if never else NOTHING)
            tree.want(account, amounts)
    return ledger, standing.helds


_Settled = tuple[Ledger, _Standing, bool]
"""The ledger, what stands, and whether the next decision may start from there."""


def _anew(snapshot: Snapshot, nodes: Nodes, ties: Ties | None) -> _Settled:
    """All of it read."""
    ledger = Ledger(nodes, ties)
    holder = _Holder(ledger.now)
    read = _read(snapshot.workloads, holder)
    helds = read.helds
    ledger.settle(list(helds.values()), list(chain.from_iterable(read.leaving.values())))
    for workload, task, into in read.guessed:
        held = helds[task.name] = holder.held(workload, task)
        into.append(held)
        ledger.settle([held], [held] if task.state == "releasing" else [])
    sums: dict[_Key, Vector] = {key: summed(counted) for key, counted in read.counted.items() if counted}
    room = ledger.now.handed(nodes)
    standing = _Standing(snapshot.nodes, snapshot.workloads, helds, sums, read.leaving, room)
    return ledger, standing, not read.guessed and room.crowd is None


def _followed(before: _Standing, snapshot: Snapshot, census: Census, nodes: Nodes) -> _Settled | None:
    """The same, of a snapshot most rows of which stood in the one before; None where too few did."""
    gone, come = census.since(before.workloads)
    if 2 * (len(gone) + len(come)) > len(snapshot.workloads):
        return None
    room = before.room.handed(nodes)
    holder = _Holder(room)
    less, more = _read(gone, holder), _read(come, holder)
    if more.guessed:
        return None
    helds, sums = before.helds.copy(), before.sums.copy()
    for name in less.helds:
        del helds[name]
    helds.update(more.helds)
    for read, other, sign in ((less, more, -1), (more, less, 1)):
        # Of many rows something else has changed than what they hold.
        taken = [held for name, held in read.helds.items() if other.helds.get(name) != held]
        if taken:
            room.take_all(taken, sign)
        for key, counted in read.counted.items():
            was, now = sums.get(key, NOTHING), summed(counted)
            sums[key] = tuple([held + sign * amount for held, amount in zip(was, now, strict=True)])
    leaving = before.leaving
    if less.leaving or more.leaving:
        stay = [(name, row) for name, row in leaving.items() if name not in less.leaving]
        leaving = dict(sorted([*stay, *more.leaving.items()]))
    ledger = Ledger(nodes, room=room.begin())
    for held in chain.from_iterable(leaving.values()):
        ledger.leave(held)
    return ledger, _Standing(snapshot.nodes, snapshot.workloads, helds, sums, leaving, room), True


def _read(workloads: Iterable[Workload], holder: _Holder) -> _Read:
    helds: dict[str, Held] = {}
    leaving: dict[str, list[Held]] = {}
    guessed: list[tuple[Workload, Task, list[Held]]] = []
    by_queue: dict[_Key, list[Held]] = {}
    for workload in workloads:
        key = (workload.queue, workload.preemptible is False)
        counted = by_queue.get(key)
        if counted is None:
            counted = by_queue[key] = []
        core, safe = NOBODY, counted
        if workload.preemptible == "semi":
            core, safe = fixed(workload), by_queue.setdefault((workload.queue, True), [])
        for task in workload.tasks:
            if task.state not in HOLDING or task.node is None:
                continue
            into = counted
            if task.state == "releasing":
                into = leaving.setdefault(workload.name, [])
            if core and task.name in core:
                into = safe
            if not task.devices and (task.request.gpu or task.request.slices):
                guessed.append((workload, task, into))
                continue
            held = helds[task.name] = holder.held(workload, task)
            into.append(held)
    return _Read(helds, by_queue, leaving, guessed)


class _Holder:
    """Reads from tasks what they hold."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._nodes = room.nodes
        self._row_of = room.nodes.row_of
        self._sliced = bool(room.nodes.sliced.by_row)
        self._ties = None if room.crowd is None else room.crowd.ties
        self._known: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        self._plain = not self._sliced and self._ties is None

    def held(self, workload: Workload, task: Task) -> Held:
        """What a task holds of its node."""
        request, row = task.request, self._row_of[task.node or ""]
        if self._plain and not task.devices and not request.gpu and not request.extended:
            # As most tasks of large clusters are.
            return Held(task.name, row, 0, request.cpu_milli, request.memory_mib, (), ())
        slices = self._slices(task, row) if self._sliced else ()
        if slices:
            devices = costs(slices)
        elif task.devices:
            devices = self._devices(task.devices, self._nodes.column_of[row])
        else:
            devices = self._guess(task, row) if request.gpu else ()
        gpu = devices[0][1] if len(devices) == 1 else sum([milli for _, milli in devices])
        extended = tuple(request.extended.items()) if request.extended else ()
        tied = None if self._ties is None else self._ties.of(workload, task)
        return Held(
            task.name, row, gpu, request.cpu_milli, request.memory_mib, extended, devices, slices, tied
        )

    def _devices(
        self, shares: tuple[DeviceShare, ...], column_of: dict[int, int]
    ) -> tuple[tuple[int, int], ...]:
        """Devices by their columns. What is the same object is looked up once: most tasks hold one of few sets."""
        key = (id(shares), id(column_of))
        known = self._known.get(key)
        if known is None:
            pairs = [(column_of.get(share.index), share.milli or milli_of(share.slices)) for share in shares]
            known = tuple([(column, milli) for column, milli in pairs if column is not None])
            self._known[key] = known
        return known

    def _guess(self, task: Task, row: int) -> tuple[tuple[int, int], ...]:
        gpu = task.request.gpu[0]
        usable, need = self._nodes.usable(gpu)
        free = self._room.devices[row]
        columns = [
            column for column in range(free.size) if usable[row, column] and free[column] >= need[row, column]
        ]
        return tuple((column, int(need[row, column])) for column in columns[: gpu.devices])

    def _slices(self, task: Task, row: int) -> tuple[tuple[int, str, int], ...]:
        """The slices that a task holds; where a file leaves them out, the lowest devices that can take them."""
        if not task.devices:
            devices = self._nodes.sliced.by_row.get(row, ())
            asked = tuple(sorted(task.request.slices.items()))
            return lowest(devices, self._room.slices.get(row, ()), asked)
        column_of = self._nodes.column_of[row]
        return tuple(
            (column_of[share.index], profile, count)
            for share in task.devices
            if share.index in column_of
            for profile, count in sorted(share.slices.items())
        )
