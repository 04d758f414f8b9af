"""Where the adapters of an agent meet: one process on each node that gives out parts of GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from gpumax.apps.agent.driver import Driver
from gpumax.apps.agent.giving import Place
from gpumax.apps.agent.holder import Holder
from gpumax.apps.agent.hostmemory import host_memory, node_memory, own_limit
from gpumax.apps.agent.layer import lay
from gpumax.apps.agent.metrics import Life, page
from gpumax.apps.agent.parts import Parts
from gpumax.apps.agent.plugin import Plugin, offer
from gpumax.apps.agent.pods import Pods
from gpumax.apps.agent.publish import annotate, publish, tell_residents
from gpumax.apps.agent.registration import home, registered
from gpumax.apps.agent.reporting import Report
from gpumax.apps.agent.residents import Latest, Residents
from gpumax.apps.agent.telling import Teller
from gpumax.apps.gpu.keeper import Keeper, News
from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.apps.scheduler.listen import Site, listening
from gpumax.apps.scheduler.logs import Format, log_to_stderr
from gpumax.devices import open_devices
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.claims import CLAIMS
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.choose import access
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.kinds import PODS, SLICES
from gpumax.errors import GpumaxError
from gpumax.ports.devices import Devices

MOST_NOTES: Final = 256
"""Of parts that nobody was told of yet."""
SWEEP_S: Final = 60.0
"""How often it is looked whether all is as it should be, where nobody asks for it."""
_log: Final = logging.getLogger("gpumax.agent")


class Wishes(NamedTuple):
    """How to be an agent.

    node: our node's name in the cluster. devices: virtual ones, as `open_devices` reads them; None: the machine's own. kubelet, cdi: its folder, and
    the one in which the runtime looks for CDI specs. layer: the folder of the layer under CUDA. plugin: as a device plugin, though the
    cluster has claims. context: the cluster; see `access`. swap_bytes: of the node's memory, to swap to, 0: nobody swaps; see `host_memory`.
    evict_unfenced: pods with a part of which a process got around it are deleted. listen: HOST:PORT at which metrics are; empty: nowhere.
    rules: of the node's broker.
    """

    node: str
    devices: str | None = None
    kubelet: Path = Path("/var/lib/kubelet")
    cdi: Path = Path("/var/run/cdi")
    layer: Path = Path("/usr/local/lib/gpumax")
    plugin: bool = False
    context: str = ""
    log_format: Format = "text"
    swap_bytes: int | None = None
    evict_unfenced: bool = False
    listen: str = ""
    rules: Rules = USUAL


class Heard(NamedTuple):
    """What threads tell each other: of the broker, of parts whose memory can't be moved, and whether we live."""

    broker: Latest
    notes: deque[tuple[str, str]]
    life: Life


def serve(wishes: Wishes) -> None:
    """Give out parts until SIGTERM or SIGINT; containers run on with what they have."""
    log_to_stderr(wishes.log_format)
    asyncio.run(_serve(wishes))


async def _serve(wishes: Wishes) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    devices = await _found(wishes, over)
    if devices is None:
        return
    parts = Parts(wishes.cdi, home(wishes.kubelet) / "parts")
    heard = Heard(Latest(), deque(maxlen=MOST_NOTES), Life())
    holder, keeper = _holder(wishes, devices, heard)
    place = Place(wishes.node, devices, wishes.layer, (Path("/etc/cdi"), wishes.cdi), holder)
    with contextlib.closing(keeper), contextlib.ExitStack() as stack:
        if wishes.listen:
            site = Site(
                heard.life.live,
                heard.life.ready,
                lambda: page(keeper.metrics(), parts),
                access(wishes.context),
            )
            stack.enter_context(listening(wishes.listen, site))
        await _give_out(wishes, place, parts, heard, over)


