"""What tests of what-if share: drawn work, and questions about it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from gpumax.model.study import Scenario
from gpumax.model.trace import Arrival
from gpumax.study.whatif import Wish, ask
from gpumax.study.whatif.question import Question
from study.kit import scenario as scenario_file
from study.replay_kit import work


def drawn(seed: int, number: int = 60, every: float = 4) -> tuple[Arrival, ...]:
    """Work of two queues, more than 16 GPUs can do at once."""
    chance = Random(seed)
    return tuple(
        work(
            f"w{row:03}", row * every, chance.randint(10, 90), chance.choice((1, 1, 2, 4, 8)), chance.choice("ab")
        )
        for row in range(number)
    )  # fmt: skip


def written(folder: Path, played: Scenario) -> Path:
    """The file of a scenario of two nodes of eight A100 and the queues a and b, with this work."""
    rows = "".join(
        f"{row.name},{row.submitted_ms // 1000},{row.duration_ms / 1000:g},{row.devices},{row.queue}\n"
        for row in played.arrivals
    )
    scenario_file(folder, "checkpoint: {every: 30m}\n", f"name,submitted,duration,gpu,queue\n{rows}")
    return folder / "study.yaml"


def asked(folder: Path, played: Scenario, **wish: Any) -> Question:
    """A question about such a scenario."""
    return ask(written(folder, played), Wish(**wish))
