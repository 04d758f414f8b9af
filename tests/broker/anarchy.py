"""The broker's core among processes that say anything at any time: what must hold all the same, looked at after each event.

Pages are kept by the orders alone: whatever a process says or does, it can submit only where its page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.shapes import MIB, MS, DeviceSpec, GroupSpec, Recovered, Settings
from gpumax.broker.core.state import Moving, Place, Tier
from gpumax.broker.status import status
from gpumax.broker.words import LeaseState, SwapStatus

GIB = 1 << 30
DEVICES: Mapping[str, int] = {"d0": 8 * GIB, "d1": 8 * GIB}
QUICK = Settings(
    pool_bytes=1 << 50, longest_quantum_ns=400 * MS, serial_ns=2000 * MS, idle_ns=1000 * MS, cold_ns=4000 * MS,
    heartbeat_ns=200 * MS, grace_ns=100 * MS, stuck_ns=1000 * MS, memory_wait_ns=1000 * MS, burial_ns=300 * MS,
    retry_ns=100 * MS, chunk_bytes=256 * MIB,
)  # fmt: skip
AWAKE = (LeaseState.GRANTED, LeaseState.REVOKED)


class Where(od.ClientOrder, frozen=True):
    """The next broker asks the driver where a process is."""


DRIVER = (od.Checkpoint, od.Restore, Where)
"""The driver answers these, whatever becomes of the connection."""


@dataclass
class Page:
    """What a client's shared page says, and what the broker was last told that it holds."""

    pid: int
    group: str
    devices: tuple[str, ...]
    word: LeaseState = LeaseState.NONE
    lease: int = 0
    generation: int = 0
    connected: bool = True
    owed: list[od.ClientOrder] = field(default_factory=list)
    """Orders that call for an answer, oldest first."""