def _holder(wishes: Wishes, devices: Devices, heard: Heard) -> tuple[Holder | None, Keeper]:
    """Who holds containers to their parts, where that can be done; what can't be is told."""

    def tell(news: News) -> None:
        _log.warning("%s%s", f"part {news.group}: " if news.group else "", news.text)

    memory = host_memory(wishes.swap_bytes, own_limit(), node_memory())
    keeper = Keeper(home(wishes.kubelet) / "gpu", devices, tell, swap_bytes=memory.bytes, rules=wishes.rules)
    if not devices.uuids():
        return None, keeper  # made-up devices: nothing runs on them
    if memory.less:
        _log.warning("node %s: %s", wishes.node, memory.less)
    if why := lay(wishes.layer):
        _log.warning("node %s: %s; what isn't there already holds no container to its part", wishes.node, why)
    keeper.look = heard.broker.look
    keeper.open()

    def unmoved(part: str, text: str) -> None:
        tell(News(part, text))
        heard.notes.append((part, text))

    return Holder(devices, keeper, unmoved), keeper


async def _give_out(wishes: Wishes, place: Place, parts: Parts, heard: Heard, over: asyncio.Event) -> None:
    devices = place.devices
    async with Api(access(wishes.context), agent="gpumax-agent") as api:
        claims = not wishes.plugin and await Discovery(api).serves(SLICES)
        way = _by_claims if claims else _by_plugin
        words = "claims" if claims else f"the resource {keys.PART}"
        _log.info("node %s: %d GPUs are given out by %s", wishes.node, len(devices.read()), words)
        pods = Pods(parts)
        report = Report(
            devices,
            heard.broker,
            pods,
            Teller(api, wishes.node, pods, heard.notes, evict=wishes.evict_unfenced),
            Residents(lambda text: tell_residents(api, wishes.node, text, claims=claims)),
            heard.life,
        )
        work = asyncio.create_task(way(api, wishes, place, parts, report))
        await asyncio.wait((work, ends := asyncio.create_task(over.wait())), return_when=FIRST_COMPLETED)
        for task in (work, ends):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _found(wishes: Wishes, over: asyncio.Event) -> Devices | None:
    """The devices, as soon as there are any: the driver may be installed after us. None where we are told to end before."""
    told = ""
    while not over.is_set():
        devices = open_devices(wishes.devices)
        notes = "; ".join(devices.notes())
        if notes != told:
            _log.warning("node %s: %s", wishes.node, notes)
        told = notes
        if devices.read():
            return devices
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), SWEEP_S)
    return None


async def _by_claims(api: Api, wishes: Wishes, place: Place, parts: Parts, report: Report) -> None:
    driver = Driver(place, parts, lambda space, name: api.get(CLAIMS, name, space))
    woken = asyncio.Event()
    async with registered(wishes.kubelet, driver, woken):
        # A kubelet that takes us anew may have removed what we published.
        look = _look(place, lambda: publish(api, place.node, place.devices), driver.sweep, woken, report)
        await asyncio.gather(look, report.run())


async def _by_plugin(api: Api, wishes: Wishes, place: Place, parts: Parts, report: Report) -> None:
    plugin = Plugin(place, parts, lambda space, name: api.get(PODS, name, space), wishes.kubelet)
    look = _look(
        place, lambda: annotate(api, place.node, place.devices), plugin.sweep, asyncio.Event(), report
    )
    await asyncio.gather(offer(wishes.kubelet, plugin), look, report.run())


async def _look(
    place: Place,
    publish: Callable[[], Awaitable[bool]],
    sweep: Callable[[], Awaitable[None]],
    woken: asyncio.Event,
    report: Report,
) -> None:
    """See to it that all is as it should be, now and then and whenever woken, until cancelled."""
    while True:
        woken.clear()
        try:
            if await publish():
                _log.info("node %s: its GPUs are published", place.node)
                report.residents.forget()
            report.life.published = True
            await sweep()
        except GpumaxError as error:
            _log.warning("node %s: %s", place.node, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), SWEEP_S)
