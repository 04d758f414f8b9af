"""Logs as they are written: of one task, or of several side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from threading import Thread

from gpumax.apps.cli.client import Api, Item, segment
from gpumax.apps.cli.harmless import Harmless
from gpumax.apps.cli.output import on_terminal, say
from gpumax.apps.cli.stream import follow

Said = tuple[int, str | Exception | None]
"""Which task, and its next piece of log; None at its end, an error where it broke off."""


def follow_logs(api: Api, name: str, tasks: Sequence[Item], *, tail: int | None = None) -> None:
    """Copy the logs of these tasks to stdout until the workload is finished; lines of several tasks are kept whole."""
    said: SimpleQueue[Said] = SimpleQueue()
    prefixes = {task["index"]: f"[{task['name']}] " if len(tasks) > 1 else "" for task in tasks}
    for number, task in enumerate(tasks):
        Thread(target=_listen, args=(api, name, task["index"], tail, said, number == 0), daemon=True).start()
    harmless = Harmless() if on_terminal() else None
    try:
        for text in arrange(iter(said.get, None), prefixes):
            # Threads end by themselves: each says None or an error at its end, and arrange() returns after the last.
            sys.stdout.write(harmless.text(text) if harmless is not None else text)
            sys.stdout.flush()
    finally:
        if harmless is not None:
            sys.stdout.write(harmless.end())
            sys.stdout.flush()


def _listen(api: Api, name: str, index: int, tail: int | None, said: SimpleQueue[Said], first: bool) -> None:
    path = f"/workloads/{segment(name)}/tasks/{index}/log"
    begin: dict[str, object] = {"follow": 1, "tail": tail}
    notice = say if first else _silent
    try:
        for message in follow(api, path, begin, again={"follow": 1, "tail": 0}, notice=notice):
            if message.event == "end":
                break
            said.put((index, json.loads(message.data)))
        said.put((index, None))
    except Exception as error:
        said.put((index, error))


def _silent(_text: str) -> None:
    """One task's thread speaks for all."""


def arrange(said: Iterable[Said], prefixes: dict[int, str]) -> Iterable[str]:
    """Pieces of text as they are to be printed: as they come where there is no prefix, else in whole lines behind it.

    Returns when every task has ended; raises the first error.
    """
    begun = dict.fromkeys(prefixes, "")
    left = len(prefixes)
    if not left:
        return
    for index, piece in said:
        if isinstance(piece, Exception):
            raise piece
        prefix = prefixes[index]
        if piece is None:
            if begun[index]:
                yield f"{prefix}{begun[index]}\n"
            left -= 1
            if not left:
                return
        elif not prefix:
            yield piece
        else:
            *lines, begun[index] = (begun[index] + piece).split("\n")
            yield "".join(f"{prefix}{line}\n" for line in lines)
