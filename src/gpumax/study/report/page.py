"""The report as one HTML file that needs nothing else: no script, no network, no font of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gpumax.model.study import Result, Run
from gpumax.study.report.figures import Column, again, glance, tables
from gpumax.study.report.groups import Group, groups
from gpumax.study.report.headline import headline
from gpumax.study.report.picture import NARROW, WIDE, Picture, colors
from gpumax.study.report.pictures import pictures
from gpumax.study.report.queues import hours
from gpumax.study.report.style import PAGE, drawing
from gpumax.study.report.svg import clean
from gpumax.study.report.words import count, duration, listed
from gpumax.words import plural

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is fetched and nothing runs, whatever a name in a trace says."""

_LONGEST_NAME: Final = 24
"""Characters of a name that fits a line of a phone."""

_MOST_RUNS: Final = 14
"""Runs whose figures are shown at once; of more, the means of each policy are, and the runs are a click away."""


def page(result: Result) -> str:
    """The HTML text. Equal results give equal text."""
    found = groups(result)
    title = headline(result, found)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="generator" content="gpumax {clean(result.gpumax)}">',
        f"<title>{clean(result.scenario)}: {clean(title)}</title>",
        f"<style>{PAGE}{drawing(None)}</style>\n</head>\n<body>\n<main>",
        f'<header><p class="kind">{_kind(result, found)}</p><h1>{_whole(title, found)}</h1></header>',
        *_missing(result),
        *_care(found),
        *_glance(result, found),
        *(_figure(picture, found) for picture in pictures(found)),
        *_tables(result, found),
        *_queues(found),
        *_assumed(result),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _kind(result: Result, found: Sequence[Group]) -> str:
    words = [f"Study <strong>{clean(result.scenario)}</strong>"]
    if found:
        run = found[0].mean
        words.append(plural(run.arrived.workloads, "workload"))
        sizes = sorted({group.mean.gpus for group in found})
        words.append(f"{listed([count(size) for size in sizes])} GPU{'' if sizes == [1] else 's'}")
        if run.window_s and result.protocol == "replay":
            words.append(f"a window of {duration(run.window_s)}")
    seeds = sorted({run.seed for run in result.runs})
    if len(seeds) > 1:
        words.append(f"{len(seeds)} seeds")
    return ", ".join(words)


def _whole(text: str, found: Sequence[Group]) -> str:
    """A title in which no line ends inside the name of a policy."""
    names = sorted(
        {clean(group.policy) for group in found if len(group.policy) <= _LONGEST_NAME}, key=len, reverse=True
    )
    whole = "|".join((*map(re.escape, names), r"\b[0-9,.]+ (?:%|GPUs)"))
    return re.sub(whole, r'<span class="n">\g<0></span>', clean(text))


def _missing(result: Result) -> Iterator[str]:
    """What a reader must know before all else."""
    rows = [f"{clean(f'{run.policy}, seed {run.seed}')} broke: {clean(run.error)}" for run in result.failed]
    if result.unfinished:
        verb = "is" if result.unfinished == 1 else "are"
        rows.append(
            f"The study was stopped: {plural(result.unfinished, 'run')} {verb} missing or not played to the end."
        )
    if rows:
        yield f'<section class="warn"><h2>Not all of it was made</h2>{_list(rows)}</section>'


def _care(found: Sequence[Group]) -> Iterator[str]:
    """What would mislead who reads the figures alone."""
    rows: list[str] = []
    for group in found:
        run, name = group.mean, clean(group.label)
        if run.arrived.never:
            rows.append(
                f"Under {name} {plural(run.arrived.never, 'workload')} never had a cluster large enough; no wait of theirs is counted."
            )
        if run.stuck:
            rows.append(
                f"Under {name} {plural(run.stuck, 'workload')} had not ended when nothing could happen any more."
            )
        if run.rule_breaks:
            rows.append(
                f"{plural(run.rule_breaks, 'decision')} of {name} broke a rule of the policy: this is a fault of gpumax, please report it."
            )
    if rows:
        yield f'<section class="warn"><h2>Read with care</h2>{_list(rows)}</section>'


def _glance(result: Result, found: Sequence[Group]) -> Iterator[str]:
    if found:
        palette = colors(found)
        rows = [(group.label, group.mean, palette[group.policy]) for group in found]
        note = "Means of all seeds. " if any(len(group.runs) > 1 for group in found) else ""
        if result.protocol == "replay":
            repeated = again(found)
            note += "At work: what was asked for and ran, as a part of all GPUs."
            note += f" {repeated[0].upper()}{repeated[1:]}." if repeated else ""
        body = _table(glance(result), rows, note)
        yield f'<section class="whole"><h2>At a glance</h2>{body}</section>'


def _figure(picture: Picture, found: Sequence[Group]) -> str:
    wide = picture.draw(WIDE).inline(f"{picture.name}-w", "wide", picture.finding, picture.about)
    narrow = picture.draw(NARROW).inline(f"{picture.name}-n", "narrow", picture.finding, picture.about)
    caption = f'<figcaption><h2>{_whole(picture.finding, found)}</h2><p class="note">{clean(picture.lead)}</p></figcaption>'
    return f'<figure id="{picture.name}">{caption}{wide}{narrow}</figure>'


