"""A study over time: the scenario that is played, and what came of it under each policy.

Fields of results carry the names of the file (formats: scenario, result), so that what is written is what is here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.model.trace import Arrival, BadRow

Protocol = Literal["replay", "inflate"]


class Failures(msgspec.Struct, frozen=True):
    """How often a node fails, and how long it stays away: means of exponential times, drawn from the run's seed."""

    node_mtbf_ms: int
    node_mttr_ms: int


class Saving(msgspec.Struct, frozen=True):
    """What an eviction costs: work since the last checkpoint is done again; a restart takes so long before work goes on."""

    every_ms: int = 1_800_000
    restart_ms: int = 60_000


class Scenario(msgspec.Struct, frozen=True):
    """All that a study plays, files read. Equal scenarios give equal results, digit by digit, but for the scheduler's seconds.

    window_ms: over which use is measured, from the first arrival; None: to the last arrival. devices_per_task: a request of more
    devices becomes tasks of at most so many each; 0: never. start_ms: between the placing of a task and the beginning of its work.
    grace_ms: between an eviction and the moment at which the room is free. arrived: inflate ends when so many thousandths of the GPU
    capacity have been asked for. sizes: for policies with fractions: milli of one device by how often, drawn for each workload of
    one device. policy: options of gpumax's own. renamed: as of a trace.
    """

    name: str
    protocol: Protocol = "replay"
    nodes: tuple[Node, ...] = ()
    queues: tuple[Queue, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    policies: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (42,)
    failures: Failures | None = None
    checkpoint: Saving = Saving()
    window_ms: int | None = None
    devices_per_task: int = 8
    start_ms: int = 0
    grace_ms: int = 0
    arrived: int = 1300
    sizes: dict[int, int] = {}
    bad: tuple[BadRow, ...] = ()
    bad_rows: int = 0
    policy: Policy = Policy()
    renamed: dict[str, tuple[str, ...]] = {}


class Use(msgspec.Struct, frozen=True):
    """Parts of capacity x window. requested: what was asked for and ran; allocated: devices of which anything was held."""

    requested: float
    allocated: float


class Spread(msgspec.Struct, frozen=True):
    """A distribution of seconds."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class Arrived(msgspec.Struct, frozen=True):
    """What there was to do. gpu_hours: durations times devices asked for. never: workloads that no empty cluster could hold."""

    workloads: int
    gpu_hours: float
    never: int = 0


class Moved(msgspec.Struct, frozen=True):
    """Evictions of tasks by cause. failure: tasks that a failing node took along."""

    reclaim: int = 0
    preempt: int = 0
    consolidate: int = 0
    stale: int = 0
    failure: int = 0


class QueueRun(msgspec.Struct, frozen=True):
    """One queue in a run. quota: devices; demand, served: GPU hours in the window; held: devices in use on average in each step of the
    run's series."""

    name: str
    quota: float
    demand: float
    served: float
    wait_p99_s: float
    wait_mean_s: float = 0.0
    workloads: int = 0
    evictions: int = 0
    held: tuple[float, ...] = ()


class Series(msgspec.Struct, frozen=True):
    """The run over time, in equal steps from the first arrival. requested, allocated: parts of capacity; waiting: workloads."""

    step_s: float
    requested: tuple[float, ...] = ()
    allocated: tuple[float, ...] = ()
    waiting: tuple[float, ...] = ()


class Effort(msgspec.Struct, frozen=True):
    """What deciding cost on the machine of the study: the one part of a result that differs from run to run."""

    cycles: int
    seconds: float
    seconds_max: float


class Run(msgspec.Struct, frozen=True):
    """What came of a scenario under one policy and seed. finished: whether all of it was played. window_s: over which use and the
    served hours of queues were measured; 0: unknown.

    wait_s: all time in which not every task of a workload had room, waits after evictions included. waits_s: 101 quantiles of
    these, from p0 to p100, for pictures. lost: part of the served GPU time that went into work that had been done before, and into
    restarts. jain: fairness index over served / min(demand, quota) of the queues; jain_due: the same with no more counted as
    served than that, so that what idle GPUs gave a queue beyond its quota counts as no unfairness. violations: moments at which a
    queue within its quota waited though over-quota victims ran, beyond grace. stuck: workloads that had not ended when nothing
    could happen any more. rule_breaks: how often a decision of gpumax broke a rule of its policy. inflate only: allocation,
    fragments: by percent arrived, the part of GPU capacity that was allocated, or free and of no use to the work that typically
    comes; placed: workloads with devices.
    """

    policy: str
    seed: int
    gpus: int
    arrived: Arrived
    use: Use
    wait_s: Spread = Spread()
    completion_s: Spread = Spread()
    makespan_s: float = 0.0
    evictions: Moved = Moved()
    lost: float = 0.0
    jain: float = 1.0
    violations: int = 0
    queues: tuple[QueueRun, ...] = ()
    allocation: dict[str, float] = {}
    placed: int = 0
    fragments: dict[str, float] = {}
    waits_s: tuple[float, ...] = ()
    series: Series | None = None
    finished: bool = True
    window_s: float = 0.0
    scheduler: Effort = Effort(0, 0.0, 0.0)
    jain_due: float = 1.0
    stuck: int = 0
    rule_breaks: int = 0


class Failed(msgspec.Struct, frozen=True):
    """A run that broke, and why, in a sentence."""

    policy: str
    seed: int
    error: str


class Result(msgspec.Struct, frozen=True):
    """A study's answer. bad: rows of its traces that were left out, the first of them; caveats: what is assumed, in sentences.

    command: the line that makes it again; failed: runs that broke; unfinished: runs that somebody's Ctrl-C left out.
    """

    scenario: str
    runs: tuple[Run, ...]
    version: str = "gpumax/v1"
    gpumax: str = ""
    bad_rows: int = 0
    bad: tuple[BadRow, ...] = ()
    caveats: tuple[str, ...] = ()
    command: str = ""
    protocol: Protocol = "replay"
    failed: tuple[Failed, ...] = ()
    unfinished: int = 0
