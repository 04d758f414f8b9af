"""Where the adapters meet: one process that is server, loop and engine of a machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Final

from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.apps.server import home
from gpumax.apps.server.app import create_app
from gpumax.apps.server.doors import doors, notes_on
from gpumax.apps.server.evicting import Evictor
from gpumax.apps.server.feed import Feed, TellingStore
from gpumax.apps.server.gate import Gate
from gpumax.apps.server.gpus import gpus
from gpumax.apps.server.node_name import node_name
from gpumax.apps.server.site import About, Site
from gpumax.apps.server.starting import check_options
from gpumax.apps.server.submit import make_first_queue
from gpumax.apps.server.web import Web
from gpumax.devices import open_devices, with_driver
from gpumax.engines.local.engine import LocalEngine
from gpumax.errors import Broken
from gpumax.loop.cycle import Loop
from gpumax.loop.journal import FileJournal
from gpumax.ports.clock import Clock, SystemClock
from gpumax.ports.devices import Devices
from gpumax.ports.engine import Engine
from gpumax.ports.sharing import Sharing
from gpumax.ports.store import Store
from gpumax.stores.sql import SqlStore

END_S: Final = 10.0
"""How long the cycle that is running may take when the server ends."""


def serve(
    data: Path,
    *,
    devices: str | None,
    listen: str | None,
    name: str | None,
    evict_unfenced: bool = False,
    rules: Rules = USUAL,
) -> None:
    """Run a server on a data directory until SIGTERM or SIGINT; tasks run on.

    devices: virtual ones, as 8xH100:80Gi; None: those of the machine. listen: HOST:PORT for TCP, behind a token. name: of
    this node; None: as before, at first the host's. evict_unfenced: workloads that get around their parts of GPUs lose them.
    rules: of the broker of its GPUs. Conflict where another server has the directory; GpumaxError for all else that is in the way.
    """
    check_options(devices=devices, listen=listen, name=name)
    data = data.absolute()
    _log_to_stderr()
    with ExitStack() as stack:
        found = open_devices(devices)
        home.prepare(data)
        stack.enter_context(home.locked(data))
        found = with_driver(found, data / "emulated")
        ways = stack.enter_context(doors(data, listen))
        feed, clock = Feed(), SystemClock()
        store = TellingStore(SqlStore(data / "gpumax.db"), feed)
        stack.callback(store.close)
        node = node_name(data, name, store.live())
        make_first_queue(store, clock)
        shared = gpus(stack, data, found, store, clock, rules)
        engine, loop = _engine_and_loop(stack, data, node, found, store, clock, shared.sharing)
        if evict_unfenced:
            shared.keeper.look = Evictor(store, clock, loop.wake).look
        notes = (*engine.notes(), *notes_on(ways.url))
        about = About(
            data, os.getpid(), str(ways.path), ways.url, clock.now_ms(), engine.name, notes, found.virtual
        )
        app = Gate(
            create_app(
                Site(
                    store,
                    loop,
                    clock,
                    feed,
                    about,
                    shared.keeper.metrics,
                    shared.sharing.waits,
                    shared.shared,
                )
            ),
            socket=about.socket,
            token=ways.token,
        )
        web = Web(app, feed, lambda: stack.enter_context(home.announced(data, ways.path, ways.url)))
        _run(stack, loop, web, ways.listeners)


def _engine_and_loop(
    stack: ExitStack, data: Path, node: str, devices: Devices, store: Store, clock: Clock, sharing: Sharing
) -> tuple[Engine, Loop]:
    """Each needs the other: the engine wakes the loop, which it may do before there is one."""
    loops: list[Loop] = []

    def wake() -> None:
        for loop in loops:
            loop.wake()

    journal = FileJournal(data / "journal")
    stack.callback(journal.close)
    engine = LocalEngine(data, node, devices, wake, sharing=sharing)
    stack.callback(engine.close)
    loops.append(Loop(store, engine, journal, clock, data))
    return engine, loops[0]


def _run(stack: ExitStack, loop: Loop, web: Web, listeners: Sequence[socket.socket]) -> None:
    """Loop and server side by side, until one of them ends."""
    broken: list[BaseException] = []

    def cycles() -> None:
        try:
            loop.run()
        except BaseException as error:
            broken.append(error)
            raise
        finally:
            web.end()

    thread = Thread(target=cycles, name="gpumax-loop", daemon=True)
    thread.start()
    stack.callback(thread.join, END_S)
    stack.callback(loop.stop)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, web.handle_exit)
    web.serve_on(listeners)
    if broken:
        raise Broken(f"the loop ended ({type(broken[0]).__name__}); the lines above say more")


def _log_to_stderr() -> None:
    """Our own lines as they are, warnings and tracebacks of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("gpumax: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gpumax").setLevel(logging.INFO)
