"""The wire to an API server: it can be cut, and everything on it can be held up."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_PIECE: Final = 1 << 16
_LOOK_S: Final = 0.05
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: closing resets


class _Pair:
    """Both ends of one connection. Each is read by one thread and written to by another; who is last closes them.

    Nobody closes a socket that another thread may be about to read from: its number could belong to a new connection by then.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.is_cut = False
        self._left = 2
        self._guard = threading.Lock()

    def cut(self) -> None:
        """Have both threads end; the last of them resets."""
        self.is_cut = True
        for end in self.ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)  # wakes whoever reads from it

    def leave(self) -> bool:
        """A thread has ended; whether it was the last."""
        with self._guard:
            self._left -= 1
            if self._left:
                return False
        for end in self.ends:
            end.close()
        return True


class Wire:
    """Passes bytes on between clients and one server. `port` is where clients find it."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._open: set[_Pair] = set()
        self._guard = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def used(self) -> bool:
        """Whether anything is connected."""
        return bool(self._open)

    def cut(self) -> int:
        """Reset all that is connected, whatever is under way; how many connections that were. New ones may come at once."""
        with self._guard:
            pairs = tuple(self._open)
        for pair in pairs:
            pair.cut()
        return len(pairs)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing passes meanwhile, in neither direction, and nobody is told. Then all of it does."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        """The end of it."""
        self._flows.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._accepting.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            pair = _Pair(client, server)
            with self._guard:
                self._open.add(pair)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(pair, *ends), daemon=True).start()

    def _pass(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (piece := source.recv(_PIECE)) and not pair.is_cut:
                self._flows.wait()
                target.sendall(piece)
        if not pair.is_cut:  # the other end hears of an end as of an end
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)
        if pair.leave():
            with self._guard:
                self._open.discard(pair)
