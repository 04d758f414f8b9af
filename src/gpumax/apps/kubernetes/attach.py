"""A command beside a task, in the same container, with the caller's terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from gpumax.apps.kubernetes.logs import task_pod
from gpumax.apps.kubernetes.site import Site
from gpumax.engines.kubernetes.client.channels import END, STDERR, STDOUT, Channels, command, exit_code
from gpumax.engines.kubernetes.client.errors import NoAnswer
from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.work.views import PODS
from gpumax.errors import Conflict


class Console(Protocol):
    """Where a command reads and prints. tty: whether that is a terminal."""

    tty: bool

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        ...

    def begin(self, heard: Callable[[bytes], None], resized: Callable[[], None]) -> None:
        """From now on tell what is typed, empty at its end, and that the size has changed; from any thread."""
        ...

    def out(self, data: bytes, *, error: bool) -> None:
        """Print."""
        ...


async def attach(site: Site, name: str, rank: int, words: Sequence[str], console: Console) -> int:
    """Run a command beside a task, to its exit code. Conflict where the task doesn't run."""
    pod, job = task_pod(await site.work(name), rank)
    if pod is None or pod.status.phase != "Running":
        raise Conflict(f"task {rank} of {name} doesn't run; `gpumax show {name}` tells which do")
    container = str(at(job.spec, "template", "spec", "containers", 0, "name") or "")
    path = PODS.path(site.namespace, pod.metadata.name, "exec")
    connection = site.api.connection
    async with command(connection, path, words, container=container, tty=console.tty, stdin=True) as channels:
        typing = asyncio.create_task(_type(channels, console))
        try:
            async for channel, data in channels.heard():
                if channel == END:
                    return exit_code(data)
                if channel in (STDOUT, STDERR) and data:
                    console.out(data, error=channel == STDERR)
        finally:
            typing.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await typing
    raise NoAnswer(f"the command in task {rank} of {name} broke off")


async def _type(channels: Channels, console: Console) -> None:
    """Pass on what is typed, and the size of the terminal."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(data: bytes | None) -> None:
        # The keyboard may go on after the command.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(typed.put_nowait, data)

    console.begin(put, lambda: put(None))
    if console.tty:
        await channels.resize(*console.size())
    while True:
        data = await typed.get()
        if data is None:
            await channels.resize(*console.size())
        else:
            await channels.say(data)
