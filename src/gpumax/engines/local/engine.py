"""The engine of one machine: real processes, each attempt under a supervisor of its own that outlives the server."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumax.engines.local import attempt as attempts
from gpumax.engines.local import cgroups, files
from gpumax.engines.local.attempt import ENDS, Attempt
from gpumax.engines.local.environment import environment, missing_devices, read_secret
from gpumax.engines.local.machine import node
from gpumax.engines.local.places import make_private, unusable
from gpumax.engines.local.tasklog import MOST_BYTES
from gpumax.engines.local.watch import Watch
from gpumax.errors import Refused
from gpumax.ports.devices import Devices
from gpumax.ports.engine import Forget, Launch, Observation, Order, Refusal, Start, Stop
from gpumax.ports.sharing import Granted, Sharing

NO_COMMAND: Final = "it has no command"
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}", re.ASCII)


class LocalEngine:
    """Implements ports.engine.Engine for this machine.

    All that it knows is in DATA/attempts, so that the next server knows it, too. A change of a checkpoint directory is seen
    at the next observe() and wakes nobody.
    """

    name = "local"

    def __init__(
        self,
        data: Path,
        node: str,
        devices: Devices,
        wake: Callable[[], None],
        *,
        log_most: int = MOST_BYTES,
        sharing: Sharing | None = None,
    ) -> None:
        """Adopt what runs. data: absolute; node: this machine's name; log_most: bytes of a task's log.

        sharing: who holds tasks to their parts of devices; None: nobody does.

        wake: called from other threads, and maybe before this returns.
        """
        self._node = node
        self._devices = devices
        self._wake = wake
        self._log_most = log_most
        self._sharing = sharing
        self._secrets = data / "secrets"
        self._directory = data / "attempts"
        self._parent, self._no_cgroup = _cgroup_parent()
        self._attempts: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._watch = Watch()
        make_private(self._directory)
        self._adopt_all()
        if sharing is not None:
            sharing.keep({name for name, each in self._attempts.items() if not each.ended()})
        self._watch.start()

    def observe(self) -> Observation:
        """The world now."""
        with self._lock:
            seen = [self._attempts[name].seen() for name in sorted(self._attempts)]
        return Observation((node(self._node, self._devices.read()),), tuple(seen))

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        """Carry the orders out, in their order."""
        granted = self._granted(orders)
        return tuple(refusal for order in orders if (refusal := self._carry_out(order, granted)) is not None)

    def _granted(self, orders: Sequence[Order]) -> Mapping[str, Granted | Refusal]:
        """Parts of devices for all who start, at once: tasks of one workload that start together take turns together."""
        parts = [
            order.launch
            for order in orders
            if isinstance(order, Start) and order.launch.gpu and order.launch.attempt not in self._attempts
        ]
        return self._sharing.grant(parts) if self._sharing is not None and parts else {}

    def objection(self, launch: Launch) -> str:
        """What can be known against a start, wherever its devices were."""
        if not launch.argv:
            return NO_COMMAND
        try:
            secrets = {name: read_secret(self._secrets, name) for name in launch.secrets}
            _pack(launch, {**launch.env, **secrets}, self._log_most, "")
        except Refused as error:
            return str(error)
        if (
            launch.gpu is not None
            and self._sharing is not None
            and (words := self._sharing.objection(launch))
        ):
            return words
        return unusable(launch.workdir, launch.checkpoint_dir)

    def notes(self) -> tuple[str, ...]:
        """What a user should know of this engine here."""
        lacks = [self._no_cgroup] if self._no_cgroup else []
        return (
            *lacks,
            *self._devices.notes(),
            "requests of cpu and memory are counted, not enforced; `image` and `shm` are ignored: tasks run on this machine as it is",
        )

    def close(self) -> None:
        """Let go. Tasks run on."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        with self._lock:
            for attempt in self._attempts.values():
                attempt.let_go()

    def _carry_out(self, order: Order, granted: Mapping[str, Granted | Refusal]) -> Refusal | None:
        try:
            match order:
                case Start(launch):
                    part = granted.get(launch.attempt)
                    if isinstance(part, Refusal):
                        return part
                    self._start_with(launch, part)
                case Stop(attempt, grace_ms):
                    self._stop(attempt, grace_ms)
                case Forget(attempt):
                    self._forget(attempt)
        except Refused as error:
            return Refusal(_attempt_of(order), str(error))
        except OSError as error:
            return Refusal(_attempt_of(order), _words(error))
        return None

    def _start_with(self, launch: Launch, part: Granted | None) -> None:
        try:
            self._start(launch, part)
        except BaseException:
            if part is not None and self._sharing is not None:
                self._sharing.ended(launch.attempt)
            raise

    def _start(self, launch: Launch, part: Granted | None) -> None:
        if launch.attempt in self._attempts:
            return
        self._check(launch)
        env = environment(launch, self._devices, self._secrets, os.environ, part)
        cgroup = self._cgroup(launch)
        try:
            handed = _pack(launch, env, self._log_most, cgroup)
            make_private(Path(launch.log).parent)
            if launch.checkpoint_dir:
                make_private(Path(launch.checkpoint_dir))
            attempt = attempts.begin(self._directory, launch, handed, cgroup)
        except BaseException:
            cgroups.remove(cgroup)
            raise
        with self._lock:
            self._attempts[attempt.id] = attempt
        self._listen(attempt)

    def _check(self, launch: Launch) -> None:
        if not _ID.fullmatch(launch.attempt):
            raise Refused(f"`{launch.attempt}` can't be the id of an attempt")
        if launch.node != self._node:
            raise Refused(f"there is no node {launch.node} here")
        if not launch.argv:
            raise Refused(NO_COMMAND)
        missing = missing_devices(launch, [device.index for device in self._devices.read()])
        if missing:
            raise Refused(f"{self._node} has no device {missing} any more")

    def _cgroup(self, launch: Launch) -> str:
        if not self._parent:
            return ""
        try:
            cgroup = cgroups.make(self._parent, launch.attempt)
        except OSError:
            return ""
        cgroups.weigh(cgroup, launch.cpu_milli)
        return cgroup

    def _stop(self, name: str, grace_ms: int) -> None:
        attempt = self._attempts.get(name)
        if attempt is None:
            if _ID.fullmatch(name):
                with self._lock:
                    self._attempts[name] = attempts.tombstone(self._directory, name)
            return
        if attempt.seen().state not in ENDS:
            attempt.stop(grace_ms)

    def _forget(self, name: str) -> None:
        attempt = self._attempts.get(name)
        if attempt is None or attempt.seen().state not in ENDS:
            return
        # Its supervisor may still be ending; that is listened for, so that it is waited for.
        with self._lock:
            del self._attempts[name]
        attempt.forget()

    def _adopt_all(self) -> None:
        for directory in sorted(self._directory.iterdir()):
            if directory.name.startswith("."):
                shutil.rmtree(directory, ignore_errors=True)  # half made, or half removed
                continue
            attempt, alive = attempts.adopt(directory)
            if not alive and not attempt.began():
                attempt.let_go()
                attempt.forget()
                continue
            self._attempts[attempt.id] = attempt
            if alive:
                self._listen(attempt)
            else:
                self._bury(attempt)

    def _listen(self, attempt: Attempt) -> None:
        self._watch.add(attempt.life, lambda: self._heard(attempt))

    def _heard(self, attempt: Attempt) -> None:
        """Something changed with an attempt. Runs in the watch's thread."""
        if not attempt.hear():
            self._watch.remove(attempt.life)
            self._bury(attempt)
        self._wake()

    def _bury(self, attempt: Attempt) -> None:
        """The supervisor is gone. In a thread of its own, for what is left of a task may take long to end."""
        attempt.let_go()

        def bury() -> None:
            attempt.bury()
            if self._sharing is not None:
                self._sharing.ended(attempt.id)
            if not self._closed:
                self._wake()

        threading.Thread(target=bury, name=f"engine-bury-{attempt.id}", daemon=True).start()


def _attempt_of(order: Order) -> str:
    return order.launch.attempt if isinstance(order, Start) else order.attempt


def _words(error: OSError) -> str:
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def _pack(launch: Launch, env: dict[str, str], log_most: int, cgroup: str) -> bytes:
    """The launch as its supervisor reads it."""
    try:
        return files.pack(
            [
                *(("argv", word) for word in launch.argv),
                *(("env", f"{name}={value}") for name, value in env.items()),
                ("workdir", launch.workdir),
                ("setup", launch.setup),
                ("log", launch.log),
                ("log_most", str(log_most)),
                ("cgroup", cgroup),
                ("checkpoint_dir", launch.checkpoint_dir),
            ]
        )
    except ValueError:
        raise Refused(
            "its command, paths or environment hold a NUL byte or broken text; no program can be given that"
        ) from None


def _cgroup_parent() -> tuple[str, str]:
    """Where attempts get their cgroups, or why they get none."""
    try:
        parent = cgroups.home()
        probe = cgroups.make(parent, f"probe-{os.getpid()}")
    except OSError as error:
        why = error.strerror or str(error)
        return (
            "",
            f"no cgroups here ({why}): a task's processes are found by their parents and their environment instead",
        )
    cgroups.remove(probe)
    return parent, ""
