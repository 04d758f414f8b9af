"""simulate, report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from gpumax.apps.cli.output import clean, say
from gpumax.apps.cli.study_files import FORMATS, Named, keep, prepare, show, stoppable
from gpumax.errors import Refused
from gpumax.words import plural

if TYPE_CHECKING:
    from gpumax.model.node import Node
    from gpumax.model.study import Result, Scenario

Value = TypeVar("Value")

_PATH = Named(path_type=Path)
_SEEDS = click.IntRange(0, (1 << 32) - 1)


class _Scales(click.FloatRange):
    """Numbers in a range; nan, of which no comparison holds, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value} is not a number", param, ctx)
        return number


_SCALES = _Scales(0.001, 1000)


def _policies(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from gpumax.formats.scenario import POLICIES

    names = dict.fromkeys(name for names in POLICIES.values() for name in names)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("scenario", type=_PATH)
@click.option("--out", type=_PATH, metavar="DIR", help="Write result.json and report.html into it.")
@click.option("--plots", type=_PATH, metavar="DIR", help="Write each picture of the report into it.")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME", shell_complete=_policies,
    help="Instead of the scenario's policies; repeatable.",
)  # fmt: skip
@click.option(
    "--seed", "seeds", multiple=True, type=_SEEDS, metavar="N", help="Instead of its seeds; repeatable."
)
@click.option(
    "--scale", "scales", multiple=True, type=_SCALES, metavar="X",
    help="On such a part of the nodes and quotas, like 0.5; repeatable.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, metavar="N", help="Runs side by side.")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="table", help="How to print it; unset: table."
)
@click.option(
    "--on-bad-row", type=click.Choice(("skip", "stop")),
    help="What to do with a row of a trace that can't be used; unset: what the scenario says.",
)  # fmt: skip
@click.pass_context
def simulate(
    context: click.Context,
    scenario: Path,
    out: Path | None,
    plots: Path | None,
    policies: tuple[str, ...],
    seeds: tuple[int, ...],
    scales: tuple[float, ...],
    jobs: int,
    format_: str,
    on_bad_row: str | None,
) -> None:
    """Play a scenario under several policies, and compare them.

    SCENARIO names a cluster, its queues and a trace of work; `gpumax schema scenario` describes it. Ctrl-C, or
    SIGTERM, keeps the runs that are done. The same seed gives the same figures to the last digit, whatever --jobs.
    """
    # Late, because the command line must start without NumPy.
    from gpumax.apps.cli.progress import shown
    from gpumax.study.load import load_scenario
    from gpumax.study.run import WHOLE, run_study, turns

    prepare(out, plots)
    policies, seeds = _once("--policy", policies), _once("--seed", seeds)
    scales = _once("--scale", scales)
    found = _chosen(load_scenario(scenario, on_bad_row=on_bad_row), policies, seeds)  # type: ignore[arg-type]
    _tell_bad(found)
    options = [
        *(word for name in policies for word in ("--policy", name)),
        *(word for seed in seeds for word in ("--seed", str(seed))),
        *(word for scale in scales for word in ("--scale", f"{scale:g}")),
        *(("--on-bad-row", on_bad_row) if on_bad_row else ()),
    ]
    command = shlex.join(["gpumax", "simulate", str(scenario), *options])
    # As it is written: 0.1 is a tenth, not its binary neighbour.
    parts = tuple(Fraction(repr(scale)) for scale in scales) or (WHOLE,)
    _check_sizes(found, parts)
    with stoppable(), shown(turns(found, parts)) as watch:
        result = run_study(found, scales=parts, jobs=jobs, watch=watch, command=command)
    _finish(context, result, out, plots, format_)


@click.command()
@click.argument("results", nargs=-1, required=True, type=_PATH, metavar="RESULT...")
@click.option("--out", type=_PATH, metavar="DIR", help="Write result.json and report.html into it.")
@click.option("--plots", type=_PATH, metavar="DIR", help="Write each picture of the report into it.")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="table", help="How to print it; unset: table."
)
def report(results: tuple[Path, ...], out: Path | None, plots: Path | None, format_: str) -> None:
    """Draw results that `gpumax simulate --out` wrote; several make one report.

    Results of the same work on clusters of several sizes show how many GPUs each policy needs at equal wait.
    """
    from gpumax.formats.result import load_result
    from gpumax.study.merge import merged

    each = [load_result(path / "result.json" if path.is_dir() else path) for path in results]
    found = merged(each)
    if twice := sum(len(result.runs) for result in each) - len(found.runs):
        verbs = (
            "stands in several of the results; it" if twice == 1 else "stand in several of the results; each"
        )
        say(f"{plural(twice, 'run')} {verbs} counts once")
    prepare(out, plots)
    show(found, format_)
    keep(found, out, plots)


def _once(option: str, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Each value once; what was named again is told."""
    for value, times in Counter(values).items():
        if times > 1:
            named = f"{value:g}" if isinstance(value, float) else clean(str(value))
            often = "twice" if times == 2 else f"{times} times"
            say(f"{option} {named} is named {often}; it is played once")
    return tuple(dict.fromkeys(values))


def _check_sizes(scenario: Scenario, parts: tuple[Fraction, ...]) -> None:
    """Refused where a part is no node, or makes a cluster of the same size as another: reports would take them for one."""
    from gpumax.study.scale import scaled

    def gpus(nodes: Iterable[Node]) -> int:
        return sum(len(node.devices) for node in nodes)

    first: dict[int, Fraction] = {}
    for part in parts:
        size = gpus(scaled(scenario, part).nodes)
        if (before := first.setdefault(size, part)) != part:
            raise Refused(
                f"--scale {float(before):g} and {float(part):g} both make {size:,} of {plural(gpus(scenario.nodes), 'GPU')}; name one of them"
            )


def _chosen(scenario: Scenario, policies: tuple[str, ...], seeds: tuple[int, ...]) -> Scenario:
    """The scenario with other policies and seeds, where some are named."""
    import msgspec

    from gpumax.formats.scenario import POLICIES

    known = POLICIES[scenario.protocol]
    for name in policies:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(
                f"{scenario.protocol} knows no policy {clean(name)!r}, but {', '.join(known)}{hint}"
            )
    return msgspec.structs.replace(
        scenario,
        policies=tuple(dict.fromkeys(policies)) or scenario.policies,
        seeds=tuple(dict.fromkeys(seeds)) or scenario.seeds,
    )


def _tell_bad(scenario: Scenario) -> None:
    if count := scenario.bad_rows:
        rows = "1 row is" if count == 1 else f"{count:,} rows are"
        say(f"{rows} left out (--on-bad-row stop stops there)")
        for bad in scenario.bad[:3]:
            column = f", {bad.column}" if bad.column else ""
            say(clean(f"  row {bad.row}{column}: found {bad.found}; wanted {bad.wanted}"))


def _finish(
    context: click.Context, result: Result, out: Path | None, plots: Path | None, format_: str
) -> None:
    """Show and keep what was done, and say what wasn't."""
    if result.runs:
        show(result, format_)
        keep(result, out, plots)
    for failed in result.failed:
        say(clean(f"{failed.policy}, seed {failed.seed}, broke: {failed.error}"))
    if result.unfinished:
        kept = "what is done was kept" if result.runs else "nothing was done, nothing was written"
        say(f"stopped with {plural(result.unfinished, 'run')} missing; {kept}")
        context.exit(130)
    if result.failed:
        context.exit(1)
