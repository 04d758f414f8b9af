"""What no study can have found: figures of a result that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

from gpumax.formats.shape import Bad, Wrong, Wrongs, show
from gpumax.model.study import QueueRun, Run
from gpumax.words import plural

T = TypeVar("T")
Clash = Callable[[Mapping[str, Any], Collection[str]], Iterable[Wrong]]

_RISING: Final = ("p50", "p90", "p99", "max")


def sensible(make: Callable[..., T], clash: Clash) -> Callable[..., T]:
    """Makes a noun of fields that don't contradict each other; Bad where they do."""

    def made(**fields: Any) -> T:
        if wrongs := list(clash(fields, ())):
            raise Bad(wrongs, sound=fields)
        return make(**fields)

    return made


def falling(fields: Mapping[str, Any], _unread: Collection[str]) -> Iterator[Wrong]:
    """Quantiles that are smaller than those of fewer, and a mean above the most."""
    given = [name for name in _RISING if name in fields]
    for less, more in pairwise(given):
        if fields[more] < fields[less]:
            yield Wrong((more,), show(fields[more]), f"at least the {less}, {show(fields[less])}")
    # Rounded sums may end a little beyond.
    if fields.get("mean", 0) > fields.get("max", float("inf")) * (1 + 1e-9):
        yield Wrong(("mean",), show(fields["mean"]), f"at most the max, {show(fields['max'])}")


def too_many(fields: Mapping[str, Any], _unread: Collection[str]) -> Iterator[Wrong]:
    """Of a run: more workloads placed, stuck or too large than came; waits that fall."""
    arrived = fields.get("arrived")
    for name in ("placed", "stuck"):
        if arrived is not None and fields.get(name, 0) > arrived.workloads:
            yield Wrong(
                (name,),
                show(fields[name]),
                f"at most the {plural(arrived.workloads, 'workload')} that arrived",
            )
    waits = fields.get("waits_s", ())
    if index := next((index for index in range(1, len(waits)) if waits[index] < waits[index - 1]), 0):
        yield Wrong(
            ("waits_s", index), show(waits[index]), f"at least the one before, {show(waits[index - 1])}"
        )


def too_large(fields: Mapping[str, Any], _unread: Collection[str]) -> Iterator[Wrong]:
    """Of what arrived: more that could never run than came."""
    if fields.get("never", 0) > fields.get("workloads", fields.get("never", 0)):
        wanted = f"at most the {plural(fields['workloads'], 'workload')} that arrived"
        yield Wrong(("never",), show(fields["never"]), wanted)


def runs_once(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Runs of which none stands there twice."""
    names = [f"{run.policy}, seed {run.seed}, on {plural(run.gpus, 'GPU')}" for run in runs]
    _once([f"{name}{'' if run.finished else ', stopped'}" for name, run in zip(names, runs, strict=True)])
    return runs


def queues_once(queues: tuple[QueueRun, ...]) -> tuple[QueueRun, ...]:
    """Queues of which none stands there twice."""
    _once([queue.name for queue in queues])
    return queues


def _once(names: Sequence[str]) -> None:
    first: dict[str, int] = {}
    wrongs = Wrongs()
    for index, name in enumerate(names):
        if (before := first.setdefault(name, index)) != index:
            wrongs.add((index,), f"{show(name)} again, first at [{before}]", "each once")
    wrongs.check()
