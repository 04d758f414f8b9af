"""An engine makes decisions true: it starts and stops tasks and says what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from gpumax.model.node import Node
from gpumax.model.workload import DeviceLimit, DeviceShare


class Part(msgspec.Struct, frozen=True):
    """Of each of its devices less than the whole, or memory that may be swapped.

    memory_mib: what it asked for of each; 0: as much as of the device. limit: up to what its memory may grow.
    strict: exactly its share of their time, also where they would be idle otherwise.
    """

    memory_mib: int = 0
    limit: DeviceLimit | None = None
    swap: bool = False
    strict: bool = False


class Launch(msgspec.Struct, frozen=True):
    """All that starting a task takes. Every path is absolute; secrets are names, resolved by the engine at the start.

    gpu: set where it gets parts of devices. argv: exec form, after setup (a shell line, empty for none). visible devices are the engine's to announce.
    """

    attempt: str
    task: str
    workload: str
    node: str
    devices: tuple[DeviceShare, ...]
    argv: tuple[str, ...]
    workdir: str
    log: str
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    setup: str = ""
    checkpoint_dir: str = ""
    cpu_milli: int = 0
    memory_mib: int = 0
    gpu: Part | None = None


class Start(msgspec.Struct, frozen=True, tag=True):
    """Start this attempt. An attempt that was started or stopped before is never started again."""

    launch: Launch


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the attempt: SIGTERM, after grace SIGKILL, to all its processes. Repeating it does no harm."""

    attempt: str
    grace_ms: int


class Forget(msgspec.Struct, frozen=True, tag=True):
    """The end of this attempt is on record; the engine may drop what it keeps of it."""

    attempt: str


Order = Start | Stop | Forget

AttemptState = Literal["starting", "running", "stopping", "exited", "lost"]
"""lost: its supervisor died; all its processes are gone by the time it is reported."""


class AttemptSeen(msgspec.Struct, frozen=True):
    """What the engine knows of an attempt. exit_code: as shells give it (128 + signal); None unless exited.

    told: it was told to go before its main process ended, so that even exit code 0 doesn't say that its work is done.
    checkpointed_ms: when its checkpoint directory last changed, None if it has none or never did.
    message: why it ended so, or could not start, where the exit code doesn't say it all; note: what went wrong beside that.
    """

    attempt: str
    state: AttemptState
    exit_code: int | None = None
    told: bool = False
    started_ms: int | None = None
    ended_ms: int | None = None
    checkpointed_ms: int | None = None
    message: str = ""
    note: str = ""


class Observation(msgspec.Struct, frozen=True):
    """The engine's world at one moment: nodes sorted by name, attempts sorted by id, until they are forgotten."""

    nodes: tuple[Node, ...]
    attempts: tuple[AttemptSeen, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """An order that could not be carried out, and why. The next cycle decides anew."""

    attempt: str
    why: str


class Engine(Protocol):
    """One engine of a cluster. Calls come from one thread. An engine calls its `wake` whenever observe() would change."""

    name: str

    def observe(self) -> Observation:
        """The world now."""
        ...

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        """Carry the orders out, in their order. A start that isn't refused will be seen in the next observe()."""
        ...

    def objection(self, launch: Launch) -> str:
        """Why this start would be refused or come to nothing, wherever it were; empty where nothing is known against it.

        Cheap, and asked from any thread, before anybody makes way: of the launch, node, devices and attempt count for nothing.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What a user should know of this engine here: rights it lacks, things it ignores."""
        ...

    def close(self) -> None:
        """Let go. Tasks run on."""
        ...
