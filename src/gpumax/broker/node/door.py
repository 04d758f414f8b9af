"""Where others ask the broker: `control.sock`, a JSON object a line each way, for the broker's own user and root."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import generate_latest

from gpumax.broker.control import (
    LONGEST_LINE,
    SOCKET,
    Add,
    Answer,
    Ask,
    Configure,
    List,
    Measure,
    Remove,
    Request,
    Seen,
    Told,
    Watch,
)
from gpumax.broker.core.orders import Report
from gpumax.broker.node import process
from gpumax.broker.node.groups import Groups
from gpumax.broker.node.server import Server
from gpumax.errors import Conflict, GpumaxError

REPORTS: Final = 100
"""So many of the last ones are told."""
EACH_S: Final = 1.0
_REQUESTS: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)


class Door:
    def __init__(self, directory: Path, server: Server, groups: Groups) -> None:
        self._path = directory / SOCKET
        self._server = server
        self._groups = groups
        self._reports: deque[Told] = deque(maxlen=REPORTS)
        self._told = 0
        self._watching: set[asyncio.Task[None]] = set()

    def note(self, report: Report) -> None:
        self._told += 1
        self._reports.append(Told(self._told, report.kind, report.group, report.text, report.pid))

    async def open(self) -> None:
        """Listen. Right after: it's never there with wider rights, not for a moment."""
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.bind(f"/proc/self/fd/{folder}/{SOCKET}")
            finally:
                os.close(folder)
        finally:
            os.umask(mask)
        self._listening = await asyncio.start_unix_server(self._serve, sock=sock, limit=LONGEST_LINE)

    async def close(self) -> None:
        self._listening.close()
        self._path.unlink(missing_ok=True)
        for task in list(self._watching):
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    def status(self) -> Seen:
        now = self._server.status()
        return Seen(now.epoch, now.devices, now.groups, tuple(self._reports))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, ValueError, asyncio.CancelledError):
            return  # gone, a line beyond all bounds, or the broker ends
        finally:
            self._watching.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who = process.peer(writer.get_extra_info("socket"))
        while line := await reader.readline():
            if who.uid not in (0, os.geteuid()):  # whatever the file's rights have become
                await _say(
                    writer,
                    Answer(f"user {who.uid} has nothing to ask this broker; its own user may, and root"),
                )
                return
            request = _read(line)
            if isinstance(request, Watch):
                while not reader.at_eof():
                    await _say(writer, self.status())
                    await asyncio.sleep(EACH_S)
                return
            await _say(writer, request if isinstance(request, Answer) else self._answer(request, who.pid))

    def _answer(self, request: Request, pid: int) -> Answer | Seen:
        try:
            match request:
                case Add(group, owned):
                    return Answer(socket=str(self._groups.add(group, pid if owned else None)))
                case Configure(group):
                    self._groups.configure(group)
                case Remove(name):
                    self._groups.remove(name)
                case Measure():
                    self._server.measure()
                    return Answer(text=generate_latest(self._server.metrics.registry).decode())
                case List():
                    return Answer(groups=self._groups.all())
                case Ask():
                    return self.status()
        except GpumaxError as error:
            return Answer(str(error), isinstance(error, Conflict))
        except OSError as error:
            return Answer(f"{error.filename or self._path.parent}: {error.strerror or error}")
        return Answer()


def _read(line: bytes) -> Request | Answer:
    try:
        return _REQUESTS.decode(line)
    except msgspec.DecodeError as error:
        return Answer(
            f"found no request that this broker knows ({error}); wanted add, configure, remove, groups, status, watch or metrics"
        )


async def _say(writer: asyncio.StreamWriter, what: Answer | Seen) -> None:
    writer.write(msgspec.json.encode(what) + b"\n")
    await writer.drain()
