"""The broker of a node as a part of a process: sockets in a directory of its own, the core in their midst.

One thread: messages become events, events become orders, orders become words in pages and messages. Only host memory
is made ready beside it, because that takes long.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from gpumax.broker import messages as msg
from gpumax.broker.control import key
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.shapes import DeviceSpec, GroupSpec, Recovered, Settings
from gpumax.broker.node import heard, pages, pool, process, told
from gpumax.broker.node.alarm import Alarm
from gpumax.broker.node.away import Away
from gpumax.broker.node.connection import Connection
from gpumax.broker.node.ears import Later
from gpumax.broker.node.metrics import Metrics
from gpumax.broker.node.outsiders import Outsiders
from gpumax.broker.node.reception import Reception
from gpumax.broker.node.roster import Member, Roster
from gpumax.broker.node.sockets import Users
from gpumax.broker.node.tier import SecondTier
from gpumax.broker.status import Status, Unfenced, status
from gpumax.broker.wire import Garbled, Header
from gpumax.broker.words import LeaseState
from gpumax.errors import Conflict, Refused

DIRECTORY_MODE: Final = 0o750
BOOKED_FIRST: Final = frozenset({od.MemGrant, od.SwapIn, od.Restore})
"""What a client may hold from then on has to stand in its pages before it hears of it."""


class Server:
    """`groups`: what may connect, each by a socket `NAME.sock` in `directory`, and the users whose processes may."""

    def __init__(
        self, directory: Path, devices: Iterable[DeviceSpec], settings: Settings, *,
        metrics: Metrics | None = None, report: Callable[[od.Report], None] = lambda _: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.broker: Broker | None = None
        self.unfenced: dict[str, tuple[Unfenced, ...]] = {}
        """By device: processes that use it without having said so."""
        self._devices = tuple(devices)
        self._report = report
        self._clock = clock
        self._pool = pool.Pool(settings.pool_bytes)
        self._roster = Roster(self._died)
        self.second = SecondTier(
            Away(directory), self._roster, clock, self._handle, self._reported, self._spawn, settings.stuck
        )
        self._reception = Reception(
            directory, {key(each.name) or each.name: each.name for each in self._devices}, self._roster, self.metrics,
            clock=clock, joined=self._joined, ended=self._ended, forget=self._forget,
        )  # fmt: skip
        self._alarm = Alarm(
            clock, Later(), lambda due: self._handle(ev.Tick(max(self._clock(), due)))
        )  # fmt: skip
        self._ways: defaultdict[type, Callable[[Any], None]] = defaultdict(lambda: self._tell, {
            od.Wake: lambda wake: self._alarm.set(wake.at), od.Report: self._reported, od.RefuseGroup: lambda _: None,
        })  # fmt: skip
        """By an order's type, what is done of it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = -1
        self._handled = self.metrics.handling.observe
        self._dead: dict[int, int] = {}
        self.death = asyncio.Event()
        """Set when somebody has died whose memory the driver may still have."""

    def claim(self) -> None:
        """Make the directory, and have it to ourselves. Raises Conflict where another broker has it."""
        self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self.directory.chmod(DIRECTORY_MODE)
        self._lock()

    async def start(self, groups: Mapping[str, tuple[GroupSpec, Users]]) -> None:
        """Raises Refused where a group can't be, or Conflict where another broker has the directory."""
        if self._held < 0:
            self.claim()
        kept = self.directory / "pages"
        kept.mkdir(mode=0o700, exist_ok=True)
        recovered = self._recover(kept, groups)
        epoch = pages.next_epoch(self.directory)
        self.broker = Broker(
            self.settings, self._devices, epoch=epoch, now=self._clock(),
            specs=[spec for spec, _ in groups.values()], recovered=recovered, restarted=bool(recovered),
        )  # fmt: skip
        self._reception.begin(self.broker.state)
        for spec, users in groups.values():
            if spec.name not in self.broker.state.groups:
                raise Refused(f"group {spec.name}: {self.broker.objection(spec)}")
            self._reception.listen(spec.name, users)
        self._handle(ev.Tick(self._clock()))
        self.second.recover()

    def _lock(self) -> None:
        self._held = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._held)
            self._held = -1
            raise Conflict(f"another broker is at work in {self.directory}; end it first") from None

    def _recover(self, kept: Path, groups: Container[str]) -> list[Recovered]:
        found = []
        away = set(self.second.away.marked())
        for each in list(pages.found(kept)):
            owner = each.owner
            self._reception.keep_clear_of(owner.client)
            if owner.group not in groups:
                each.say(LeaseState.FENCED)  # its group has gone: it submits no more
                each.remove()
                continue
            if self._roster.add(owner, each, None) is None:
                each.remove()
                continue
            held = {
                device: tuple(each.read(index, name) for name in ("budget", "pinned", "allowed"))
                for index, device in enumerate(owner.devices)
            }
            leased = pages.may_submit(each)
            found.append(Recovered(owner.client, owner.group, owner.pid, leased, held, owner.pid in away))  # type: ignore[arg-type]
        return found

    # groups

    def add(self, spec: GroupSpec, users: Users) -> None:
        """A workload comes to this node. Raises Refused."""
        assert self.broker is not None
        text = self.broker.objection(spec)
        if text:
            raise Refused(f"group {spec.name}: {text}")
        self._reception.listen(spec.name, users)
        self._handle(ev.GroupAdded(self._clock(), spec))

    def configure(self, spec: GroupSpec) -> None:
        """Another share of a group that is here; its processes hear of it. Raises Refused."""
        assert self.broker is not None
        text = self.broker.objection_to_change(spec)
        if text:
            raise Refused(f"group {spec.name}: {text}")
        self._handle(ev.GroupChanged(self._clock(), spec))

    def remove(self, name: str) -> None:
        self._handle(ev.GroupRemoved(self._clock(), name))
        self._reception.close(name)
        self.metrics.forget(name)

    def used(self, name: str) -> bool:
        """Whether any process has a part in a group."""
        return any(member.owner.group == name for member in self._roster.members.values())

    def path(self, name: str) -> Path:
        """What GPUMAX_SOCKET names for the processes of a group."""
        return self._reception.path(name)

    # what clients say

    def _joined(self, event: ev.Joined, connection: Connection) -> None:
        connection.heard = self._heard
        self._handle(event)

    def _heard(self, connection: Connection, header: Header, message: msg.Message, now: int) -> None:
        try:
            if type(message) is msg.Away:
                self.second.heard(connection.client, message)
                return
            member = self._roster.members[connection.client]
            event = heard.event(message, header, connection.client, member.owner.devices, now)
        except Garbled as garbled:
            connection.complain(garbled)
            return
        if event is not None:
            self._handle(event)

    def _ended(self, connection: Connection) -> None:
        member = self._roster.members.get(connection.client)
        if member is not None and member.connection is connection:
            member.connection = None
            self._handle(ev.Left(self._clock(), connection.client))

    def _died(self, client: int) -> None:
        member = self._roster.members.get(client)
        self._handle(ev.Died(self._clock(), client))
        if member is not None:
            self._dead[client] = member.owner.pid
            self.second.away.forget(member.owner.pid)
            if self.dead:
                self.death.set()
        self._forget(client)

    @property
    def dead(self) -> dict[int, int]:
        """Processes, by client, that have died and whose memory nobody else has yet."""
        assert self.broker is not None
        ghosts = {client for device in self.broker.state.devices.values() for client in device.ghosts}
        self._dead = {client: pid for client, pid in self._dead.items() if client in ghosts}
        return self._dead

    def reclaimed(self, client: int) -> None:
        """The driver has the memory of one of the dead back."""
        self._handle(ev.Reclaimed(self._clock(), client))

    def _forget(self, client: int) -> None:
        self._pool.give_back(client)
        member = self._roster.members.get(client)
        if member is not None and member.connection is not None:
            connection, member.connection = member.connection, None
            connection.close()
        self._roster.remove(client)

    # what follows

    def _handle(self, event: ev.Event) -> None:
        if self.broker is None:
            return
        for order in self.broker.handle(event):
            self._obey(order)
        if self.broker.moved and isinstance(event, ev.ClientEvent):
            self._keep_books(event.client)
        self._handled(self._clock() - event.now)

    def _obey(self, order: od.Order) -> None:
        self._ways[type(order)](order)

    def _tell(self, order: od.ClientOrder) -> None:
        kind = type(order)
        member = self._roster.members.get(order.client)
        if member is None:
            return
        if kind in BOOKED_FIRST:
            self._keep_books(order.client)
        say = told.SAYS.get(kind)
        if say is not None:
            say(order, member)
        if kind is od.Grant:
            self.metrics.granted[member.owner.group] += 1
        elif kind is not od.Ended:
            self._do_more(order, member)

    def _reported(self, report: od.Report) -> None:
        self.metrics.reports.labels(report.kind).inc()
        self._report(report)

    def _do_more(self, order: od.ClientOrder, member: Member) -> None:
        match order:
            case od.Welcome():
                self._welcome(member)
            case od.Config():
                self._configure(member)
            case od.Refuse():
                if member.connection is not None:
                    self._reception.turn_away(member.connection, order.code, order.text)
            case od.Look():
                seen = member.pages.inflight if process.barrier() else 1
                self._soon(ev.PageSeen(self._clock(), order.client, seen))
            case od.Pool():
                self._spawn(self._prepare(order, member))
            case od.Checkpoint() | od.Restore():
                self.second.obey(order, member)
            case od.End():
                if why := member.end():
                    self._reported(od.Report("stuck", member.owner.group, why))
            case od.MemDeny():
                self.metrics.denied.labels(member.owner.group, order.reason.name.lower()).inc()

    def _keep_books(self, client: int) -> None:
        """What a client may hold stands in its pages, too, where the next broker finds it."""
        assert self.broker is not None
        member, known = self._roster.members.get(client), self.broker.state.clients.get(client)
        if member is None or known is None:
            return
        for index, device in enumerate(member.owner.devices):
            holding = known.holdings.get(device)
            if holding is None:
                continue
            books = (holding.claimed, holding.resident)
            if member.books.get(index) != books:
                member.books[index] = books
                member.pages.write(index, "budget", holding.claimed)
                member.pages.write(index, "allowed", holding.resident)

    def _soon(self, event: ev.Event) -> None:
        asyncio.get_running_loop().call_soon(self._handle, event)

    def _welcome(self, member: Member) -> None:
        assert self.broker is not None
        if member.connection is None:
            return
        member.connection.send(
            msg.Welcome(
                heartbeat_ns=self.settings.heartbeat_ns,
                client=member.owner.client,
                share=self._shares(member),
            ),
            fd=member.pages.fd,
        )

    def _shares(self, member: Member) -> tuple[msg.Share, ...]:
        assert self.broker is not None
        spec = self.broker.state.groups[member.owner.group].spec
        return tuple(
            msg.Share(spec.memory[d].limit, spec.memory[d].guarantee, spec.share, int(spec.mode))
            for d in member.owner.devices
        )

    def _configure(self, member: Member) -> None:
        shares = self._shares(member)
        for index, share in enumerate(shares):
            member.pages.write(index, "limit", share.limit)
        if member.connection is not None:
            member.connection.send(msg.Config(share=shares))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, order: od.Pool, member: Member) -> None:
        client = order.client
        size = order.bytes - self._pool.of(client, order.device)
        if size <= 0 or not self._pool.reserve(client, order.device, size):
            return
        try:
            fd = await asyncio.to_thread(pool.piece, size, sparse=self.settings.sparse_pool)
        except OSError as error:
            self._report(
                od.Report("pool", member.owner.group, f"no host memory to swap to: {error.strerror}")
            )
            return
        try:
            if member.connection is not None:
                device = member.owner.devices.index(order.device)
                member.connection.send(msg.Pool(bytes=size, device=device), fd=fd)
        finally:
            os.close(fd)

    def outsiders(self) -> Outsiders:
        """For those who use a device without a part in it."""
        return Outsiders(self.second.away, self._clock, self._reported, self._spawn, self._handle)

    # what others may know

    def status(self) -> Status:
        """Devices, groups, their processes, and why one waits."""
        assert self.broker is not None
        return status(self.broker, self.unfenced, self._clock())

    def measure(self) -> None:
        """Brings the gauges up to date: right before they're read."""
        assert self.broker is not None
        self.metrics.flush()
        self.metrics.pool.set(self._pool.used)
        for device in self.broker.state.devices:
            unfenced = self.unfenced.get(device, ())
            self.metrics.unfenced.labels(device).set(sum(not each.away for each in unfenced))
            self.metrics.unfenced_bytes.labels(device).set(sum(each.bytes for each in unfenced))
        for group in [each for each in self.broker.state.groups.values() if not each.removed]:
            self.metrics.clients.labels(group.name).set(len(group.clients))
            off = sum(client.standing in ("away", "lost") for client in group.clients.values())
            self.metrics.checkpointed.labels(group.name).set(off)
            for direction, times, copied in (
                ("out", group.swaps.out, group.swaps.bytes_out),
                ("in", group.swaps.back, group.swaps.bytes_back),
            ):
                self.metrics.swaps.labels(group.name, direction).set(times)
                self.metrics.copied.labels(group.name, direction).set(copied)
            for device in group.devices:
                resident = group.resident(device)
                self.metrics.resident.labels(group.name, device).set(resident)
                self.metrics.swapped.labels(group.name, device).set(group.claimed(device) - resident)

    async def stop(self) -> None:
        """Ends in good order: pages stay, so that who submits may go on, and the next broker finds them."""
        self.broker = None
        self._alarm.stop()
        self._reception.leave()
        self._roster.leave()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
