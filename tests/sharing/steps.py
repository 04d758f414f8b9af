"""Each step that a client and its broker can make, as the code has them, and how a scene is played that comes to some of them: see scenes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gpumax.broker import messages as msg
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from sharing.rig import LOOP, Group, Program, Rig, eventually
from sharing.serve import ANSWERED, ASKED


def kinds(base: type) -> Iterator[str]:
    """Those that the product has: other tests have some of their own."""
    found: list[type] = base.__subclasses__()
    return (each.__name__ for each in found if each.__module__ == base.__module__)


HEARD: Final = ("Joined", *kinds(ev.ClientEvent))
"""What a client says, and what is seen of it."""
SAID: Final = tuple(kinds(od.ClientOrder))
STEPS: Final = (*HEARD, *SAID, ASKED, ANSWERED)
BY_MESSAGE: Final[Mapping[type[msg.Message], tuple[str, ...]]] = {
    msg.Hello: ("Joined",), msg.Welcome: ("Welcome",), msg.Acquire: ("Wanted",), msg.Grant: ("Grant",), msg.Revoke: ("Revoke",),
    msg.Release: ("Released",), msg.SwapOut: ("SwapOut",), msg.SwappedOut: ("SwappedOut",), msg.SwapIn: ("SwapIn",),
    msg.SwappedIn: ("SwappedIn",), msg.MemRequest: ("Asked",), msg.MemGrant: ("MemGrant",), msg.MemDeny: ("MemDeny",),
    msg.MemReturn: ("Returned",), msg.MemTrim: ("Trim",), msg.Hint: ("Hinted",), msg.Heartbeat: ("Beat",), msg.Inventory: ("Inventory",),
    msg.Config: ("Config",), msg.Pool: ("Pool",), msg.Error: ("Refuse",), msg.Bye: ("Leaving",), msg.Away: (ASKED, ANSWERED),
}  # fmt: skip

KILLED, STOPPED, GOES_ON = "it is killed", "it is stopped", "it goes on"
OTHER_KILLED, OTHER_STOPPED, BROKER_KILLED = (
    "the other is killed",
    "the other is stopped",
    "the broker is killed",
)
FAULTS: Final = (KILLED, STOPPED, OTHER_KILLED, OTHER_STOPPED, BROKER_KILLED)
"""Whoever holds the lease at a step, if anybody does, is the one or the other."""


@dataclass
class Cast:
    """Programs of a scene, each of which says a larger number whenever it has got on."""

    here: Rig
    scene: Scene
    programs: list[tuple[str, tuple[str, ...], Program]] = field(default_factory=list)
    """Of each: the group, what it does, and the process."""
    turns: dict[int, int] = field(default_factory=dict)
    since: int = 0
    """When it began that the step is waited for."""
    broken: dict[str, Any] | None = None
    """What was done at it."""
    awaited: str = ""
    """The step that is waited for; empty: it has come."""
    fault: dict[str, Any] = field(default_factory=dict)
    mark: int = 0
    """Of the scene's own, while it waits."""
    rests: list[tuple[int, int]] = field(default_factory=list)
    """Since when one rests: which process with which turn, and so of the other one."""

    def of(self, group: str) -> Program:
        return next(program for name, _, program in self.programs if name == group)

    def start(self, group: str, text: tuple[str, ...]) -> Program:
        return self.here.start(group, *text, head=self.scene.head)

    def begin(self) -> None:
        for group, text in self.scene.programs:
            self.programs.append((group, text, self.start(group, text)))

    def listen(self) -> None:
        """What they have said meanwhile. Who was killed begins anew; whoever ended in any other way has failed."""
        for which, (group, text, program) in enumerate(self.programs):
            while not program.lines.empty():
                line = program.lines.get()
                if line:
                    self.turns[program.pid] = int(line)
                    continue
                assert program.process.wait() == -signal.SIGKILL, program.errors()
                self.programs[which] = (group, text, self.start(group, text))

    def eventually(self, check: Callable[[], Any]) -> Any:
        """As soon as it's true, while the scene is played on."""

        def looked() -> Any:
            self.scene.prod(self)
            self.listen()
            return check()

        try:
            return eventually(looked)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self}") from None

    def __str__(self) -> str:
        """Where it stands, for whoever reads that it got no further."""
        processes = [(group, p.pid, state_of(p.pid), self.turns.get(p.pid)) for group, _, p in self.programs]
        last = [
            f"{each['at'] // 1_000_000} {each['kind']} {each['group']}" for each in self.here.record()[-25:]
        ]
        return f"waits for {self.fault}, broken: {self.broken}, {processes}, record: {last}"

    def go_on(self) -> None:
        """All of them."""
        self.listen()
        since = [(p.pid, self.turns.get(p.pid, 0)) for _, _, p in self.programs]

        def on() -> bool:
            now = [(p.pid, self.turns.get(p.pid, 0)) for _, _, p in self.programs]
            return all(
                turn >= self.scene.turns + (before if pid == former else 0)
                for (pid, turn), (former, before) in zip(now, since, strict=True)
            )

        self.eventually(on)

    def arm(self, step: str, what: str) -> None:
        """What is to happen at this step, from now on."""
        record = self.here.record()
        self.since = record[-1]["at"] if record else 0
        self.awaited, self.broken, self.mark = step, None, 0
        patience = 0 if step in self.scene.once else 300_000_000
        self.fault = {"kind": step, "group": "a", "nth": 1, "what": what, "patience_ns": patience}
        self.here.wish(fault=self.fault)

    def see(self, step: str) -> None:
        """It comes to this step."""
        if not self.here.seen(step, "a"):
            self.awaited, self.fault, self.mark = step, {}, 0
            self.since = self.here.record()[-1]["at"]
            self.eventually(lambda: self.here.seen(step, "a"))
            self.awaited = ""

    def come(self) -> None:
        """It has happened."""
        assert self.broken is None
        what = self.fault["what"]
        self.eventually(lambda: self.here.seen(what, "a", self.since + 1))
        self.broken = self.here.seen(what, "a", self.since + 1)[0]
        self.awaited = ""

    def mend(self) -> None:
        """Whoever was killed is there again; whoever was stopped goes on once it's seen that the others do without it."""
        assert self.broken is not None
        what, victim = self.broken["kind"], self.broken["victim"]
        if what == BROKER_KILLED:
            self.here.broken()
            self.here.serve()
        elif what in (KILLED, OTHER_KILLED):
            self._bury(victim)
        self.scene.mend(self)
        if what in (STOPPED, OTHER_STOPPED):
            self._others_go_on(self.broken["at"], "b" if what == STOPPED else "a")
            _signal(victim, signal.SIGCONT)

    def _bury(self, victim: int) -> None:
        for _, _, program in self.programs:
            if program.pid == victim:
                program.process.wait()  # its last thread may end later than its first
        eventually(lambda: state_of(victim) == "Z")

    def _others_go_on(self, since: int, group: str) -> None:
        def on() -> bool:
            return (
                bool(self.here.seen("Grant", group, since)) or len(self.here.seen("Beat", group, since)) > 10
            )

        self.eventually(on)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def state_of(pid: int) -> str:
    """As a letter; Z: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def nothing(_: Cast) -> None:
    """They come to it by themselves."""


@dataclass(frozen=True)
class Scene:
    steps: tuple[str, ...]
    """Of processes of group a."""
    programs: tuple[tuple[str, tuple[str, ...]], ...]
    groups: Mapping[str, Group]
    options: Mapping[str, Any] = field(default_factory=dict)
    prod: Callable[[Cast], None] = nothing
    """What is done to them again and again."""
    mend: Callable[[Cast], None] = nothing
    turns: int = 4
    """When so much more is done, all goes on."""
    head: str = LOOP
    """What its programs begin with."""
    once: tuple[str, ...] = ()
    """Steps that don't come again while they are waited for."""
    more: tuple[str, ...] = ()
    """Faults that only make sense here."""
    spared: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By step and fault: why it makes no sense."""

    def at(self, what: str) -> list[str]:
        """At which of its steps it happens."""
        return [
            step for step in self.steps if what in (*FAULTS, *self.more) and (step, what) not in self.spared
        ]
