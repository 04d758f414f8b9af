"""A snapshot made ready to decide on: room, queues and waiting gangs, and the answers as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumax.model.decision import Eviction, Hold
from gpumax.model.slices import milli, milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceAsk, Task, Workload
from gpumax.policy.ask import Ask, Asks
from gpumax.policy.fit import Fits
from gpumax.policy.gang import Gang, Spot, Want, total
from gpumax.policy.kept import Kept
from gpumax.policy.ledger import Held, Ledger, Nodes, summed
from gpumax.policy.score import Scores
from gpumax.policy.slices import costs, lowest
from gpumax.policy.topology import Domains, scopes
from gpumax.policy.tree import Tree, Vector
from gpumax.units import MILLI

if TYPE_CHECKING:
    from gpumax.policy.pool import Pool


class World:
    """What the passes read and write. `ledger` is replaced by the trial that worked, never mended."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.nodes = Nodes(snapshot.nodes)
        self.ledger = Ledger(self.nodes)
        self.fits = Fits(self.nodes)
        self.scores = Scores(self.fits, snapshot.policy)
        self.asks = Asks()
        self.domains = Domains(snapshot.nodes, snapshot.topologies)
        self.tree = Tree(snapshot.queues)
        self.waiting: list[Gang] = []  # not yet placed, or with more to place
        self.refused: list[Hold] = []  # never gets as far as a pass
        self.held: dict[str, Held] = {}  # by task, what each holds
        self.placed: dict[str, Gang] = {}
        self.evictions: list[Eviction] = []
        self.evicted: set[str] = set()
        self.ended: set[str] = set()  # workloads that lose their minimum in this decision and are not moved
        self.pool: Pool | None = None  # who could go; made when somebody has to
        self.unsearched: set[str] = set()  # workloads whose turn came when the search budget was used up
        self.bounded: set[str] = (
            set()
        )  # workloads for which more would have to go than one decision may evict
        self.kept: list[Kept] = []  # reservations, in the order in which they were made
        self.reserved: dict[str, Kept] = {}  # who waits because of one, by workload
        self.released = False  # whether one turned out not to be needed
        self._timed: list[Workload] | None = None
        self._sums: dict[
            tuple[int, bool], list[int]
        ] = {}  # by queue and whether it is preemptible, what runs
        self._smallest: dict[tuple[str, DeviceAsk], int] = {}
        self._settle()
        self._read_waiting()
        capacity = self.capacity()
        self.warnings = self.tree.divide(capacity, snapshot.policy.fairness_k)
        self.shares = tuple(self.tree.rows())

    def capacity(self) -> Vector:
        """What open nodes have in all, healthy devices only."""
        nodes = [node for node in self.snapshot.nodes if node.open]
        gpus = int(self.nodes.gpus[self.nodes.open].sum()) if nodes else 0
        sliced = sum(
            len(devices) for row, devices in self.nodes.sliced.by_row.items() if self.nodes.open[row]
        )
        gpus += MILLI * sliced
        return (gpus, sum(node.cpu_milli for node in nodes), sum(node.memory_mib for node in nodes))

    def _settle(self) -> None:
        """Count what running work holds. Devices that a file leaves out are the lowest that fit, in task order."""
        helds: list[Held] = []
        leaving: list[Held] = []
        guessed: list[tuple[Workload, Task]] = []
        for workload in self.snapshot.workloads:
            counted: list[Held] = []
            for task in workload.tasks:
                if task.state not in HOLDING or task.node is None:
                    continue
                if (task.request.gpu or task.request.slices) and not task.devices:
                    guessed.append((workload, task))
                    continue
                held = self._held(task, self._columns(task))
                (leaving if task.state == "releasing" else counted).append(held)
            if counted:
                helds += counted
                self._count(workload, counted)
        self.ledger.settle(helds + leaving, leaving)
        for workload, task in guessed:
            held = self._held(task, self._guess(task))
            going = task.state == "releasing"
            self.ledger.settle([held], [held] if going else [])
            if not going:
                self._count(workload, [held])
        accounts = list(self.tree.accounts.values())
        for (index, preemptible), sums in self._sums.items():
            self.tree.add(accounts[index], sums, fixed=not preemptible)
            self.tree.want(accounts[index], sums)

    def _count(self, workload: Workload, helds: list[Held]) -> None:
        """Count what a workload holds in its queue."""
        account = self.tree.accounts.get(workload.queue)
        if account is not None:
            amounts = summed(helds)
            sums = self._sums.setdefault((account.index, workload.preemptible), [0, 0, 0])
            sums[0] += amounts[0]
            sums[1] += amounts[1]
            sums[2] += amounts[2]

    def _columns(self, task: Task) -> tuple[tuple[int, int], ...]:
        column_of = self.nodes.column_of[self.nodes.row_of[task.node or ""]]
        return tuple(
            [
                (column_of[share.index], share.milli or milli_of(share.slices))
                for share in task.devices
                if share.index in column_of
            ]
        )

    def _slices(self, task: Task) -> tuple[tuple[int, str, int], ...]:
        """The slices that a task holds; where a file leaves them out, the lowest devices that can take them."""
        row = self.nodes.row_of[task.node or ""]
        if not task.devices:
            devices = self.nodes.sliced.by_row.get(row, ())
            asked = tuple(sorted(task.request.slices.items()))
            return lowest(devices, self.ledger.now.slices.get(row, ()), asked)
        column_of = self.nodes.column_of[row]
        return tuple(
            (column_of[share.index], profile, count)
            for share in task.devices
            if share.index in column_of
            for profile, count in sorted(share.slices.items())
        )

    def _guess(self, task: Task) -> tuple[tuple[int, int], ...]:
        if not task.request.gpu:
            return ()
        gpu, row = task.request.gpu[0], self.nodes.row_of[task.node or ""]
        usable, need = self.nodes.usable(gpu)
        free = self.ledger.now.devices[row]
        columns = [
            column for column in range(free.size) if usable[row, column] and free[column] >= need[row, column]
        ]
        return tuple((column, int(need[row, column])) for column in columns[: gpu.devices])

    def _held(self, task: Task, devices: tuple[tuple[int, int], ...]) -> Held:
        """What a task holds."""
        request = task.request
        extended = tuple(request.extended.items()) if request.extended else ()
        slices = self._slices(task) if self.nodes.sliced.by_row else ()
        devices = costs(slices) if slices else devices
        gpu = sum([milli for _, milli in devices])
        row = self.nodes.row_of[task.node or ""]
        held = Held(task.name, row, gpu, request.cpu_milli, request.memory_mib, extended, devices, slices)
        self.held[task.name] = held
        return held

    def _read_waiting(self) -> None:
        for workload in self.snapshot.workloads:
            pending = [task for task in workload.tasks if task.state == "pending"]
            if not pending:
                continue
            account = self.tree.accounts.get(workload.queue)
            if account is None:
                self.refused.append(
                    Hold(workload.name, "QueueNotFound", f"queue {workload.queue} does not exist")
                )
                continue
            if account.children:
                below = ", ".join(child.name for child in account.children[:3])
                message = f"queue {workload.queue} has queues below it ({below}); work goes to leaves only"
                self.refused.append(Hold(workload.name, "QueueNotLeaf", message))
                continue
            wants = [self._want(workload, task) for task in pending]
            inside = scopes(workload, self.domains, self.nodes.row_of)
            if inside is not None:
                wants = [want._replace(scope=inside.get(want.task.name)) for want in wants]
            self.tree.want(account, total(wants))
            self.waiting.append(Gang(workload, account, wants))

    def _want(self, workload: Workload, task: Task) -> Want:
        ask = self.asks.of(workload, task)
        return Want(task, ask, (self._milli_of(ask.gpu[0], ask), ask.cpu, ask.memory))

    def _milli_of(self, gpu: DeviceAsk | None, ask: Ask) -> int:
        """Until it is placed, a request by memory counts in milli of the smallest healthy device of its pool."""
        if gpu is None:
            return sum(count * milli(profile) for profile, count in ask.slices)
        if not gpu.memory_mib:
            return gpu.devices * gpu.milli
        pool = ask.filter.pool
        key = (pool, gpu)
        known = self._smallest.get(key)
        if known is None:
            sizes = [
                device.memory_mib
                for node in self.snapshot.nodes
                if not pool or node.pool == pool
                for device in node.devices
                if device.healthy and device.memory_mib
            ]
            smallest = min(sizes, default=gpu.memory_mib)
            known = self._smallest[key] = -(-MILLI * gpu.memory_mib // smallest)
        return gpu.devices * known

    def variants(self, chunk: list[Want]) -> list[list[Want]]:
        """The chunk as it may be counted: once, where all device alternatives are of one size.

        Otherwise first with all of them, each task counted with its largest, and then with those of one size at a time.
        """
        if all(len(want.ask.gpu) < 2 for want in chunk):
            return [chunk]
        sizes = [{self._milli_of(gpu, want.ask) for gpu in want.ask.gpu} for want in chunk]
        if all(len(each) == 1 for each in sizes):
            return [chunk]
        largest = [self._counted(want, want.ask, max(each)) for want, each in zip(chunk, sizes, strict=True)]
        most = max(len(want.ask.gpu) for want in chunk)
        alone = [[self._narrowed(want, choice) for want in chunk] for choice in range(most)]
        return [largest, *alone]

    def _narrowed(self, want: Want, choice: int) -> Want:
        ask = self.asks.narrowed(want.ask, choice)
        return self._counted(want, ask, self._milli_of(ask.gpu[0], ask))

    def _counted(self, want: Want, ask: Ask, milli: int) -> Want:
        return want._replace(ask=ask, amounts=(milli, ask.cpu, ask.memory))

    def timed(self) -> list[Workload]:
        """The work of which it is known how long it runs at most."""
        if self._timed is None:
            self._timed = [work for work in self.snapshot.workloads if work.max_duration_ms is not None]
        return self._timed

    def place(self, gang: Gang, spots: list[Spot]) -> bool:
        """Record places that are already in the ledger; returns whether the gang has more to place."""
        fixed = not gang.workload.preemptible
        for spot in spots:
            self.tree.add(gang.account, spot.held.amounts, fixed=fixed)
            if spot.want.scope is not None:
                spot.want.scope.enter(spot.held.row)
        self.placed.setdefault(gang.workload.name, gang)
        if self.kept:
            left = [kept for kept in self.kept if kept.gang is not gang]
            if len(left) < len(self.kept):
                self.kept, self.released = left, True
        return gang.advance(spots)
