"""The event loop of the broker: what clients say is heard without a detour, all else is asyncio's as ever.

Of a loop's round trip through asyncio (a handle for each socket that is ready, a queue of them, a context for each) a message would
pay as much as for the decision that it asks for. So the selector itself, which knows first who has something to say, lets them say it.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple

from gpumax.broker.node.timer import Timer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

AT_ONCE: Final = 64
"""So many sockets are heard before asyncio has its turn; who is left is first the next time."""


class Ears(selectors.BaseSelector):
    """asyncio's selector, with an epoll around it: in that are the sockets of clients, and the selector as one more."""

    def __init__(self) -> None:
        self.failed: Callable[[Exception], None] = lambda _: None
        """Told of what goes wrong while somebody is heard, which is nobody else's concern."""
        self.called = False
        """Whether there is something for asyncio to do since clients are heard."""
        self._others = selectors.EpollSelector()
        self._epoll = select.epoll()
        self._epoll.register(self._others.fileno(), select.EPOLLIN)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []

    def hear(self, fd: int, callback: Callable[[], None]) -> None:
        """Call it whenever there is something to read, once for each round: nobody who says much is heard before others."""
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def ignore(self, fd: int) -> None:
        """From now on, also where it was found to be ready already."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def timer(self) -> Timer:
        """That calls what is to be called later without asyncio, and to the microsecond. It ends with the ears."""
        timer = Timer()
        self._timers.append(timer)
        self.hear(timer.fd, timer.rings)
        return timer

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Hear clients for as long as there is nothing else to do, until then."""
        found: list[tuple[selectors.SelectorKey, int]] = []
        until = None if timeout is None else time.monotonic() + timeout
        self.called = False
        while True:
            ready = self._epoll.poll(timeout, AT_ONCE)
            for fd, _ in ready:
                callback = self._callbacks.get(fd)
                if callback is not None:
                    try:
                        callback()
                    except Exception as error:
                        self.failed(error)
                elif fd == self._others.fileno():
                    found = self._others.select(0)
            if found or self.called or not ready:
                return found
            if until is not None:
                timeout = until - time.monotonic()
                if timeout <= 0:
                    return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._others.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._others.get_map()

    def close(self) -> None:
        for timer in self._timers:
            timer.close()
        self._epoll.close()
        self._others.close()


class Loop(asyncio.SelectorEventLoop):
    """asyncio's event loop, with ears."""

    def __init__(self) -> None:
        self.ears = Ears()
        super().__init__(self.ears)
        self.ears.failed = lambda error: self.call_exception_handler(
            {"message": "a client was heard in vain", "exception": error}
        )

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.ears.called = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self.ears.called = True
        return super().call_at(when, callback, *args, context=context)


def ears() -> Ears:
    """Of the loop that runs, which has to be one of `run`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return loop.ears


class Later:
    """As `call_later` of the loop that runs, for one thing at a time: what was to be called before isn't any more."""

    def __init__(self) -> None:
        self._timer: Timer | None = None

    def __call__(self, delay: float, look: Callable[[], None]) -> Timer:
        if self._timer is None:
            self._timer = ears().timer()
        self._timer.later(delay, look)
        return self._timer


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)
