"""A node in memory: devices that run kernels, processes that obey the protocol or break down, and the broker's core between
them, under one virtual clock. What must never be is checked whenever something happens.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.shapes import MIB, MS, SECOND, DeviceSpec, GroupSpec, MemoryShare, Recovered, Settings
from gpumax.broker.words import HintKind, LeaseState, Mode, Reason, SwapStatus

GIB = 1 << 30
US = 1_000
LATENCY = 60 * US
"""A message's way, either direction."""

__all__ = ["GIB", "LATENCY", "MIB", "MS", "SECOND", "US", "HintKind", "Process", "World", "group"]


def group(
    name: str, share: int = 1000, *, mode: Mode = Mode.FAIR, guarantee: int = 0, limit: int | None = None,
    devices: Iterable[str] = ("d0",), swap: bool = True, priority: int = 0,
) -> GroupSpec:  # fmt: skip
    memory = MemoryShare(guarantee, guarantee if limit is None else limit)
    return GroupSpec(name, dict.fromkeys(devices, memory), share, mode, priority, swap)


@dataclass
class Process:
    """One process. `kernel_ns` of work at a time, without end unless `work_ns` bounds it."""

    id: int
    spec: GroupSpec
    devices: tuple[str, ...]
    kernel_ns: int = MS
    ahead: int = 0
    """So many kernels wait in its queue behind the one that runs: they run, too, when its turn is over."""
    queued: int = 0
    work_ns: int | None = None
    real: dict[str, int] = field(default_factory=dict)
    claimed: dict[str, int] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)
    word: LeaseState = LeaseState.NONE
    lease: int = 0
    generation: int = 0
    holds: bool = False
    """Believes to have a lease that it hasn't given back."""
    running: bool = False
    wants: bool = False
    alive: bool = True
    connected: bool = True
    stopped: bool = False
    inflight: int = 0
    inbox: list[od.Order] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)
    denied: list[Reason] = field(default_factory=list)
    granted: int = 0
    swapped: int = 0
    waiting_since: int | None = None
    longest_wait: int = 0
    swap_out_status: SwapStatus = SwapStatus.DONE
    swap_tail: int = 0
    done_at: int | None = None
    checkpoints: bool = False
    ranks: int = 0
    rank: int = 0
    off: bool = False
    saved: dict[str, int] = field(default_factory=dict)
    """What the driver took off the devices."""
    swapping: int = 0
    coming: dict[str, int] = field(default_factory=dict)
    """Where a swap that is under way ends."""
    pid: int = 0
    page: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """What the pages showed when the broker died: budget, pinned, allowed."""

    @property
    def goes(self) -> bool:
        return self.alive and not self.stopped

    def used(self, begin: int, end: int) -> int:
        return sum(max(min(b, end) - max(a, begin), 0) for a, b in self.busy)