class Anarchy:
    def __init__(self, settings: Settings = QUICK) -> None:
        self.settings = settings
        self.now = 0
        self.wake: int | None = None
        self.pages: dict[int, Page] = {}
        self.specs: dict[str, GroupSpec] = {}
        self.next = 1
        self.epoch = 1
        self.leases: dict[int, str] = {}
        self.said: list[od.Order] = []
        self.broker = self._begin([])

    def _begin(self, recovered: list[Recovered], *, restarted: bool = False) -> Broker:
        devices = [DeviceSpec(name, size) for name, size in DEVICES.items()]
        return Broker(
            self.settings, devices, epoch=self.epoch, now=self.now, specs=self.specs.values(),
            recovered=recovered, restarted=restarted,
        )  # fmt: skip

    # what happens

    def tell(self, event: ev.Event) -> list[od.Order]:
        orders = self.broker.handle(event)
        assert len(orders) < 200, "one event, and no end of orders"
        for order in orders:
            self._obey(order)
        self.said = orders
        self.check()
        return orders

    def _obey(self, order: od.Order) -> None:
        if isinstance(order, od.Wake):
            assert order.at > self.now
            self.wake = order.at
        elif isinstance(order, od.RefuseGroup):
            self.specs.pop(order.name, None) if order.name not in self.broker.state.groups else None
        elif isinstance(order, od.ClientOrder):
            self._client_order(order)

    def _client_order(self, order: od.ClientOrder) -> None:
        page = self.pages.get(order.client)
        assert page is not None, f"{order} to nobody"
        match order:
            case od.Grant():
                assert order.generation > page.generation, "a generation is never used again"
                assert self.leases.setdefault(order.lease, page.group) == page.group, (
                    "nor somebody else's lease"
                )
                page.word, page.lease, page.generation = LeaseState.GRANTED, order.lease, order.generation
            case od.Revoke():
                page.word, page.lease = LeaseState.REVOKED, order.lease
            case od.Ended():
                page.word = LeaseState.NONE
            case od.Fence():
                page.word = LeaseState.FENCED
        if isinstance(order, od.SwapOut | od.SwapIn | od.Look | od.Checkpoint | od.Restore | od.Trim):
            page.owed.append(order)

    def advance(self, until: int) -> None:
        """Time passes; the core is woken when it asked for it, and must not ask without end."""
        ticks, began = 0, self.now
        while self.wake is not None and self.wake <= until:
            self.now, self.wake = self.wake, None
            self.tell(ev.Tick(self.now))
            ticks += 1
            assert ticks < 400 + (self.now - began) // MS * 4, "it is woken without end"
        self.now = max(self.now, until)

    def join(self, group: str, *, pid: int | None = None, reconnects: bool = False, ranks: int = 0,
             checkpoints: bool = False, swaps: bool = True, again: int = 0) -> int:  # fmt: skip
        """`again`: it comes back with the pages that it has."""
        client, self.next = again or self.next, self.next + 1
        spec = self.specs.get(group)
        devices = spec.devices if spec else ("d0",)
        if again:
            self.pages[client].connected = True
        else:
            self.pages[client] = Page(pid or 10_000 + client, group, devices)
        self.tell(
            ev.Joined(
                self.now, client, group, pid or 10_000 + client, devices, swaps=swaps, checkpoints=checkpoints,
                ranks=ranks, reconnects=reconnects,
            )
        )  # fmt: skip
        self.retire()
        if client not in self.broker.state.clients:
            self.pages.pop(client, None)
        return client

    def retire(self) -> None:
        """As the node does: pages that a process had before it came back, or another program had in it, are fenced."""
        for client in [c for c in self.pages if c not in self.broker.state.clients]:
            page = self.pages.pop(client)
            same = [c for c, p in self.pages.items() if p.pid == page.pid and c in self.broker.state.clients]
            if same:
                self.pages[max(same)].owed += [
                    structs.replace(o, client=max(same)) for o in page.owed if isinstance(o, DRIVER)
                ]

    def leave(self, client: int) -> None:
        self.pages[client].connected = False
        self.pages[client].owed = [o for o in self.pages[client].owed if isinstance(o, DRIVER)]
        self.tell(ev.Left(self.now, client))
        self.retire()

    def die(self, client: int) -> None:
        # Its pages are worth nothing from now on: nobody is left to submit by them.
        self.pages[client].word = LeaseState.NONE
        self.tell(ev.Died(self.now, client))
        self.retire()

    def answer(self, client: int, how: str, size: int) -> None:
        page = self.pages[client]
        if not page.owed:
            return
        order = page.owed.pop(0)
        for event in answers(order, how, size, self.now):
            self.tell(event)
            if client not in self.pages:
                return

    def restart(self) -> None:
        """kill -9 and another broker: pages tell it what there is."""
        state = self.broker.state
        recovered = []
        for id_, page in self.pages.items():
            client = state.clients[id_]
            held = {d: (h.claimed, h.pinned, h.resident) for d, h in client.holdings.items()}
            away = client.tier is not Tier.ON
            recovered.append(Recovered(id_, page.group, page.pid, page.word in AWAKE, held, away))
            page.connected = False
            page.owed = [Where(id_)] if away else []
            page.generation, page.lease = 0, 0  # the node counts on from what the page says
        self.epoch += 1
        self.leases.clear()
        self.wake = None
        self.broker = self._begin(recovered, restarted=True)
        for id_ in [i for i in self.pages if i not in self.broker.state.clients]:
            del self.pages[id_]
        self.tell(ev.Tick(self.now))

    # what must hold

    def check(self) -> None:
        s = self.broker.state
        holders: dict[str, set[str]] = {}
        for page in self.pages.values():
            if page.word in AWAKE:
                for device in self.specs[page.group].devices if page.group in self.specs else page.devices:
                    holders.setdefault(device, set()).add(page.group)
        for device, names in holders.items():
            assert len(names) == 1, f"{device} is granted to {sorted(names)}"
        for group in s.groups.values():
            if group.lease is not None:
                for name in group.devices:
                    assert group in s.devices[name].holders, "all devices or none"
                assert any(c.leased for c in group.clients.values()), "a lease that nobody has"
        for name, each in s.devices.items():
            kept = sum(g.resident(name) for g in s.groups.values())
            assert kept == each.used
            assert each.free >= 0, f"more is kept than {name} has"
            assert len(each.holders) <= 1
            assert all(g.lease is not None for g in each.holders)
            assert each.coming is None or each.coming.name in s.groups, "room is kept for nobody"
        for group in s.groups.values():
            self._check_group(group.name)
        status(self.broker)

    def _check_group(self, name: str) -> None:
        group = self.broker.state.groups[name]
        for device in group.devices:
            assert group.claimed(device) <= group.share_of(device).limit, "beyond its limit"
        for client in group.clients.values():
            for holding in client.holdings.values():
                assert 0 <= holding.pinned <= holding.claimed
                assert 0 <= holding.resident <= holding.claimed
                if client.tier in (Tier.OFF, Tier.RETURNING):
                    assert self.pages[client.id].word not in AWAKE, "it may submit while it's away"
                    assert client.tier is Tier.RETURNING or not holding.resident, "memory of who is away"
                if group.place is Place.IN and group.lease is not None and not group.lease.revoked:
                    assert holding.moving is not Moving.OUT, "it leaves while it works"

    def over(self) -> None:
        """Everybody is gone, and time has passed: nothing is left."""
        for client in list(self.pages):
            self.die(client)
        for name in list(self.specs):
            self.tell(ev.GroupRemoved(self.now, name))
        self.advance(self.now + 10_000 * MS)
        s = self.broker.state
        assert not s.clients
        assert not s.groups
        for device in s.devices.values():
            assert (device.used, device.ghosts, device.holders, device.coming) == (0, {}, [], None)
        assert self.wake is None or self.wake <= self.now