def _tables(result: Result, found: Sequence[Group]) -> Iterator[str]:
    if not result.runs:
        return
    each = [(_run_name(result, run), run, None) for run in result.runs]
    means = [(group.label, group.mean, None) for group in found]
    many = len(each) > _MOST_RUNS
    yield "<section><h2>All figures</h2>"
    for table in tables(result):
        yield f"<h3>{clean(table.title)}</h3>{_table(table.columns, means if many else each, table.about)}"
    if many:
        yield f"<details><summary>Each of the {plural(len(each), 'run')}</summary>"
        for table in tables(result):
            yield f"<h3>{clean(table.title)}</h3>{_table(table.columns, each, table.about)}"
        yield "</details>"
    yield "</section>"


def _run_name(result: Result, run: Run) -> str:
    several = len({run.seed for run in result.runs}) > 1
    sizes = len({run.gpus for run in result.runs}) > 1
    words = [run.policy, plural(run.gpus, "GPU") if sizes else "", f"seed {run.seed}" if several else ""]
    return ", ".join(filter(None, words)) + ("" if run.finished else " (stopped)")


def _table(columns: Sequence[Column], rows: Iterable[tuple[str, Run, int | None]], about: str) -> str:
    """A row a run; on a phone, a card a run."""
    heads = "".join(f'<th scope="col">{clean(column.title)}</th>' for column in columns)
    body = []
    for name, run, color in rows:
        cells = "".join(_cell(column, run, color) for column in columns)
        body.append(f'<tr><th scope="row">{clean(name)}</th>{cells}</tr>')
    caption = f"<caption>{clean(about)}</caption>" if about else ""
    return (
        f'<table class="cards">{caption}<thead><tr><th scope="col">policy</th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _cell(column: Column, run: Run, color: int | None) -> str:
    bar = ""
    if column.part is not None and color is not None:
        part = min(max(column.part(run), 0.0), 1.0)
        bar = f'<span class="bar"><i style="width:{part * 100:.1f}%;background:var(--c{color})"></i></span>'
    return f'<td data-name="{clean(column.title)}">{clean(column.value(run))}{bar}</td>'


def _queues(found: Sequence[Group]) -> Iterator[str]:
    """Every queue under every policy, a click away each."""
    shown = [group for group in found if group.mean.queues and hours(group.mean) > 0]
    if shown:
        yield (
            '<section><h2>All queues</h2><p class="note">Quota, demand and use in GPUs, on average over the window; waits until 99 % of the '
            "queue’s workloads had room.</p>"
        )
        for number, group in enumerate(shown):
            yield f"<details{' open' if number == 0 else ''}><summary>{clean(group.label)}</summary>{_queue_table(group.mean)}</details>"
        yield "</section>"


def _queue_table(run: Run) -> str:
    names = ("quota", "asked for", "used", "workloads", "mean wait", "99 % wait at most", "evicted")
    whole = hours(run)
    body = []
    for queue in sorted(run.queues, key=lambda queue: (-queue.demand, queue.name)):
        figures = (
            count(queue.quota), f"{queue.demand / whole:,.1f}", f"{queue.served / whole:,.1f}", count(queue.workloads),
            duration(queue.wait_mean_s), duration(queue.wait_p99_s), count(queue.evictions),
        )  # fmt: skip
        cells = "".join(
            f'<td data-name="{name}">{figure}</td>' for name, figure in zip(names, figures, strict=True)
        )
        body.append(f'<tr><th scope="row">{clean(queue.name) or "(no queue)"}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<table class="cards"><thead><tr><th scope="col">queue</th>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _assumed(result: Result) -> Iterator[str]:
    if result.caveats:
        yield f"<section><h2>What is assumed</h2>{_list(map(clean, result.caveats))}</section>"
    if result.bad:
        more = (
            f", the first {count(len(result.bad))} of {count(result.bad_rows)}"
            if result.bad_rows > len(result.bad)
            else ""
        )
        rows = [
            f"row {bad.row}{f', column <code>{clean(bad.column)}</code>' if bad.column else ''}: found {clean(bad.found)}; wanted {clean(bad.wanted)}"
            for bad in result.bad
        ]
        yield f"<section><h2>Rows that were left out{more}</h2>{_list(rows)}</section>"
    seeds = sorted({run.seed for run in result.runs})
    said = f" Seeds: {listed([str(seed) for seed in seeds])}." if seeds else ""
    line = f"<pre><code>{clean(result.command)}</code></pre>" if result.command else ""
    again = (
        "The same line gives the same figures to the last digit, but for the time that deciding took."
        if line
        else ""
    )
    yield f"<section><h2>How it was made</h2><p>With gpumax {clean(result.gpumax) or 'of an unknown version'}.{said} {again}</p>{line}</section>"


def _list(rows: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{row}</li>" for row in rows) + "</ul>"
