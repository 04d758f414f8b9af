"""Several results as one, so that one report shows clusters of several sizes."""

from __future__ import annotations

from collections.abc import Sequence

from gpumax.errors import Refused
from gpumax.model.study import Result


def merged(results: Sequence[Result]) -> Result:
    """Their runs one after the other. Refused where they were played by different protocols."""
    first = results[0]
    if any(result.protocol != first.protocol for result in results):
        raise Refused("results of replay and of inflate don't go into one report; name them apart")
    if len(results) == 1:
        return first
    return Result(
        scenario=" + ".join(dict.fromkeys(result.scenario for result in results)),
        runs=tuple(run for result in results for run in result.runs),
        gpumax=" + ".join(dict.fromkeys(result.gpumax for result in results)),
        bad_rows=sum(result.bad_rows for result in results),
        bad=tuple(bad for result in results for bad in result.bad),
        caveats=tuple(dict.fromkeys(caveat for result in results for caveat in result.caveats)),
        command="\n".join(dict.fromkeys(result.command for result in results if result.command)),
        protocol=first.protocol,
        failed=tuple(failed for result in results for failed in result.failed),
        unfinished=sum(result.unfinished for result in results),
    )
