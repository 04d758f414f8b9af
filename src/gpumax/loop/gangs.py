"""What the tasks of one run have in common, in a file each: where they meet, and who is placed.

The file serves two readers: an elastic program, which learns from it that its world has changed, and the next server,
which must send a task that joins later to the same meeting point.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from gpumax.loop.launch import Master, gang_file, placed_ranks
from gpumax.model.records import FINISHED, Live, TaskRecord, WorkloadRecord


class GangFile(msgspec.Struct):
    """A gang file's content. run: the workload's count of runs; ranks: of the tasks that are placed."""

    run: int
    master_addr: str
    master_port: int
    world_size: int
    ranks: list[int]


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Meetings(Protocol):
    """Where the tasks of a run meet, and who learns that they do."""

    def meet(self, record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> Master:
        """Where the tasks of this run meet: the same for all that start in it."""
        ...

    def sync(self, live: Live) -> None:
        """These are the records now."""
        ...


class Gangs:
    """The gang files of a data directory; each is replaced as a whole, so that no reader sees half of one."""

    def __init__(self, data: Path, port: Callable[[], int] = free_port) -> None:
        self._data = data
        self._port = port
        self._files: dict[str, GangFile] | None = None

    def meet(self, record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> Master:
        """Where the tasks of this run meet: on rank 0's node, the same port for all that start in it."""
        known = self._read().get(record.id)
        if known is not None and known.run == record.runs:
            return Master(known.master_addr, known.master_port)
        placed = [tasks[rank].node or "" for rank in placed_ranks(tasks)]
        master = Master("127.0.0.1" if len(set(placed)) == 1 else placed[0], self._port())
        if len(tasks) > 1:
            self._write(record, tasks, master)
        return master

    def sync(self, live: Live) -> None:
        """Bring the files up to date with who is placed; files of workloads that are gone go, too."""
        files = self._read()
        unneeded = set(files)
        for record, tasks in live.workloads:
            known = files.get(record.id)
            if known is None or record.state in FINISHED:
                continue
            unneeded.remove(record.id)
            if known.run == record.runs and known.ranks != placed_ranks(tasks):
                self._write(record, tasks, Master(known.master_addr, known.master_port))
        for workload_id in unneeded:
            gang_file(workload_id, self._data).unlink(missing_ok=True)
            del files[workload_id]

    def _write(self, record: WorkloadRecord, tasks: tuple[TaskRecord, ...], master: Master) -> None:
        ranks = placed_ranks(tasks)
        content = GangFile(record.runs, master.address, master.port, len(ranks), ranks)
        path = gang_file(record.id, self._data)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(content))
        fresh.replace(path)
        self._read()[record.id] = content

    def _read(self) -> dict[str, GangFile]:
        """The files as they are; what an earlier server wrote is read once."""
        if self._files is None:
            self._files = {}
            for path in sorted((self._data / "gangs").glob("*.json")):
                with suppress(msgspec.MsgspecError, FileNotFoundError):
                    self._files[path.stem] = msgspec.json.decode(path.read_bytes(), type=GangFile)
        return self._files
