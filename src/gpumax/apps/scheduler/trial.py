"""A dry run beside the scheduler that runs: what would differ, as a table for people or JSON lines for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from gpumax.errors import Refused
from gpumax.formats.lines import printable
from gpumax.formats.snapshot import load_snapshot
from gpumax.loop.beside import Beside, Difference
from gpumax.loop.steer import Round
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.words import plural

Output = Literal["text", "json"]
_HEAD: Final = ("TIME", "POD", "QUEUE", "WOULD", "DID", "WHY")
_WIDTHS: Final = (8, 32, 16, 20, 24)
_SAID: Final = {
    "elsewhere": "went to another node",
    "started": "started that would wait",
    "waits": "wait that would start",
    "evicted": "evicted that would stay",
    "stays": "stay that would be evicted",
}


class Supposed(NamedTuple):
    """What holds instead. queues: None for those of the cluster."""

    policy: Policy = Policy()
    queues: tuple[Queue, ...] | None = None


def suppose(path: Path) -> Supposed:
    """`policy` and `queues` of a snapshot file. BadFile with every fault; Refused for one with anything else."""
    found = load_snapshot(path, source=str(path))
    if found.nodes or found.workloads or found.topologies:
        raise Refused(
            f"{path}: wanted `policy` and `queues` alone; nodes, work and topologies are the cluster's"
        )
    return Supposed(found.policy, found.queues or None)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Trial:
    """Hears of each cycle, and says what differs, on stdout."""

    def __init__(self, beside: Beside, output: Output, say: Callable[[str], object] = _print) -> None:
        self._beside = beside
        self._output = output
        self._say = say
        self._decision = Decision()
        self._begun = False

    def hear(self, row: Round) -> None:
        """A cycle has ended."""
        if row.answer is not None:
            self._decision = row.answer.decision
        for difference in self._beside.look(row.snapshot, self._decision):
            self._tell(difference)

    def end(self) -> None:
        """The sum of it."""
        counts = self._beside.counts
        if self._output == "json":
            self._say(
                json.dumps(
                    {"kind": "summary", "same": counts["same"], **{kind: counts[kind] for kind in _SAID}}
                )
            )
            return
        parts = [f"{counts[kind]:,} {words}" for kind, words in _SAID.items() if counts[kind]]
        differ = sum(counts[kind] for kind in _SAID)
        self._say(
            f"{plural(counts['same'], 'pod')} treated alike, {differ:,} otherwise"
            + (f": {', '.join(parts)}" if parts else "")
        )

    def _tell(self, row: Difference) -> None:
        moment = datetime.fromtimestamp(row.now_ms / 1000, UTC)
        if self._output == "json":
            fields = row._asdict()
            del fields["now_ms"]
            self._say(json.dumps({"ts": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), **fields}))
            return
        if not self._begun:
            self._say(_line(_HEAD))
            self._begun = True
        self._say(_line((moment.strftime("%H:%M:%S"), row.task, row.queue, row.ours, row.theirs, row.why)))


def _line(cells: tuple[str, ...]) -> str:
    padded = (f"{printable(cell):<{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
    return "  ".join((*padded, printable(cells[-1]))).rstrip()
