"""Ears for all supervisors at once: one thread that sleeps until one of them says something, or is gone."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable


class Watch:
    """Calls, in a thread of its own, what belongs to a file descriptor that became readable or was hung up."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._heard: dict[int, Callable[[], None]] = {}
        self._quit, self._tell = os.pipe()
        self._poll.register(self._quit, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def add(self, file: int, heard: Callable[[], None]) -> None:
        """Listen to one more, also from another thread."""
        self._heard[file] = heard
        self._poll.register(file, select.EPOLLIN)

    def remove(self, file: int) -> None:
        """Listen to it no longer; before it is closed."""
        if self._heard.pop(file, None) is not None:
            self._poll.unregister(file)

    def close(self) -> None:
        """End the thread and wait for it."""
        os.write(self._tell, b"!")
        self._thread.join()
        self._poll.close()
        os.close(self._quit)
        os.close(self._tell)

    def _run(self) -> None:
        while True:
            for file, _ in self._poll.poll():
                if file == self._quit:
                    return
                heard = self._heard.get(file)
                if heard is not None:
                    heard()