class World:
    def __init__(
        self, specs: Iterable[GroupSpec] = (), *, devices: dict[str, int] | None = None,
        settings: Settings | None = None, link: int = 10 * GIB, piece: int = 0, latency: int = LATENCY,
    ) -> None:  # fmt: skip
        """piece: so many bytes of memory that goes are told of at a time; 0: all at once, at the end."""
        self.piece = piece
        self.latency = latency
        self.now = 0
        self.capacity = devices or {"d0": 16 * GIB}
        self.settings = settings or Settings(pool_bytes=1 << 50)
        self.link = link
        self.specs = list(specs)
        self.processes: dict[int, Process] = {}
        self.reports: list[od.Report] = []
        self.refused: list[od.Order] = []
        self.dying: dict[int, Process] = {}
        self.checkpoint: Callable[[Process], None] = self._taken_off
        self.epoch = 1
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._next = 1
        self._wakes = 0
        self.ticks = 0
        self.broker: Broker | None = Broker(self.settings, self._devices(), epoch=1, now=0, specs=self.specs)
        for spec in self.specs:
            assert spec.name in self.broker.state.groups, "not admitted"

    def _devices(self) -> list[DeviceSpec]:
        return [DeviceSpec(name, size) for name, size in self.capacity.items()]

    # the clock

    def at(self, when: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, act))

    def after(self, delay: int, act: Callable[[], None]) -> None:
        self.at(self.now + delay, act)

    def run(self, until: int, *, at_once: int = 10_000) -> None:
        steps = 0
        while self._queue and self._queue[0][0] <= until:
            when, _, act = heapq.heappop(self._queue)
            steps = steps + 1 if when <= self.now else 0
            assert steps < at_once, "the broker goes round in circles"
            self.now = max(self.now, when)
            act()
            self.check()
        self.now = until

    def step(self) -> bool:
        """The next thing that happens. False: nothing is left to happen."""
        if not self._queue:
            return False
        when, _, act = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        act()
        self.check()
        return True

    # to the broker, and from it

    def tell(self, event: ev.Event) -> None:
        if self.broker is None:
            return
        for order in self.broker.handle(event):
            self._obey(order)

    def _tick(self) -> None:
        self.ticks += 1
        self.tell(ev.Tick(self.now))

    def say(self, process: Process, event: Callable[[int], ev.Event]) -> None:
        """A message of a process: on its way for a while, lost if the connection ends before."""
        id_ = process.id

        def arrive() -> None:
            if process.alive and process.connected and process.id == id_:
                self.tell(event(self.now))

        self.after(self.latency, arrive)

    def _obey(self, order: od.Order) -> None:
        if isinstance(order, od.Wake):
            self._wakes += 1
            latest = self._wakes
            self.at(order.at, lambda: self._tick() if latest == self._wakes else None)
        elif isinstance(order, od.Report):
            self.reports.append(order)
        elif isinstance(order, od.RefuseGroup | od.Refuse):
            self.refused.append(order)
        elif isinstance(order, od.ClientOrder):
            self._client_order(order)

    def _client_order(self, order: od.ClientOrder) -> None:
        process = self.processes.get(order.client)
        if process is None:
            return
        self._write_page(process, order)
        if isinstance(order, od.Look):
            seen = process.inflight
            self.after(US, lambda: self.tell(ev.PageSeen(self.now, order.client, seen)))
        elif isinstance(order, od.End):
            self.kill(process)
        elif isinstance(order, od.Checkpoint):
            self.after(SECOND, lambda: self.checkpoint(process))
        elif isinstance(order, od.Restore):
            self.after(SECOND, lambda: self._restore(process))
        elif not isinstance(order, od.Welcome | od.Ended | od.Fence | od.Pool):
            self.after(self.latency, lambda: self._deliver(process, order))

    def _write_page(self, process: Process, order: od.ClientOrder) -> None:
        """Shared pages change at once, whatever the process is doing."""
        if isinstance(order, od.Grant):
            process.word, process.lease, process.generation = (
                LeaseState.GRANTED,
                order.lease,
                order.generation,
            )
            process.holds = True
        elif isinstance(order, od.Revoke):
            process.word, process.lease, process.holds = LeaseState.REVOKED, order.lease, True
        elif isinstance(order, od.Ended):
            process.word = LeaseState.NONE
            process.holds = False
        elif isinstance(order, od.Fence):
            process.word = LeaseState.FENCED
            process.holds = False
            self.after(self.latency, lambda: self._drained(process))

    def _deliver(self, process: Process, order: od.Order) -> None:
        if not process.alive or not process.connected:
            return
        if process.stopped or (
            process.off and isinstance(order, od.MemGrant)
        ):  # it allocates with the driver, which has it off
            process.inbox.append(order)
            return
        if isinstance(order, od.Grant):
            self._granted(process)
        elif isinstance(order, od.Revoke):
            self._drained(process)
        elif isinstance(order, od.SwapOut):
            self._swap(process, order.device, order.keep, out=True)
        elif isinstance(order, od.SwapIn):
            self._swap(process, order.device, order.upto, out=False)
        elif isinstance(order, od.MemGrant):
            process.claimed[order.device] = process.claimed.get(order.device, 0) + order.bytes
            process.real[order.device] = process.real.get(order.device, 0) + order.bytes
        elif isinstance(order, od.MemDeny):
            process.denied.append(order.reason)
        elif isinstance(order, od.Trim):
            self.say(process, lambda now: ev.Returned(now, process.id, order.device, 0))

    # what processes do

    def start(
        self, spec: GroupSpec, *, kernel_ns: int = MS, memory: int = 0, pinned: int = 0, ranks: int = 0, rank: int = 0,
        devices: tuple[str, ...] | None = None, work_ns: int | None = None, wants: bool = True,
        checkpoints: bool = False, ahead: int = 0,
    ) -> Process:  # fmt: skip
        process = Process(
            self._next, spec, devices or spec.devices, kernel_ns, ahead, work_ns=work_ns, pid=self._next
        )
        process.checkpoints, process.ranks, process.rank = checkpoints, ranks, rank
        self._next += 1
        self.processes[process.id] = process
        self.tell(
            ev.Joined(
                self.now,
                process.id,
                spec.name,
                process.pid,
                process.devices,
                ranks=ranks,
                rank=rank,
                checkpoints=checkpoints,
            )
        )
        for name in process.devices:
            if pinned:
                self.ask(process, pinned, name, pinned=True)
            if memory:
                self.ask(process, memory, name)
        if wants:
            self.want(process)
        self._beat(process)
        return process

    def ask(self, process: Process, size: int, device: str = "d0", *, pinned: bool = False) -> None:
        if pinned:
            process.pinned[device] = process.pinned.get(device, 0) + size
        self.say(process, lambda now: ev.Asked(now, process.id, device, size, pinned))

    def want(self, process: Process) -> None:
        process.wants = True
        process.waiting_since = self.now
        if process.word is not LeaseState.GRANTED:
            self.say(process, lambda now: ev.Wanted(now, process.id))
        else:
            self._granted(process)

    def rest(self, process: Process) -> None:
        process.wants = False

    def pause(self, process: Process) -> None:
        """Between two kernels: it gives the lease back, and has moved all that can be moved."""
        assert not process.running
        self.rest(process)
        self._drained(process)
        for name in process.devices:
            left = process.real[name] = process.pinned.get(name, 0)
            self.say(process, partial(self._paused, process.id, name, left))

    def _paused(self, client: int, name: str, left: int, now: int) -> ev.Event:
        return ev.SwappedOut(now, client, name, left, SwapStatus.PAUSED)

    def _beat(self, process: Process) -> None:
        if not process.alive:
            return
        if process.goes and process.connected:
            self.tell(ev.Beat(self.now, process.id, {}))
        self.after(self.settings.heartbeat_ns, lambda: self._beat(process))

    def _granted(self, process: Process) -> None:
        if process.waiting_since is not None:
            process.longest_wait = max(process.longest_wait, self.now - process.waiting_since)
            process.waiting_since = None
        process.granted += 1
        self._submit(process)

    def _submit(self, process: Process) -> None:
        if process.running or not process.goes or process.off:
            return
        if process.word is LeaseState.GRANTED and process.wants:
            process.queued = process.ahead + 1
        if not process.queued:
            self._drained(process)
            return
        process.queued -= 1
        self._check_resident(process)
        process.running = True
        begun, process_lease = self.now, process.lease
        self.after(process.kernel_ns, lambda: self._kernel_ended(process, begun, process_lease))

    def _kernel_ended(self, process: Process, begun: int, lease: int) -> None:
        process.running = False
        process.busy.append((begun, self.now))
        if not process.alive:
            return
        if process.work_ns is not None:
            process.work_ns -= self.now - begun
            if process.work_ns <= 0 and process.done_at is None:
                process.done_at = self.now
                process.wants = False
        self._submit(process)

    def _drained(self, process: Process) -> None:
        """Gives the lease back once nothing of it runs any more."""
        if process.running or process.queued or not process.goes:
            return
        fenced = process.word is LeaseState.FENCED
        if process.holds or fenced:
            process.holds = False
            process.word = LeaseState.NONE
            lease, wants = process.lease, process.wants
            if wants:
                process.waiting_since = self.now
            self.say(process, lambda now: ev.Released(now, process.id, lease, wants))

    def _swap(self, process: Process, device: str, upto: int, *, out: bool) -> None:
        have = process.real.get(device, 0) if out else process.coming.get(device, process.real.get(device, 0))
        size = abs(have - upto)
        begin = max(self.now, process.swap_tail)
        process.swap_tail = begin + size * SECOND // self.link
        if out and process.swap_out_status is SwapStatus.DONE:
            self._in_pieces(process, device, begin, have, upto)
        elif not out:
            process.coming[device] = upto
        process.swapping += 1
        assert not (out and process.running), "swapped out from under a kernel"

        def done() -> None:
            if process.alive and process.stopped:
                self.after(50 * MS, done)
                return
            process.swapping -= 1
            if not process.alive:
                return
            process.swapped += 1
            if out:
                status = process.swap_out_status
                if status is SwapStatus.DONE:
                    process.real[device] = min(process.real.get(device, 0), upto)
                real = process.real.get(device, 0)
                copied = size if status is SwapStatus.DONE else 0
                self.say(process, lambda now: ev.SwappedOut(now, process.id, device, real, status, copied))
            else:
                process.real[device] = max(process.real.get(device, 0), upto)
                real = process.real[device]
                if process.coming.get(device) == upto:
                    del process.coming[device]
                self.say(process, lambda now: ev.SwappedIn(now, process.id, device, real))

        self.at(process.swap_tail, done)

    def _in_pieces(self, process: Process, device: str, begin: int, have: int, upto: int) -> None:
        for left in range(have - self.piece, upto, -self.piece) if self.piece else ():
            self.at(
                begin + (have - left) * SECOND // self.link,
                partial(self._piece, process, device, left, have - left),
            )

    def _piece(self, process: Process, device: str, left: int, copied: int) -> None:
        if process.goes:
            process.real[device] = min(process.real.get(device, 0), left)
            status = SwapStatus.PROGRESS
            self.say(process, lambda now: ev.SwappedOut(now, process.id, device, left, status, copied))

    def _taken_off(self, process: Process) -> None:
        if process.alive:
            process.off = True
            process.saved = dict(process.real)
            process.real = dict.fromkeys(process.real, 0)
            self.tell(ev.Checkpointed(self.now, process.id, ev.Outcome.DONE))

    def _restore(self, process: Process) -> None:
        if process.alive:
            process.off = False
            process.real = dict(process.saved)
            if not process.stopped:
                self._read_inbox(process)
            self.tell(ev.Restored(self.now, process.id, ev.Outcome.DONE))

    # what befalls them

    def kill(self, process: Process, *, memory_after: int = SECOND) -> None:
        if not process.alive:
            return
        process.alive = False
        process.holds = False
        process.running = False
        self.dying[process.id] = process

        def gone() -> None:
            self.dying.pop(process.id, None)
            process.real = {}

        self.after(memory_after, gone)
        self.after(US, lambda: self._buried(process))

    def _buried(self, process: Process) -> None:
        self.tell(ev.Died(self.now, process.id))

    def stop(self, process: Process) -> None:
        process.stopped = True

    def go_on(self, process: Process) -> None:
        process.stopped = False
        self._read_inbox(process)
        self._submit(process)

    def _read_inbox(self, process: Process) -> None:
        inbox, process.inbox = process.inbox, []
        for order in inbox:
            self._deliver(process, order)

    def look(self) -> object:
        """Where the protocol stands, without times and amounts."""
        groups = self.broker.state.groups.values() if self.broker else ()
        return (
            [(p.spec.name, p.word, p.holds) for p in self.processes.values()],
            [
                (g.place, g.lease is None, bool(g.requests), [h.moving for c in g.clients.values() for h in c.holdings.values()])
                for g in groups
            ],
        )  # fmt: skip

    def drop(self, process: Process) -> None:
        """Its connection ends, and the process goes on by its page."""
        if process.connected and self.broker is not None:
            process.connected = False
            self.tell(ev.Left(self.now, process.id))
            self.after(self.latency, lambda: self._submit(process) if process.holds else None)

    def crash(self) -> None:
        """kill -9 of the broker: pages stay as they are, connections end."""
        assert self.broker
        for client in self.broker.state.clients.values():
            if client.id in self.processes:
                held = {d: (h.claimed, h.pinned, h.resident) for d, h in client.holdings.items()}
                self.processes[client.id].page = held
        self.broker = None
        self._wakes += 1
        for process in self.processes.values():
            process.connected = False
            self.after(self.latency, lambda p=process: self._submit(p) if p.holds else None)  # type: ignore[misc]

    def restart(self, *, reconnect: Iterable[Process] | None = None, after: int = 100 * MS) -> None:
        self.epoch += 1
        recovered = [
            Recovered(
                p.id, p.spec.name, p.pid, p.word in (LeaseState.GRANTED, LeaseState.REVOKED),
                p.page, p.off,
            )
            for p in self.processes.values() if p.alive
        ]  # fmt: skip
        self.broker = Broker(
            self.settings, self._devices(), epoch=self.epoch, now=self.now, specs=self.specs,
            recovered=recovered, restarted=True,
        )  # fmt: skip
        self._next = max([self._next, *(p.id + 1 for p in self.processes.values())])
        self.tell(ev.Tick(self.now))
        for process in [p for p in self.processes.values() if p.off]:
            self.after(SECOND, lambda p=process: self.tell(ev.Found(self.now, p.id, ev.Outcome.DONE)))  # type: ignore[misc]
        back = [p for p in self.processes.values() if p.alive] if reconnect is None else list(reconnect)
        for process in back:
            self.after(after, lambda p=process: self.reconnect(p))  # type: ignore[misc]

    def reconnect(self, process: Process) -> None:
        if not process.alive or process.connected or self.broker is None:
            return
        if process.stopped or process.swapping:
            self.after(100 * MS, lambda: self.reconnect(process))
            return
        old, process.id = process.id, self._next
        self._next += 1
        del self.processes[old]
        self.processes[process.id] = process
        process.connected = True
        process.swap_tail = self.now
        process.coming.clear()
        leased = process.holds and process.word in (LeaseState.GRANTED, LeaseState.REVOKED)
        self.tell(
            ev.Joined(
                self.now,
                process.id,
                process.spec.name,
                process.pid,
                process.devices,
                ranks=process.ranks,
                rank=process.rank,
                reconnects=True,
            )
        )
        holdings = {
            d: (process.claimed.get(d, 0), process.pinned.get(d, 0), process.real.get(d, 0))
            for d in process.devices
        }
        self.tell(ev.Inventory(self.now, process.id, leased, process.wants, holdings))

    # what must never be

    def check(self) -> None:
        holders: dict[str, set[str]] = {}
        for process in self.processes.values():
            # Whoever is revoked and hasn't drained still counts; whoever was fenced can't submit any more.
            if process.alive and process.holds:
                for device in process.spec.devices:
                    holders.setdefault(device, set()).add(process.spec.name)
        for device, names in holders.items():
            assert len(names) == 1, f"{self.now}: {device} is granted to {sorted(names)}"
        for device, capacity in self.capacity.items():
            real = sum(
                p.real.get(device, 0) for p in [*self.processes.values(), *self.dying.values()] if p.alive
            )
            real += sum(p.real.get(device, 0) for p in self.dying.values())
            assert real <= capacity, f"{self.now}: {real} bytes on {device}, which has {capacity}"
        if self.broker is not None:
            self._check_books(self.broker)

    def _check_books(self, broker: Broker) -> None:
        for name, device in broker.state.devices.items():
            kept = sum(g.resident(name) for g in broker.state.groups.values())
            assert kept == device.used
            assert device.free >= 0, f"{self.now}: more is kept than {name} has"
        for each in broker.state.groups.values():
            for name in each.devices:
                assert each.claimed(name) <= each.share_of(name).limit

    def _check_resident(self, process: Process) -> None:
        for name in process.devices:
            have, want = process.real.get(name, 0), process.claimed.get(name, 0)
            assert have >= want, f"{self.now}: a kernel starts with {have} of {want} bytes on {name}"

    def memory_back(self, process: Process, size: int, device: str = "d0") -> None:
        """Frees memory: of a group that is on its device."""
        process.claimed[device] -= size
        process.real[device] = min(process.real[device], process.claimed[device])
        self.say(process, lambda now: ev.Returned(now, process.id, device, size))
