"""Runs side by side, each in a process of its own: one that dies takes no other along."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from gpumax.model.study import Failed, Run, Scenario
from gpumax.study.run import Play, Step, Turn, Watch, attempt, failed

_TELL: Final = 0.001
"""How much further a run is when it says so again."""

_PATIENCE_S: Final = 5.0
"""How long a process that was told to end may take before it is killed."""

_Busy = dict[Connection, tuple[int, SpawnProcess]]


def side_by_side(
    scenario: Scenario, turns: Sequence[Turn], jobs: int, watch: Watch, play: Play
) -> Generator[tuple[int, Run | Failed], None, None]:
    """What came of each turn, as they end. Whoever stops listening ends the processes."""
    waiting = list(enumerate(turns))
    busy: _Busy = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                number, turn = waiting.pop(0)
                ours, process = _start(scenario, turn, play)
                busy[ours] = number, process
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                number, process = busy[ready]
                said = _hear(ready, process, turns[number])
                if isinstance(said, float):
                    watch(Step(number, said))
                    continue
                del busy[ready]
                _end(ready, process)
                yield number, said
    finally:
        for _, process in busy.values():
            process.terminate()
        for ours, (_, process) in busy.items():
            _end(ours, process)


def _start(scenario: Scenario, turn: Turn, play: Play) -> tuple[Connection, SpawnProcess]:
    # Spawned, not forked: the same on every system, and no locks of ours are copied in the middle of something.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Ctrl-C reaches all processes of a terminal; only this one is to hear it. They inherit what is blocked now.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    # Not as arguments: `start` would wait forever for a process that died before it read them.
    with suppress(OSError):
        ours.send((scenario, turn, play))
    return ours, process


def _work(theirs: Connection) -> None:
    """In the process: make the run, tell how far it is, and then what came of it."""
    told = 0.0

    def progress(part: float) -> None:
        nonlocal told
        if part >= told + _TELL:
            told = part
            theirs.send(float(part))

    # Whoever started it may have gone.
    with suppress(EOFError, OSError):
        scenario, turn, play = theirs.recv()
        theirs.send(attempt(scenario, turn, play, progress))


def _hear(ours: Connection, process: SpawnProcess, turn: Turn) -> float | Run | Failed:
    try:
        said: float | Run | Failed = ours.recv()
    except (EOFError, OSError):
        process.join(_PATIENCE_S)
        return failed(turn, f"its process ended with {_exit(process.exitcode)}")
    return said


def _exit(code: int | None) -> str:
    """An exit code in words; a process without memory is killed with SIGKILL."""
    if code is None or code >= 0:
        return f"exit code {code or 0} and without an answer"
    hint = "; the machine may be short of memory, try fewer --jobs" if -code == signal.SIGKILL else ""
    return f"signal {-code}{hint}"


def _end(ours: Connection, process: SpawnProcess) -> None:
    process.join(_PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()
    ours.close()
