"""Tasks of a machine are held to their parts of its devices: each workload is a group of the machine's broker."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock

from gpumax.apps.gpu.shares import groups
from gpumax.apps.gpu.uses import Uses
from gpumax.broker.control import Control, Group
from gpumax.devices.uuids import Sharable, sharable
from gpumax.errors import GpumaxError, NotFound, Refused, Unreachable
from gpumax.native import library, preload
from gpumax.ports.devices import Devices
from gpumax.ports.engine import Launch, Refusal
from gpumax.ports.sharing import Granted
from gpumax.units import MIB, format_memory


class BrokerSharing:
    """Implements ports.sharing.Sharing. begin: gives a broker that answers, started where there is none. swap_bytes: host memory that it has to swap to."""

    def __init__(
        self,
        directory: Path,
        devices: Devices,
        begin: Callable[[Sequence[Sharable]], Control],
        swap_bytes: int,
    ) -> None:
        self._control = Control(directory)
        self._devices = devices
        self._begin = begin
        self._swap_bytes = swap_bytes
        self._uses = Uses(directory / "uses")
        self._lock = Lock()

    def objection(self, launch: Launch) -> str:
        """Parts are held by a library that is loaded into the task: it has to be there, and the program has to take it.

        And a limit that no device reaches, or with swapping no host memory, means another machine.
        """
        if not self._devices.uuids():
            return ""
        if why := _beyond_all(launch, sharable(self._devices)) or _beyond_host(launch, self._swap_bytes):
            return why
        try:
            library("cuda")
            library("ml")
            program = shutil.which(launch.argv[0], path=launch.env.get("PATH"))
            if program is not None:
                preload.check(Path(program), launch.argv[1:])
        except (NotFound, Refused) as error:
            return f"a part of a GPU can't be held: {error}" if isinstance(error, NotFound) else str(error)
        except OSError:
            return ""  # that it can't be read is told when it's started
        return ""

    def grant(self, launches: Sequence[Launch]) -> Mapping[str, Granted | Refusal]:
        """Each with the words of the broker where it says no."""
        there = {each.number: each for each in sharable(self._devices)}
        known = [each for each in launches if all(share.index in there for share in each.devices)]
        found: dict[str, Granted | Refusal] = {}
        with self._lock:
            for group, together in groups(known, there):
                found |= self._grant(group, together, tuple(there.values()))
            if any(isinstance(each, Refusal) for each in found.values()):
                self._sweep()
        return found

    def _grant(
        self, group: Group, together: Sequence[Launch], devices: Sequence[Sharable]
    ) -> dict[str, Granted | Refusal]:
        answer = self._ask(group, together, devices)
        if isinstance(answer, str):
            refused = {each.attempt: answer for each in together}
        else:
            refused = {each.attempt: why for each in together if (why := self.objection(each))}
        for attempt in refused:
            self._uses.drop(attempt)
        found: dict[str, Granted | Refusal] = {each: Refusal(each, why) for each, why in refused.items()}
        if isinstance(answer, Granted):
            begin = [each.attempt for each in together if each.attempt not in refused]
            found |= dict.fromkeys(begin, answer._replace(ranks=len(begin)))
        return found

    def _ask(self, group: Group, launches: Sequence[Launch], devices: Sequence[Sharable]) -> Granted | str:
        try:
            for launch in launches:
                self._uses.note(
                    launch.attempt, group.name, launch.env.get("GPUMAX_WORKLOAD", launch.workload)
                )
            path = self._begin(devices).add(group)
        except Refused as error:
            return f"its part of a GPU can't be had: {error}"
        except GpumaxError as error:
            return str(error)
        except OSError as error:
            return (
                f"its part of a GPU can't be had: {error.filename or 'the broker'}: {error.strerror or error}"
            )
        context = max(each.context for each in devices if each.uuid in group.devices)
        return Granted(group.name, group.limit or group.guaranteed, str(path), group.swap, context)

    def ended(self, attempt: str) -> None:
        """The group goes with the last one that used it."""
        with self._lock:
            if self._uses.drop(attempt):
                self._sweep()

    def keep(self, attempts: Collection[str]) -> None:
        """What isn't theirs is nobody's."""
        with self._lock:
            self._uses.keep(attempts)
            self._sweep()

    def sweep(self) -> None:
        """Have the broker forget groups that nobody uses: it may have been away when their last user ended."""
        with self._lock:
            self._sweep()

    def workload_of(self, group: str) -> str:
        """Whose a group is; empty: nobody's."""
        return self._uses.groups().get(group, "")

    def waits(self, workload: str) -> tuple[str, ...]:
        """Why a workload that runs doesn't get on with its GPU right now, in words of the broker; nothing where it does, or rests."""
        owners = self._uses.groups()
        own = {group for group, owner in owners.items() if owner == workload}
        if not own:
            return ()
        try:
            found = [each.waits for each in self._control.status().groups if each.name in own and each.waits]
        except GpumaxError:
            return ("the broker of the GPUs doesn't answer; programs go on with what they have",)
        return tuple(dict.fromkeys(self.named(text) for text in found))

    def named(self, text: str) -> str:
        """What the broker says, with workloads instead of its groups."""
        for group, owner in self._uses.groups().items():
            text = text.replace(group, owner)
        return text

    def _sweep(self) -> None:
        used = self._uses.groups()
        try:
            for group in self._control.groups():
                if group.name not in used:
                    self._control.remove(group.name)
        except Unreachable:
            return  # the next broker is told


def _beyond_all(launch: Launch, devices: Sequence[Sharable]) -> str:
    """Why no device here has what its memory may grow to; empty: one has."""
    part = launch.gpu
    most = part.limit.memory_mib if part is not None and part.limit is not None else 0
    largest = max((each.whole // MIB for each in devices), default=most)
    if most <= largest:
        return ""
    return f"its limit of {format_memory(most)} a GPU is above what any GPU here has, at most {format_memory(largest)}"


def _beyond_host(launch: Launch, swap_bytes: int) -> str:
    """Why it could never be swapped out here; empty: it can."""
    part = launch.gpu
    if part is None or part.limit is None or not part.swap:
        return ""
    needed = part.limit.memory_mib * max(len(launch.devices), 1)
    if needed <= swap_bytes // MIB:
        return ""
    return f"swapping up to its limit takes {format_memory(needed)} of host memory; {format_memory(swap_bytes // MIB)} are set aside here"
