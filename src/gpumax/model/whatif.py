"""The answer to "what if": the same work as it is and as it would be, or the smallest cluster that meets a goal.

Fields carry the names of the JSON that is printed, so that what is written is what is here.
"""

from __future__ import annotations

import msgspec

Number = int | float


class Pair(msgspec.Struct, frozen=True):
    """One figure as it is, and as it would be."""

    before: Number
    after: Number


class QueueDifference(msgspec.Struct, frozen=True):
    """One queue. quota: devices; served: GPU hours in the window."""

    name: str
    quota: Pair
    workloads: Pair
    wait_mean_s: Pair
    wait_p99_s: Pair
    served: Pair
    evictions: Pair


class Difference(msgspec.Struct, frozen=True):
    """What a change makes of a scenario. changes: what was changed, one by one; assumed: what is taken to be so; finding: in sentences.

    use: part of capacity x window in which what was asked for ran; served: the same in GPU hours. never: workloads that no empty
    cluster could hold; stuck: that had not ended when nothing could happen any more. rule_breaks: how often a decision of gpumax
    broke a rule of its policy.
    """

    scenario: str
    policy: str
    seed: int
    changes: tuple[str, ...]
    finding: tuple[str, ...]
    nodes: Pair
    gpus: Pair
    workloads: Pair
    never: Pair
    stuck: Pair
    use: Pair
    served: Pair
    wait_mean_s: Pair
    wait_p50_s: Pair
    wait_p99_s: Pair
    wait_max_s: Pair
    completion_mean_s: Pair
    completion_p99_s: Pair
    makespan_s: Pair
    evictions: Pair
    lost: Pair
    rule_breaks: Pair
    queues: tuple[QueueDifference, ...]
    assumed: tuple[str, ...] = ()
    version: str = "gpumax/v1"


class Try(msgspec.Struct, frozen=True):
    """A cluster that was tried. value_s: what the goal is about; met: whether the goal is.

    at_least: it was not played to its end, as the goal was missed by far; value_s is then what it was missed by at least.
    """

    nodes: int
    gpus: int
    value_s: float
    never: int
    stuck: int
    met: bool
    at_least: bool = False


class Found(msgspec.Struct, frozen=True):
    """The smallest cluster that meets a goal. nodes, gpus: None where none does; tries: all that were played, by size."""

    scenario: str
    policy: str
    seed: int
    goal: str
    changes: tuple[str, ...]
    finding: tuple[str, ...]
    nodes: int | None
    gpus: int | None
    tries: tuple[Try, ...]
    scaled_quotas: bool = True
    assumed: tuple[str, ...] = ()
    version: str = "gpumax/v1"
