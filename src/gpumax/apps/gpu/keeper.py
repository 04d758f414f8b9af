"""Whoever needs a broker for long watches over it: one that ends is started again, and what it reports is passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final, NamedTuple

from gpumax.apps.gpu.process import Child, answers, begun, last_words, start
from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.broker.control import SOCKET, Control, Seen, Told
from gpumax.devices.uuids import Sharable, sharable
from gpumax.errors import GpumaxError, Unreachable
from gpumax.ports.devices import Devices

IDLE_S: Final = 5.0
"""So long a broker stays without a group, and so long after whoever watched over it ended."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
_TOLD: Final = "told"
"""In the directory: of which epoch, and up to which number, reports have been passed on. Who watches next goes on from there."""


class News(NamedTuple):
    """What is worth an event. group: whom it concerns; empty: the broker, or a process that no group has, which is `pid` then."""

    group: str
    text: str
    pid: int = 0


class Keeper:
    """tell: gets the news; back: called when a broker is there again. Both from another thread.

    swap_bytes: host memory to swap to; None: half of the machine's. rules: of a broker that it starts; one that is there keeps its own.
    """

    def __init__(
        self,
        directory: Path,
        devices: Devices,
        tell: Callable[[News], None],
        back: Callable[[], None] = lambda: None,
        *,
        swap_bytes: int | None = None,
        rules: Rules = USUAL,
    ) -> None:
        self.directory = directory
        self._devices = devices
        self._tell = tell
        self._back = back
        self._swap_bytes = swap_bytes
        self._rules = rules
        self._control = Control(directory)
        self._children: list[Child] = []
        self._wanted = Event()
        self._over = Event()
        self._heard = _read(directory / _TOLD)
        self.look: Callable[[Seen], None] = lambda _: None
        """Is shown each status."""
        self._thread = Thread(target=self._run, name="gpumax-broker", daemon=True)

    def open(self) -> None:
        """Begin to watch. Where an earlier broker has left groups, there is one from now on."""
        self._thread.start()
        if self._needed():
            self._wanted.set()

    def begin(self, devices: Sequence[Sharable]) -> Control:
        """A broker that answers. GpumaxError, in words, where it can't begin."""
        if not answers(self._control):
            self._start(devices)
        self._wanted.set()
        return self._control

    def there(self) -> bool:
        """Whether a broker may answer: nobody is asked."""
        return (self.directory / SOCKET).exists()

    def metrics(self) -> str:
        """Of the broker, for Prometheus; empty where there is none."""
        try:
            return self._control.metrics()
        except GpumaxError:
            return ""

    def close(self) -> None:
        """Let go. The broker stays as long as it has groups."""
        self._over.set()
        self._wanted.set()

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while self._wanted.wait() and not self._over.is_set():
            if self._watched():
                pause = FIRST_PAUSE_S
            self._children = [each for each in self._children if not each.ended()]
            if self._over.is_set():
                return
            if not self._needed():
                self._wanted.clear()  # it ended for want of groups
                continue
            self._again()
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _watched(self) -> bool:
        """Listen until it ends. Whether it said anything."""
        heard = False
        try:
            for seen in self._control.watch():
                if self._over.is_set():
                    return True
                if not heard:
                    self._back()
                heard = True
                self._pass_on(seen)
                self.look(seen)
        except Unreachable:
            return heard
        return heard

    def _pass_on(self, seen: Seen) -> None:
        epoch, number = self._heard
        fresh: list[Told] = [each for each in seen.reports if seen.epoch != epoch or each.number > number]
        for each in fresh:
            self._tell(News(each.group, each.text, each.pid))
        self._heard = (seen.epoch, max((each.number for each in seen.reports), default=0))
        if fresh:
            with suppress(OSError):  # then some are told twice
                (self.directory / _TOLD).write_text("{} {}".format(*self._heard))

    def _again(self) -> None:
        devices = sharable(self._devices)
        if not devices:
            return
        if not answers(self._control):
            said = last_words(self.directory)
            self._tell(
                News(
                    "",
                    f"the broker of the GPUs ended ({said}); it's started again, and programs go on meanwhile",
                )
            )
        try:
            self._start(devices)
        except GpumaxError as error:
            self._tell(News("", str(error)))

    def _start(self, devices: Sequence[Sharable]) -> None:
        # Who looks for processes that got around the layer asks the same driver as they.
        driver = (
            self._devices.visible(tuple(each.number for each in devices)) if self._devices.virtual else None
        )
        child = start(
            self.directory, devices, idle_s=IDLE_S, swap_bytes=self._swap_bytes, driver=driver, rules=self._rules
        )  # fmt: skip
        self._children.append(child)
        begun(self._control, child, self.directory)

    def _needed(self) -> bool:
        return any((self.directory / "groups").glob("*.json"))


def _read(path: Path) -> tuple[int, int]:
    """Epoch and number; zeros where nothing was told yet, or nobody knows."""
    try:
        epoch, number = path.read_text().split()
        return int(epoch), int(number)
    except (OSError, ValueError):
        return 0, 0
