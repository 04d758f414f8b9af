"""Results made by hand, for the report: what a large study looks like, without playing one."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, sin

from gpumax.model.study import Arrived, Effort, Failed, Moved, QueueRun, Result, Run, Series, Spread, Use
from gpumax.model.trace import BadRow

_DEMAND = {
    "vision": 138.0,
    "language": 85.0,
    "speech": 50.0,
    "search": 50.0,
    "ads": 49.0,
    "robots": 47.0,
    "maps": 22.0,
}
_QUOTA = {"vision": 128, "language": 128, "speech": 64, "search": 128, "ads": 128, "robots": 32, "maps": 96}
_DAYS = 20


def replayed(policy: str, use: float, p50: float, p90: float, p99: float, most: float, **more: object) -> Run:
    """A run with so much use and such waits."""
    gpus = int(str(more.get("gpus", 704)))
    known = (
        (0.0, 0.3),
        (0.5, max(p50, 0.3)),
        (0.9, max(p90, 0.4)),
        (0.99, max(p99, 0.5)),
        (1.0, max(most, 1.0)),
    )
    waits = [_between(known, number / 100) for number in range(101)]
    waits[: 30 if p50 else 60] = [0.0] * (30 if p50 else 60)
    evicted = int(str(more.get("evicted", 0)))
    steps = _DAYS * 24
    day = [
        min(1.0, max(0.0, use + 0.22 * sin(step / 24 * 6.283) + 0.15 * sin(step / 61)))
        for step in range(steps)
    ]
    return Run(
        policy,
        int(str(more.get("seed", 42))),
        gpus,
        Arrived(68_503, 690_860.0, 2),
        Use(use, min(1.0, use * 1.03)),
        Spread(p99 / 12, p50, p90, p99, most),
        Spread(p99 / 12 + 11_500, 1_400, 30_000, p99 + 220_000, most + 400_000),
        6.47e6,
        Moved(evicted, evicted // 30, evicted // 50, 0, evicted // 9),
        evicted * 2.5e-7,
        1 - evicted * 1e-5,
        0,
        tuple(_queue(name, use, p99, evicted, steps) for name in _DEMAND),
        waits_s=tuple(waits),
        series=Series(3600.0, tuple(day), tuple(min(1.0, part * 1.03) for part in day), tuple([3.0] * steps)),
        window_s=_DAYS * 86_400.0,
        scheduler=Effort(70_000, 41.5, 0.043),
    )


def _between(known: tuple[tuple[float, float], ...], part: float) -> float:
    """On a line between what is known, drawn over waits that grow tenfold."""
    low, high = next(pair for pair in pairwise(known) if part <= pair[1][0])
    way = (part - low[0]) / (high[0] - low[0])
    return exp(log(low[1]) + way * (log(high[1]) - log(low[1])))


def _queue(name: str, use: float, p99: float, evicted: int, steps: int) -> QueueRun:
    hours = _DAYS * 24
    served = min(_DEMAND[name], _QUOTA[name]) if not evicted else _DEMAND[name]
    return QueueRun(
        name, _QUOTA[name], _DEMAND[name] * hours, served * 0.99 * hours, p99 * len(name) / 6, p99 / 50, 6_000, evicted // 11,
        tuple(served + 5 * sin(step / 9) for step in range(steps)),
    )  # fmt: skip


REPLAYED = Result(
    "philly-quarter",
    (
        replayed("static-fifo", 0.566, 1_200, 590_400, 2_048_400, 3.1e6),
        replayed("static-backfill", 0.584, 200, 72_000, 1_108_800, 2.4e6),
        replayed("hard-quota", 0.586, 180, 81_000, 1_098_000, 2.4e6),
        replayed("kubernetes-default", 0.61, 90, 9_000, 91_000, 9e5),
        replayed("gpumax", 0.65, 0, 1_650, 7_704, 61_000, evicted=2_784),
        replayed("gpumax-fractions", 0.627, 0, 330, 4_320, 40_000, evicted=1_451),
    ),
    gpumax="0.1.0",
    bad_rows=31,
    bad=(
        BadRow(17, "duration", "'-4'", "a duration, not negative"),
        BadRow(90_210, "", "half a row", "8 columns"),
    ),
    caveats=(
        "No scheduler can use more GPUs than are asked for: the work that arrives bounds the use.",
        "Work is taken to save every 30m: who is evicted does again what came after, and needs 1m to start again.",
    ),
    command="gpumax simulate philly.yaml",
)
"""Six policies on the same cluster."""

SIZES = Result(
    "philly-sizes",
    (
        *(
            replayed("static-backfill", use, 0, 100, p99, p99 * 9, gpus=gpus)
            for gpus, use, p99 in (
                (2_816, 0.162, 288),
                (1_760, 0.26, 8_928),
                (1_408, 0.325, 59_400),
                (704, 0.584, 1_108_800),
            )
        ),
        *(
            replayed("gpumax", use, 0, 100, p99, p99 * 9, gpus=gpus, evicted=2_000)
            for gpus, use, p99 in (
                (984, 0.465, 280),
                (704, 0.65, 7_704),
                (632, 0.724, 18_756),
                (536, 0.855, 86_040),
            )
        ),
    ),
    gpumax="0.1.0",
)
"""Two policies on clusters of several sizes."""

_FILLED = {
    "random": 0.8757, "dotprod": 0.9103, "clustering": 0.9173, "packing": 0.9185, "bestfit": 0.9319, "fgd": 0.9536, "gpumax": 0.9571,
}  # fmt: skip


def inflated(policy: str, seed: int) -> Run:
    """A cluster that is filled up to what the policy reaches."""
    end = _FILLED[policy] + (seed % 3 - 1) * 0.0012
    curve = {
        str(key): min(key / 100 * (0.9995 if key < 85 else 1 - (key - 84) * 0.0009), end)
        for key in range(131)
    }
    left = {str(key): 0.15 - min(key, 100) / 100 * (end - 0.85) for key in range(131)}
    return Run(
        policy, seed, 6_212, Arrived(10_800, 0.0), Use(0.0, 0.0), allocation=curve, fragments=left, scheduler=Effort(10_800, 3.1, 0.002)
    )  # fmt: skip


INFLATED = Result(
    "openb-default",
    tuple(inflated(policy, seed) for policy in _FILLED for seed in (42, 43, 44)),
    gpumax="0.1.0",
    protocol="inflate",
    caveats=("Ties between nodes go by an order that the seed draws once a run.",),
    command="gpumax simulate openb.yaml",
)
"""Seven rules with three seeds each."""

HOSTILE_NAME = "<script>alert('x')</script>&\"\u202e}]]></style><img src=http://evil.example/x>\x00\x1b[31m"
"""What a trace may call a queue."""

HOSTILE = Result(
    HOSTILE_NAME,
    tuple(
        Run(
            HOSTILE_NAME + str(number),
            number,
            8,
            Arrived(1, 1.0),
            Use(0.5, 0.6),
            Spread(p99=float(number)),
            evictions=Moved(reclaim=number),
            queues=(QueueRun(HOSTILE_NAME, 4.0, 10.0, 9.0, 1.0), QueueRun("w" * 300, 4.0, 10.0, 9.0, 1.0)),
            allocation={"100": 0.5},
            waits_s=tuple(float(number) for _ in range(101)),
            series=Series(1.0, (0.5,), (0.6,), (1.0,)),
            window_s=3600.0,
            finished=number != 2,
        )
        for number in range(3)
    ),
    gpumax=HOSTILE_NAME,
    bad_rows=3,
    bad=(BadRow(1, HOSTILE_NAME, HOSTILE_NAME, HOSTILE_NAME),),
    caveats=(HOSTILE_NAME,),
    command=HOSTILE_NAME,
    failed=(Failed(HOSTILE_NAME, 1, HOSTILE_NAME),),
    unfinished=1,
)
"""A trace whose every name is an attack."""

EMPTY = Result("nothing", (), failed=(Failed("gpumax", 42, "broken"),), unfinished=2)
"""A study that was stopped before its first run."""

ALONE = Result("alone", REPLAYED.runs[4:5], gpumax="0.1.0")
"""One policy, nobody to compare it with."""
