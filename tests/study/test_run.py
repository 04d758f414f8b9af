"""A study makes every run, side by side if asked, and keeps what is done."""

from __future__ import annotations

import signal
from multiprocessing import active_children, resource_tracker

import msgspec
import pytest

from gpumax.model.study import Failed, Result, Run
from gpumax.model.trace import Arrival
from gpumax.study.run import Play, Step, run_study
from study.plays import SCENARIO, broken, deaf, endless, killed, refused, sound, stopped

ALL = [("static-fifo", 1), ("static-fifo", 2), ("gpumax", 1), ("gpumax", 2)]
THREE = [ALL[0], *ALL[2:]]


def names(result: Result) -> list[tuple[str, int]]:
    """Policy and seed of each run."""
    return [(run.policy, run.seed) for run in result.runs]


def test_the_result_does_not_depend_on_how_many_run_side_by_side() -> None:
    """Runs stand in the order of the scenario's policies and seeds."""
    alone = run_study(SCENARIO, play=sound, command="gpumax simulate x")
    assert names(alone) == ALL
    assert (alone.failed, alone.unfinished) == ((), 0)
    assert alone.command == "gpumax simulate x"
    assert run_study(SCENARIO, jobs=3, play=sound, command="gpumax simulate x") == alone


@pytest.mark.parametrize("jobs", [1, 4])
def test_it_says_how_far_each_run_is(jobs: int) -> None:
    """Never backwards, to its end."""
    steps: list[Step] = []
    run_study(SCENARIO, jobs=jobs, play=sound, watch=steps.append)
    for number in range(4):
        parts = [step.part for step in steps if step.number == number]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        assert len(parts) > 2
    assert sorted(step.number for step in steps if isinstance(step.end, Run)) == [0, 1, 2, 3]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(
    ("play", "why"), [(refused, "a gang of 64 GPUs has no partition"), (broken, "KeyError: 'n7'")]
)
def test_a_run_that_breaks_is_named_and_takes_no_other_along(play: Play, why: str, jobs: int) -> None:
    """With its policy, its seed and why."""
    result = run_study(SCENARIO, jobs=jobs, play=play)
    assert names(result) == THREE
    assert result.failed == (Failed("static-fifo", 2, why),)
    assert result.unfinished == 0


def test_a_process_that_dies_is_a_run_that_broke() -> None:
    """As when the machine has no memory left."""
    result = run_study(SCENARIO, jobs=2, play=killed)
    assert names(result) == THREE
    (failed,) = result.failed
    assert (failed.policy, failed.seed) == ("static-fifo", 2)
    assert (
        failed.error
        == "its process ended with signal 9; the machine may be short of memory, try fewer --jobs"
    )


def test_a_process_that_dies_before_it_begins_is_a_run_that_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it was to be told: nobody waits for it to listen."""
    # Python's own helper for such processes is not the one to die.
    resource_tracker.ensure_running()
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    arrivals = tuple(Arrival(f"w{number}", number, 1) for number in range(20_000))
    result = run_study(msgspec.structs.replace(SCENARIO, arrivals=arrivals), jobs=2, play=sound)
    assert result.runs == ()
    assert [failed.error for failed in result.failed] == [
        "its process ended with exit code 1 and without an answer"
    ] * 4


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_keeps_what_is_done(jobs: int) -> None:
    """And says how many are missing."""
    ended: list[int] = []
    begun: set[int] = set()

    def watch(step: Step) -> None:
        begun.add(step.number)
        if step.end is not None:
            ended.append(step.number)
        if ended == [0] and begun >= {0, 1}:
            raise KeyboardInterrupt

    result = run_study(SCENARIO, jobs=jobs, play=endless, watch=watch)
    assert names(result) == ALL[:1]
    assert result.unfinished == 3
    assert active_children() == []


def test_ctrl_c_reaches_the_study_and_not_its_runs() -> None:
    """A terminal sends it to all processes; the study alone decides what becomes of its runs, and hears it later, too."""
    assert [run.gpus for run in run_study(SCENARIO, jobs=2, play=deaf).runs] == [0, 0, 0, 0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_run_that_was_stopped_is_the_last() -> None:
    """It is kept, marked, and counts as missing."""
    result = run_study(SCENARIO, play=stopped)
    assert [run.finished for run in result.runs] == [True, False]
    assert result.unfinished == 3
