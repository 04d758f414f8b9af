"""Several results as one, so that one report shows clusters of several sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from gpumax.errors import Refused
from gpumax.model.study import Effort, Result, Run
from gpumax.words import plural

_NO_EFFORT: Final = Effort(0, 0.0, 0.0)


def merged(results: Sequence[Result]) -> Result:
    """Their runs one after the other; a run that stands in several of them counts once.

    Refused where they were played by different protocols, or where runs of one policy and seed on equally many GPUs differ: a report
    would take them for one study, and their mean for a figure of it.
    """
    first = results[0]
    if any(result.protocol != first.protocol for result in results):
        raise Refused("results of replay and of inflate don't go into one report; name them apart")
    runs = tuple(_once(run for result in results for run in result.runs))
    if len(results) == 1:
        return first
    # Results of one scenario left the same rows out, whatever they played.
    traces = {(result.scenario, result.bad_rows, result.bad): result for result in results}.values()
    whole = {repr(_figures(result)): result for result in results}.values()
    return Result(
        scenario=" + ".join(dict.fromkeys(result.scenario for result in results)),
        runs=runs,
        gpumax=" + ".join(dict.fromkeys(result.gpumax for result in results)),
        bad_rows=sum(result.bad_rows for result in traces),
        bad=tuple(bad for result in traces for bad in result.bad),
        caveats=tuple(dict.fromkeys(caveat for result in results for caveat in result.caveats)),
        command="\n".join(dict.fromkeys(result.command for result in results if result.command)),
        protocol=first.protocol,
        failed=tuple(dict.fromkeys(failed for result in results for failed in result.failed)),
        unfinished=sum(result.unfinished for result in whole),
    )


def _once(runs: Iterable[Run]) -> Iterable[Run]:
    """Each run once. Of one that was stopped and one that was not, both: reports look at those that were played to their end."""
    known: dict[tuple[str, int, int, bool], Run] = {}
    for run in runs:
        key = (run.policy, run.seed, run.gpus, run.finished)
        if key not in known:
            known[key] = run
            yield run
        elif run.finished and _played(known[key]) != _played(run):
            raise Refused(
                f"{run.policy}, seed {run.seed}, on {plural(run.gpus, 'GPU')} stands in these results twice, with other figures: they are not of "
                "one study; report them apart"
            )


def _figures(result: Result) -> Result:
    return replace(result, runs=tuple(map(_played, result.runs)))


def _played(run: Run) -> Run:
    """A run without what differs whenever it is made."""
    return replace(run, scheduler=_NO_EFFORT)
