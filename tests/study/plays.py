"""Runs without a simulation, for tests; processes of their own import them by name."""

from __future__ import annotations

import os
import signal

from gpumax.errors import Refused
from gpumax.model.node import Node
from gpumax.model.study import Arrived, Run, Scenario, Use
from gpumax.study.run import Progress

SCENARIO = Scenario("small", nodes=(Node("n1"), Node("n2")), policies=("static-fifo", "gpumax"), seeds=(1, 2))


def sound(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """Tells how far it is and ends well."""
    for part in range(10):
        progress(part / 10)
    return Run(policy, seed, 8, Arrived(1, float(seed)), Use(0.5, len(policy) / 100))


def refused(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """One of the four can't be made."""
    if (policy, seed) == ("static-fifo", 2):
        raise Refused("a gang of 64 GPUs has no partition")
    return sound(scenario, policy, seed, progress)


def broken(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """One of the four breaks."""
    if (policy, seed) == ("static-fifo", 2):
        raise KeyError("n7")
    return sound(scenario, policy, seed, progress)


def killed(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """The process of one of the four dies."""
    if (policy, seed) == ("static-fifo", 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return sound(scenario, policy, seed, progress)


def endless(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """Only the first of the four ends by itself."""
    if (policy, seed) == ("static-fifo", 1):
        return sound(scenario, policy, seed, progress)
    progress(0.5)
    while True:
        signal.pause()


def stopped(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """The second is given back half played."""
    run = sound(scenario, policy, seed, progress)
    finished = (policy, seed) != ("static-fifo", 2)
    return Run(run.policy, run.seed, run.gpus, run.arrived, run.use, finished=finished)


def deaf(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """Has as many GPUs as signals of Ctrl-C that reach it."""
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return Run(policy, seed, int(not blocked), Arrived(1, 1.0), Use(0.5, 0.5))
