"""What was found, in a sentence or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpumax.model.whatif import Difference, Found, Pair, QueueDifference, Try
from gpumax.study.report import words
from gpumax.study.report.words import count, listed
from gpumax.words import plural

LEAST_S = 1.0
"""Waits that differ by less are told as equal."""
_NAMED = 2


def difference_in_words(found: Difference) -> Iterator[str]:
    """Who waits less or longer, and what all together gain or lose."""
    pairs = [
        found.wait_mean_s,
        found.wait_p99_s,
        found.completion_mean_s,
        found.use,
        found.evictions,
        found.makespan_s,
        found.never,
    ]
    rows = [pair for row in found.queues for pair in (row.wait_mean_s, row.wait_p99_s, row.served, row.evictions)]  # fmt: skip
    if all(pair.before == pair.after for pair in (*pairs, *rows)):
        yield "It makes no difference: every wait, all use and all evictions are the same."
        return
    # First, because waits of less work are no shorter waits.
    for pair, what in ((found.never, "can never run there"), (found.stuck, "never end there")):
        if pair.before != pair.after:
            yield f"{plural(int(pair.after), 'workload')} {what}, {count(pair.before)} as it is: waits of different work are not compared."
    yield _who([row for row in found.queues if comparable(row)])
    yield _together(found)
    if breaks := int(found.rule_breaks.before + found.rule_breaks.after):
        yield f"{plural(breaks, 'decision')} broke a rule of the policy, which is a fault of gpumax: please report it."


def comparable(row: QueueDifference | Difference) -> bool:
    """Whether the same work ran on both sides."""
    if isinstance(row, Difference):
        return _change(row.never) == 0 and _change(row.stuck) == 0
    return _change(row.workloads) == 0


def _who(queues: Sequence[QueueDifference]) -> str:
    ordered = sorted(queues, key=lambda row: (row.wait_mean_s.after - row.wait_mean_s.before, row.name))
    less = [row for row in ordered if _change(row.wait_mean_s) <= -LEAST_S]
    longer = [row for row in reversed(ordered) if _change(row.wait_mean_s) >= LEAST_S]
    if not less and not longer:
        return "No queue with the same work on both sides has another mean wait."
    parts = [_queue(row, "less") for row in less[:_NAMED]] + [
        _queue(row, "longer") for row in longer[:_NAMED]
    ]
    rest = [
        f"{count(len(rows) - _NAMED)} more {'waits' if len(rows) == _NAMED + 1 else 'wait'} {word}"
        for rows, word in ((less, "less"), (longer, "longer"))
        if len(rows) > _NAMED
    ]
    nobody = "" if longer else "; no queue waits longer"
    return f"On average {listed([*parts, *rest])}{nobody}."


def _queue(row: QueueDifference, word: str) -> str:
    return f"{row.name} waits {duration(abs(_change(row.wait_mean_s)))} {word} ({_pair_s(row.wait_mean_s)})"


def _together(found: Difference) -> str:
    evictions = (
        f"{plural(int(found.evictions.after), 'eviction')} as before"
        if not _change(found.evictions)
        else f"{plural(int(found.evictions.after), 'eviction')} instead of {count(found.evictions.before)}"
    )
    return (
        f"All together: mean wait {_pair_s(found.wait_mean_s)}, p99 wait {_pair_s(found.wait_p99_s)}, "
        f"{percent(found.use.after)} of {plural(int(found.gpus.after), 'GPU')} at work "
        f"({percent(found.use.before)} of {count(found.gpus.before)}), {evictions}."
    )


def _change(pair: Pair) -> float:
    return pair.after - pair.before


def _pair_s(pair: Pair) -> str:
    before, after = duration(pair.before), duration(pair.after)
    return f"{before}, as before" if before == after else f"{before} -> {after}"


def found_in_words(found: Found, figure: str, *, hopeless: bool) -> Iterator[str]:
    """The answer, its neighbours, and what it rests on."""
    largest = found.tries[-1]
    if found.nodes is None:
        why = (
            "nobody waits there, so a larger one gives nothing more"
            if hopeless
            else "larger ones were not tried"
        )
        yield f"No cluster of up to {_size(largest)} has {found.goal}: there, {_told(largest, figure)}; {why}."
        return
    by_nodes = {row.nodes: row for row in found.tries}
    answer = by_nodes[found.nodes]
    yield f"The smallest cluster with {found.goal} has {_size(answer)}: {_told(answer, figure)}."
    near = [by_nodes[number] for number in (found.nodes - 1, found.nodes + 1) if number in by_nodes]
    if near:
        yield f"Next to it: {'; '.join(f'with {_size(row)} {_told(row, figure)}' for row in near)}."
    worse = [row for row in found.tries if row.nodes > found.nodes and not row.met]
    if worse:
        names = listed([count(row.nodes) for row in worse])
        yield f"Larger is not always better here: {names} nodes don't meet the goal, so smaller clusters that were not tried may."
    elif found.nodes > 1:
        played = sum(row.nodes < found.nodes for row in found.tries)
        yield (
            "Found by bisection, which holds where a larger cluster does no worse; "
            f"{count(played)} of {plural(found.nodes - 1, 'smaller size')} {'was' if played == 1 else 'were'} played."
        )
    if found.scaled_quotas:
        yield "Quotas and limits were scaled with the GPUs."


def _size(row: Try) -> str:
    return f"{plural(row.nodes, 'node')} ({plural(row.gpus, 'GPU')})"


def _told(row: Try, figure: str) -> str:
    never = f", and {plural(row.never, 'workload')} could never run" if row.never else ""
    stuck = f", and {plural(row.stuck, 'workload')} never ended" if row.stuck else ""
    return f"{figure} {value(row)}{never}{stuck}"


def value(row: Try) -> str:
    """What a goal is about, on a cluster that was tried."""
    return f"{'at least ' if row.at_least else ''}{duration(row.value_s)}"


def duration(seconds: float) -> str:
    """As in reports; a terminal needs no spaces that hold together."""
    return words.duration(seconds).replace("\u00a0", " ")


def percent(part: float) -> str:
    """As in reports."""
    return words.percent(part).replace("\u00a0", " ")
