"""Parts of GPUs on a server's machine: its broker, watched over, and the events that come of it."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from gpumax.apps.gpu.keeper import Keeper, News
from gpumax.apps.gpu.personal import own_folder
from gpumax.apps.gpu.rules import Rules
from gpumax.apps.gpu.sharing import BrokerSharing
from gpumax.apps.gpu.view import Item, shared
from gpumax.apps.server.evicting import owner_of
from gpumax.broker.control import Control
from gpumax.errors import GpumaxError
from gpumax.model.records import Changes, Event
from gpumax.ports.clock import Clock
from gpumax.ports.devices import Devices
from gpumax.ports.store import Store

LONGEST: Final = 66
"""Bytes of the directory's path: sockets in it are called after workloads."""
_log: Final = logging.getLogger("gpumax")


class Gpus(NamedTuple):
    keeper: Keeper
    sharing: BrokerSharing
    devices: Devices
    store: Store

    def shared(self) -> dict[int, Item]:
        """By index, the GPUs of which parts are given out."""
        known = {uuid: index for index, uuid in self.devices.uuids().items()}
        if not known or not self.keeper.there():
            return {}
        rows = shared(
            Control(self.keeper.directory), self.sharing.workload_of, lambda pid: owner_of(self.store, pid)
        )
        return {known[uuid]: row for uuid, row in rows.items() if uuid in known}


def gpus(stack: ExitStack, data: Path, devices: Devices, store: Store, clock: Clock, rules: Rules) -> Gpus:
    """What holds tasks to their parts. It costs nothing until a task has one."""
    directory = directory_of(data)

    def tell(news: News) -> None:
        workload = sharing.workload_of(news.group) or (owner_of(store, news.pid) if news.pid else "")
        of, text = workload or news.group, sharing.named(news.text)
        _log.warning("%s%s", f"{of}: " if of else "", text)
        try:
            store.commit(Changes(events=(Event(clock.now_ms(), "Warned", text, workload),)))
        except GpumaxError as error:
            _log.warning("%s", error)

    swap_bytes = psutil.virtual_memory().total // 2
    keeper = Keeper(directory, devices, tell, lambda: sharing.sweep(), swap_bytes=swap_bytes, rules=rules)
    sharing = BrokerSharing(directory, devices, keeper.begin, swap_bytes)
    keeper.open()
    stack.callback(keeper.close)
    return Gpus(keeper, sharing, devices, store)


def directory_of(data: Path) -> Path:
    """Where the broker of a server is: in its data directory, or where that makes paths of sockets too long, somewhere short."""
    directory = data / "gpu"
    if len(os.fsencode(directory)) <= LONGEST:
        return directory
    return own_folder(os.environ) / f"up-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
