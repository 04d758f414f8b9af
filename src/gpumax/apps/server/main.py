"""Where the adapters meet: one process that is server, loop and engine of a machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Final

from gpumax.apps.server import home
from gpumax.apps.server.app import create_app
from gpumax.apps.server.feed import Feed, TellingStore
from gpumax.apps.server.gate import Gate
from gpumax.apps.server.site import About, Site
from gpumax.apps.server.submit import make_first_queue
from gpumax.apps.server.web import Web
from gpumax.devices import open_devices
from gpumax.engines.local.engine import LocalEngine
from gpumax.errors import Broken, Refused
from gpumax.loop.cycle import Loop
from gpumax.loop.journal import FileJournal
from gpumax.ports.clock import SystemClock
from gpumax.stores.sql import SqlStore

END_S: Final = 10.0
"""How long the cycle that is running may take when the server ends."""

_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def serve(data: Path, *, devices: str | None, listen: str | None, name: str | None) -> None:
    """Run a server on a data directory until SIGTERM or SIGINT; tasks run on.

    devices: virtual ones, as 8xH100:80Gi; None: those of the machine. listen: HOST:PORT for TCP, behind a token. name: of
    this node; None: the host's. Conflict where another server has the directory; GpumaxError for all else that is in the way.
    """
    data = data.absolute()
    _log_to_stderr()
    with ExitStack() as stack:
        node = _node(name)
        found = open_devices(devices)
        home.prepare(data)
        stack.enter_context(home.locked(data))
        path = home.socket_path(data)
        listeners = [stack.enter_context(home.unix_socket(path))]
        token, url = "", None
        if listen is not None:
            listeners.append(stack.enter_context(home.tcp_socket(listen)))
            token, url = home.token_of(data), home.url_of(listeners[-1])
        feed, clock = Feed(), SystemClock()
        store = TellingStore(SqlStore(data / "gpumax.db"), feed)
        stack.callback(store.close)
        make_first_queue(store, clock)
        journal = FileJournal(data / "journal")
        stack.callback(journal.close)
        # The engine may see something before there is a loop to wake.
        loops: list[Loop] = []

        def wake() -> None:
            for loop in loops:
                loop.wake()

        engine = LocalEngine(data, node, found, wake)
        stack.callback(engine.close)
        loop = Loop(store, engine, journal, clock, data)
        loops.append(loop)
        notes = (*engine.notes(), *home.notes_on(url))
        about = About(data, os.getpid(), str(path), url, clock.now_ms(), engine.name, notes, found.virtual)
        app = Gate(create_app(Site(store, loop, clock, feed, about)), socket=str(path), token=token)
        web = Web(app, feed, lambda: stack.enter_context(home.announced(data, path, url)))
        _run(stack, loop, web, listeners)


def _run(stack: ExitStack, loop: Loop, web: Web, listeners: list[socket.socket]) -> None:
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


def _node(name: str | None) -> str:
    if name is None:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.")[:63] or "localhost"
    if not _NODE.fullmatch(name):
        raise Refused(
            f"--name {name}: wanted letters, digits, `.`, `_` and `-`, a letter or digit first, 63 at most"
        )
    return name


def _log_to_stderr() -> None:
    """Our own lines as they are, warnings and tracebacks of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("gpumax: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gpumax").setLevel(logging.INFO)
