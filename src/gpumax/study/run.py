"""Plays a scenario under every policy and seed, and keeps what is done whatever becomes of the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from fractions import Fraction
from importlib import import_module
from typing import Final, NamedTuple

from gpumax import __version__
from gpumax.errors import GpumaxError
from gpumax.model.study import Failed, Result, Run, Scenario
from gpumax.study.caveats import caveats
from gpumax.study.scale import scaled

Progress = Callable[[float], None]
"""Called with the part of a run that is done, 0 to 1. It may raise KeyboardInterrupt, to stop the run."""

WHOLE: Final = Fraction(1)
"""The scale of the scenario's own cluster."""

Play = Callable[[Scenario, str, int, Progress], Run]
"""Makes one run: scenario, policy, seed."""


class Turn(NamedTuple):
    """One run that is to be made. scale: on so large a part of the cluster."""

    policy: str
    seed: int
    scale: Fraction = WHOLE

    def __str__(self) -> str:
        scale = "" if self.scale == WHOLE else f", scale {float(self.scale):g}"
        return f"{self.policy}, seed {self.seed}{scale}"


class Step(NamedTuple):
    """How far a turn is. end: what came of it, once it is over."""

    number: int
    part: float
    end: Run | Failed | None = None


Watch = Callable[[Step], None]


def turns(scenario: Scenario, scales: Sequence[Fraction] = (WHOLE,)) -> tuple[Turn, ...]:
    """The runs of a scenario, in the order of its result."""
    return tuple(
        Turn(policy, seed, scale)
        for policy in scenario.policies
        for scale in scales
        for seed in scenario.seeds
    )


def play(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """One run, by the protocol of the scenario: the room of that name has a door of that name."""
    # Late, because each protocol needs what the other doesn't.
    room = import_module(f"gpumax.study.{scenario.protocol}")
    run: Run = getattr(room, scenario.protocol)(scenario, policy, seed, progress)
    return run


def run_study(
    scenario: Scenario,
    *,
    scales: Sequence[Fraction] = (WHOLE,),
    jobs: int = 1,
    watch: Watch = lambda _step: None,
    command: str = "",
    play: Play = play,
) -> Result:
    """The result of all policies and seeds; equal for any number of jobs, but for the scheduler's seconds.

    scales: on clusters of these parts of the scenario's.
    jobs: processes side by side; with one, the runs are made in this process. A run that breaks is named in `failed`, and the
    others go on. Ctrl-C ends it: the runs that are done are kept, and `unfinished` says how many are missing.
    """
    wanted = turns(scenario, scales)
    ends: dict[int, Run | Failed] = {}
    try:
        with closing(_steps(scenario, wanted, jobs, watch, play)) as steps:
            for number, end in steps:
                ends[number] = end
                watch(Step(number, 1.0, end))
    except KeyboardInterrupt:
        pass
    made = [ends[number] for number in sorted(ends)]
    runs = tuple(end for end in made if isinstance(end, Run))
    return Result(
        scenario=scenario.name,
        runs=runs,
        gpumax=__version__,
        bad_rows=scenario.bad_rows,
        bad=scenario.bad,
        caveats=caveats(scenario),
        command=command,
        protocol=scenario.protocol,
        failed=tuple(end for end in made if isinstance(end, Failed)),
        unfinished=len(wanted) - len(made) + sum(not run.finished for run in runs),
    )


def attempt(scenario: Scenario, turn: Turn, play: Play, progress: Progress) -> Run | Failed:
    """One turn; what breaks it is told in a sentence."""
    try:
        return play(scaled(scenario, turn.scale), turn.policy, turn.seed, progress)
    except Exception as error:
        if os.environ.get("GPUMAX_DEBUG"):
            # Late, because it is hardly ever needed.
            import traceback

            traceback.print_exc()
        return failed(
            turn, str(error) if isinstance(error, GpumaxError) else f"{type(error).__name__}: {error}"
        )


def failed(turn: Turn, why: str) -> Failed:
    """A turn that broke."""
    scale = "" if turn.scale == WHOLE else f"at scale {float(turn.scale):g}: "
    return Failed(turn.policy, turn.seed, scale + why)


def _steps(
    scenario: Scenario, wanted: Sequence[Turn], jobs: int, watch: Watch, play: Play
) -> Generator[tuple[int, Run | Failed], None, None]:
    """What came of each turn, as they end."""
    if jobs > 1 and len(wanted) > 1:
        # Late, because one process needs none of it.
        from gpumax.study.processes import side_by_side

        yield from side_by_side(scenario, wanted, jobs, watch, play)
        return
    for number, turn in enumerate(wanted):

        def progress(part: float, number: int = number) -> None:
            watch(Step(number, part))

        end = attempt(scenario, turn, play, progress)
        yield number, end
        if isinstance(end, Run) and not end.finished:
            return
