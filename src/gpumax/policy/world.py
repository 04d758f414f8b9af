"""A snapshot made ready to decide on: room, queues and waiting gangs, and the answers as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gpumax.model.decision import Eviction, Hold
from gpumax.model.slices import milli
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, Task, Workload
from gpumax.policy.ask import Ask
from gpumax.policy.census import census_of
from gpumax.policy.gang import Gang, Spot, Want, total
from gpumax.policy.gangs import Gangs
from gpumax.policy.kept import Kept
from gpumax.policy.running import settle
from gpumax.policy.score import Scores
from gpumax.policy.terms import terms_of
from gpumax.policy.ties import Ties
from gpumax.policy.topology import Domains, scopes
from gpumax.policy.tree import NOTHING, Account, Tree, Vector
from gpumax.units import MILLI

if TYPE_CHECKING:
    from gpumax.policy.pool import Pool
    from gpumax.policy.timeline import End


class World:
    """What the passes read and write. `ledger` is replaced by the trial that worked, never mended."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.census = census_of(snapshot)
        self.ties = Ties(snapshot) if self.census.tied else None
        self.nodes, self.fits, self.asks = terms_of(snapshot.nodes, self.ties)
        self.scores = Scores(self.fits, snapshot, self.census)
        self.domains = Domains(snapshot.nodes, snapshot.topologies)
        self.tree = Tree(snapshot.queues)
        self.waiting: list[Gang] = []  # not yet placed, or with more to place
        self.refused: list[Hold] = []  # never gets as far as a pass
        self.promises = False  # whether anybody who waits was promised what others leave
        # What each task holds, by its name.
        self.ledger, self.held = settle(snapshot, self.census, self.nodes, self.ties, self.tree)
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
        self.ends: list[End] | None = None  # of what runs; made when somebody asks when room comes
        self._smallest: dict[tuple[str, DeviceAsk], int] = {}
        self._amounts: dict[Ask, Vector] = {}  # what a task of an ask counts until it is placed
        self._read_waiting()
        capacity = self.capacity()
        self.warnings = self.tree.divide(capacity, snapshot.policy.fairness_k)
        self.shares = tuple(self.tree.rows())

    def capacity(self) -> Vector:
        """What open nodes have in all, healthy devices only."""
        nodes, is_open = self.nodes, self.nodes.open
        sliced = sum([len(devices) for row, devices in nodes.sliced.by_row.items() if is_open[row]])
        gpus, cpu, memory = (int(all_[is_open].sum()) for all_ in (nodes.gpus, nodes.cpu, nodes.memory))
        return (gpus + MILLI * sliced, cpu, memory)

    def _read_waiting(self) -> None:
        wanted: dict[Account, list[Want]] = {}
        gangs = Gangs(self.asks, self.wants)
        for workload, pending in self.census.waiting():
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
            gang = gangs.of(workload, pending, account)
            wanted.setdefault(account, []).extend(gang.everything())
            self.waiting.append(gang)
        for account, everything in wanted.items():
            self.tree.want(account, total(everything))
            self.promises = self.promises or bool([want for want in everything if want.task.promised])

    def wants(self, workload: Workload, pending: list[Task]) -> list[Want]:
        """What those of its tasks ask that are to be placed."""
        wants = [self._want(workload, task) for task in pending]
        inside = scopes(workload, self.domains, self.nodes.row_of)
        if inside is not None:
            wants = [replace(want, scope=inside.get(want.task.name)) for want in wants]
        return wants

    def _want(self, workload: Workload, task: Task) -> Want:
        ask = self.asks.of(workload, task)
        amounts = self._amounts.get(ask)
        if amounts is None:
            amounts = self._amounts[ask] = (self._milli_of(ask.gpu[0], ask), ask.cpu, ask.memory)
        return Want(task, ask, amounts)

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
        if max([len(want.ask.gpu) for want in chunk]) < 2:
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
        return replace(want, ask=ask, amounts=(milli, ask.cpu, ask.memory))

    def place(self, gang: Gang, spots: list[Spot]) -> bool:
        """Record places that are already in the ledger; returns whether the gang has more to place."""
        never = gang.fixed
        for spot in spots:
            self.tree.add(gang.account, spot.held.amounts, fixed=spot.held.amounts if never else NOTHING)
            if spot.want.scope is not None:
                spot.want.scope.enter(spot.held.row)
        self.placed.setdefault(gang.workload.name, gang)
        if self.kept:
            left = [kept for kept in self.kept if kept.gang is not gang]
            if len(left) < len(self.kept):
                self.kept, self.released = left, True
        return gang.advance(spots)