OUTCOMES = {
    "well": ev.Outcome.DONE, "twice": ev.Outcome.DONE, "failed": ev.Outcome.REFUSED, "other": ev.Outcome.LOST,
}  # fmt: skip


def answers(order: od.ClientOrder, how: str, size: int, now: int) -> Sequence[ev.Event]:
    """What a process may say to an order: the truth, half of it first, that it can't, nonsense, or it twice."""
    client = order.client
    match order:
        case od.SwapOut() | od.SwapIn():
            kind = ev.SwappedOut if isinstance(order, od.SwapOut) else ev.SwappedIn
            right = order.keep if isinstance(order, od.SwapOut) else order.upto
            done = kind(now, client, order.device, right)
            said: dict[str, Sequence[ev.Event]] = {
                "well": [done],
                "half": [kind(now, client, order.device, (right + size) // 2, SwapStatus.PROGRESS), done],
                "busy": [kind(now, client, order.device, size, SwapStatus.BUSY)],
                "failed": [kind(now, client, order.device, size, SwapStatus.FAILED)],
                "wrong": [kind(now, client, order.device, size)],
                "paused": [ev.SwappedOut(now, client, order.device, size, SwapStatus.PAUSED)],
                "twice": [done, done],
                "other": [(ev.SwappedIn if kind is ev.SwappedOut else ev.SwappedOut)(now, client, order.device, size)],
            }  # fmt: skip
            return said.get(how, [])
        case od.Look():
            return [ev.PageSeen(now, client, 0 if how in ("well", "twice") else 1)]
        case od.Checkpoint():
            return [ev.Checkpointed(now, client, OUTCOMES.get(how, ev.Outcome.BUSY))]
        case od.Restore():
            return [ev.Restored(now, client, OUTCOMES.get(how, ev.Outcome.BUSY))]
        case Where():
            return [ev.Found(now, client, OUTCOMES.get(how if how != "failed" else "", ev.Outcome.BUSY))]
        case od.Trim():
            return [ev.Returned(now, client, order.device, size if how == "wrong" else 0)]
    return []
