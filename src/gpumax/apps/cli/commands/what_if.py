"""what-if."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from gpumax.apps.cli.output import Column, Item, clean, emit_document, number, say, table
from gpumax.apps.cli.patient import Patient
from gpumax.apps.cli.study_files import Named, stoppable
from gpumax.words import plural

if TYPE_CHECKING:
    from gpumax.model.whatif import Difference, Found, Pair, Try
    from gpumax.study.whatif.question import Question

# As in formats.scenario, which is too much to import for a --help.
POLICIES: Final = ("static-fifo", "static-backfill", "hard-quota", "kubernetes-default", "gpumax", "gpumax-fractions")  # fmt: skip


def _policies(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in POLICIES if name.startswith(incomplete)]


@click.command("what-if")
@click.option(
    "--from",
    "source",
    required=True,
    type=Named(path_type=Path),
    metavar="JOURNAL|SCENARIO",
    help="The work: a scenario file, a journal, or a server's data directory.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting as it would be: queue.NAME.FIELD, policy.FIELD, checkpoint.every, checkpoint.restart, start or grace; repeatable.",
)
@click.option(
    "--add-nodes",
    "added",
    multiple=True,
    metavar="COUNTxMODEL:GPUS",
    help="More nodes, as 4xH100:8 or 4xH100:8:80Gi; 4x8 for nodes like those that are there; repeatable.",
)
@click.option(
    "--remove-nodes", "removed", multiple=True, metavar="COUNTxMODEL[:GPUS]", help="Fewer nodes; repeatable."
)
@click.option(
    "--find",
    "goal",
    metavar="GOAL",
    help='Search instead of comparing: "smallest cluster with p99 wait < 2.5 h"; mean, p50, p90, p99 or max, of wait or completion.',
)
@click.option(
    "--scale-quotas/--keep-quotas",
    default=True,
    help="Whether --find scales quotas and limits with the GPUs; unset: it does.",
)
@click.option(
    "--policy",
    default="gpumax",
    metavar="NAME",
    shell_complete=_policies,
    help="Who schedules; unset: gpumax.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 32) - 1),
    metavar="N",
    help="Of failures and fractions; unset: the scenario's first.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    metavar="N",
    help="From 2 on both sides of a comparison are played at once.",
)
@click.option(
    "-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table", metavar="FORMAT",
    help="How to print it: table, json or yaml.",
)  # fmt: skip
@click.pass_context
def what_if(
    context: click.Context, source: Path, settings: tuple[str, ...], added: tuple[str, ...], removed: tuple[str, ...], goal: str | None,
    scale_quotas: bool, policy: str, seed: int | None, jobs: int, output: str,
) -> None:  # fmt: skip
    """Play the same work as it was and as it would be, and say the difference, queue by queue.

    With --find: search the smallest cluster of the same make that meets a goal. Nothing of a running server is touched.

    \b
      gpumax what-if --from study.yaml --set queue.research.quota.gpu=16 --add-nodes 4xH100:8
      gpumax what-if --from study.yaml --find "smallest cluster with p99 wait < 2.5 h"
    """
    if not (settings or added or removed or goal is not None):
        raise click.UsageError("nothing is asked; wanted --set, --add-nodes, --remove-nodes or --find")
    if goal is not None and jobs > 1:
        raise click.UsageError(
            "--jobs is for comparing: which cluster a search tries depends on the one before"
        )
    # Late, because the command line must start without NumPy.
    import msgspec

    from gpumax.model.whatif import Found
    from gpumax.study.whatif import Wish, ask, compare, find

    question = ask(source, Wish(settings, added, removed, goal, policy, seed, scale_quotas))
    _tell_bad(question)
    tries: list[Try] = []
    try:
        with stoppable(), Patient() as patient:
            if goal is None:
                found: Difference | Found = compare(question, patient, jobs=jobs)
            else:
                found = find(question, patient, _teller(patient, tries))
    except KeyboardInterrupt:
        say(_stopped(tries, searching=goal is not None))
        context.exit(130)
    if output != "table":
        emit_document(msgspec.to_builtins(found), output)
        return
    click.echo("\n".join(map(clean, found.finding)) + "\n")
    click.echo(_tries(found) if isinstance(found, Found) else _difference(found))
    _tell_what(found)


def _tell_bad(question: Question) -> None:
    if count := question.before.bad_rows:
        rows, them = ("1 row was", "it") if count == 1 else (f"{count:,} rows were", "them")
        say(f"{rows} left out of the work, because something in {them} can't be used")


def _stopped(tries: Sequence[Try], *, searching: bool) -> str:
    """What is left of a question that somebody's Ctrl-C left open."""
    if not searching:
        return "stopped; nothing is kept: a comparison needs both sides, and writes nothing"
    if not tries:
        return "stopped; nothing is kept: no cluster was played to its end"
    met = [made.nodes for made in tries if made.met]
    answer = (
        f"{plural(min(met), 'node')} meet{'s' * (min(met) == 1)} the goal; whether fewer do isn't known"
        if met
        else "none of them meets the goal"
    )
    return f"stopped after {plural(len(tries), 'cluster')}, told above: {answer}"


def _teller(patient: Patient, tries: list[Try]) -> Callable[[Try], None]:
    """Says what came of each cluster, as soon as it is known."""
    from gpumax.study.whatif.words import value

    def tell(made: Try) -> None:
        tries.append(made)
        patient.clear()
        never = f", {plural(made.never, 'workload')} could never run" if made.never else ""
        met = "met" if made.met else "not met"
        say(f"{plural(made.nodes, 'node')}, {plural(made.gpus, 'GPU')}: {value(made)}{never}: {met}")

    return tell


def _tell_what(found: Difference | Found) -> None:
    """What was changed, and what is assumed."""
    for title, sentences in (("changed", found.changes), ("assumed", found.assumed)):
        if sentences:
            say(f"\n{title}:")
        for sentence in sentences:
            say(clean(f"- {sentence}"))


def _difference(found: Difference) -> str:
    """A line a queue, and one for all of them."""
    rows: list[Item] = [{"name": row.name, "row": row} for row in found.queues]
    columns = (
        Column("QUEUE", lambda item: str(item["name"])),
        Column("QUOTA", lambda item: _plain(item, "quota")),
        Column(
            "MEAN WAIT", lambda item: _wait(item, "wait_mean_s"), hue=lambda item: _hue(item, "wait_mean_s")
        ),
        Column("P99 WAIT", lambda item: _wait(item, "wait_p99_s"), hue=lambda item: _hue(item, "wait_p99_s")),
        Column("GPU HOURS", lambda item: _plain(item, "served")),
        Column(
            "EVICTIONS",
            lambda item: _judged(item, "evictions", _count),
            hue=lambda item: _hue(item, "evictions"),
        ),
    )
    return table([*rows, {"name": "all", "row": found}], columns)


def _plain(item: Item, field: str) -> str:
    pair = getattr(item["row"], field, None)
    return "" if pair is None else _both(pair, _count)


def _wait(item: Item, field: str) -> str:
    from gpumax.study.whatif.words import duration

    return _judged(item, field, duration)


def _judged(item: Item, field: str, text: Callable[[float], str]) -> str:
    from gpumax.study.whatif.words import comparable

    pair: Pair = getattr(item["row"], field)
    word = _word(pair, text) if comparable(item["row"]) else ""
    return f"{_both(pair, text)}{' ' if word else ''}{word}"


def _word(pair: Pair, text: Callable[[float], str]) -> str:
    """Less is better; what reads the same is the same."""
    if text(pair.before) == text(pair.after):
        return ""
    return "better" if pair.after < pair.before else "worse"


def _hue(item: Item, field: str) -> str:
    from gpumax.study.whatif.words import comparable

    if not comparable(item["row"]):
        return ""
    pair: Pair = getattr(item["row"], field)
    return "green" if pair.after < pair.before else "red" if pair.after > pair.before else ""


def _both(pair: Pair, text: Callable[[float], str]) -> str:
    before, after = text(pair.before), text(pair.after)
    return before if before == after else f"{before} -> {after}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else number(round(value, 2))


def _tries(found: Found) -> str:
    """A line a cluster, by size."""
    from gpumax.study.whatif.words import value

    figure = found.goal.partition(" <")[0].upper()
    columns = (
        Column("NODES", lambda item: f"{item['row'].nodes:,}"),
        Column("GPUS", lambda item: f"{item['row'].gpus:,}"),
        Column(figure, lambda item: value(item["row"])),
        Column("CAN'T RUN", lambda item: _count(item["row"].never)),
        Column("GOAL", lambda item: "met" if item["row"].met else "not met"),
    )
    return table([{"row": row} for row in found.tries], columns)
